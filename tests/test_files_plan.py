"""`plan` and `info` tell of the very search: its screens, its blocks, its disk, its time."""

from __future__ import annotations

import gzip
import json
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from janelia_core import cli
from janelia_core.files import (
    VectorFileError,
    info_file,
    open_vectors,
    outlook,
    plan_files,
    save_vectors,
    search_files,
    steps,
)
from janelia_core.files.formats.contract import VectorFile
from janelia_core.files.journal import Journal
from janelia_core.ml._knn import meanwhile, trial
from janelia_core.ml._knn.data.centres import Centres


def flat(n: int, d: int) -> torch.Tensor:
    """Return points near a volume of three dimensions."""
    return points(n, 3) @ torch.randn(3, d, generator=torch.Generator().manual_seed(0)) + points(n + 1, d)[1:] * 0.01


def run(*arguments: object) -> int:
    return cli.main([str(argument) for argument in arguments])


def points(n: int, d: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    values = torch.randn(n, d, generator=torch.Generator().manual_seed(n))
    return (values * 50 + 128).clamp(0, 255).to(dtype) if dtype == torch.uint8 else values.to(dtype)


def clustered(n: int, d: int) -> torch.Tensor:
    g = torch.Generator().manual_seed(0)
    middles = torch.randn(40, d, generator=g) * 20
    return middles[torch.arange(n) % 40] + torch.randn(n, d, generator=g) * 0.1


CASES: dict[str, tuple[torch.Tensor, torch.Tensor | None, dict[str, object]]] = {
    "few dimensions": (points(20_000, 3), points(3000, 3), {}),
    "few dimensions by angle": (points(20_000, 3), points(3000, 3), {"metric": "cosine"}),
    "among themselves": (points(3000, 3), None, {}),
    "many dimensions": (points(4000, 100), points(1000, 100), {}),
    "clusters": (clustered(8000, 24), clustered(1000, 24), {}),
    "an infinite centre": (torch.cat([points(5000, 3), torch.full((1, 3), torch.inf)]), points(600, 3), {}),
    "leading directions": (flat(20_000, 50), flat(3000, 50), {}),
    "magnitudes": (points(6000, 20), points(900, 20), {"metric": "manhattan"}),
    "one dimension": (points(20_000, 1), points(3000, 1), {}),
    "pixels": (points(3000, 784, torch.uint8), points(400, 784, torch.uint8), {}),
    "few centres": (points(20, 8), points(20_000, 8), {}),
    "few rows": (points(9000, 30), points(5, 30), {}),
    "all centres": (points(300, 5), points(50, 5), {"k": 300}),
    "many blocks": (points(8000, 30), points(300, 30), {"max_memory": "1MiB"}),
    "centres at a time": (points(5000, 20), points(800, 20), {"m": 100, "metric": "dot"}),
    "rounded": (points(5000, 8), points(800, 8), {"dtype": "float64", "ctr_rows": (7, None), "rows": (None, 700)}),
    "places": (points(9000, 2).clamp(-1.5, 1.5), points(800, 2).clamp(-1.5, 1.5), {"metric": "haversine"}),
}


@pytest.mark.parametrize("case", CASES)
def test_the_screens_of_a_plan_are_those_that_the_search_reports(case: str, tmp_path: Path) -> None:
    centres, queries, asked = CASES[case]
    save_vectors(tmp_path / "c.npy", centres)
    inputs = [tmp_path / "c.npy"]
    if queries is not None:
        save_vectors(tmp_path / "q.npy", queries)
        inputs.append(tmp_path / "q.npy")
    asked = {"k": 10, "out": tmp_path / "o.npz", **asked}
    plan, report = plan_files(*inputs, **asked), search_files(*inputs, **asked)
    assert plan.screens == report.screens
    assert plan.layout == report.layout
    assert f"runs, as a sample tells: {', '.join(report.screens)}" in str(plan)
    assert plan.facts()["screens"] == report.screens
    assert plan.facts()["bytes_planned"] == report.bytes_read


def test_info_plans_the_search_of_its_own_memory(tmp_path: Path) -> None:
    save_vectors(tmp_path / "c.npy", points(6000, 30))
    told = {size: info_file(tmp_path / "c.npy", max_memory=size) for size in ("1MiB", "256MiB")}
    for size, info in told.items():
        assert info.screen in plan_files(tmp_path / "c.npy", k=10, max_memory=size).screens
        assert info.search["n_smps"] == info.search["n_ctrs"] == 6000
    assert told["1MiB"].screen != told["256MiB"].screen
    assert told["1MiB"].search["steps"] > 1 == told["256MiB"].search["steps"]


def test_info_plans_the_search_that_it_is_asked_for(tmp_path: Path) -> None:
    save_vectors(tmp_path / "c.npy", points(500, 4))
    save_vectors(tmp_path / "q.npy", points(60, 4))
    info = info_file(tmp_path / "c.npy", tmp_path / "q.npy", k=3, metric="dot", rows=(0, 50), out=tmp_path / "o.ibin")
    assert info.shape == (500, 4)
    facts = info.search
    assert (facts["n_smps"], facts["n_ctrs"], facts["k"], facts["metric"]) == (50, 500, 3, "dot")
    assert info.seconds == facts["seconds"] > 0


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        ({"k": 6}, "k must be at most the number of other centres = 5, got 6"),
        ({"max_memory": "1KiB", "k": 2}, "max_memory must be at least"),
        ({"metric": "haversine", "k": 2}, "must have 2 columns"),
        ({"queries": "none.npy", "k": 2}, "there is no such file"),
        ({"rows": (3, 9), "k": 2}, "rows must lie within the 6 rows"),
    ],
)
def test_info_of_an_impossible_search_tells_of_the_file_and_why(
    asked: dict[str, object], reason: str, tmp_path: Path
) -> None:
    save_vectors(tmp_path / "c.npy", points(6, 3))
    info = info_file(tmp_path / "c.npy", **asked)
    assert (info.shape, info.screen, info.search) == ((6, 3), "", {})
    assert reason in info.told
    assert f"no such search: {info.told}" in str(info)
    with pytest.raises((ValueError, OSError)):
        plan_files(tmp_path / "c.npy", **asked)


def test_the_format_of_info_may_still_be_its_second_argument(tmp_path: Path) -> None:
    save_vectors(tmp_path / "c.dat", points(20, 3), "fbin")
    assert info_file(tmp_path / "c.dat", "fbin").shape == info_file(tmp_path / "c.dat", format="fbin").shape == (20, 3)


def test_info_tells_range_broken_rows_and_duplicates(tmp_path: Path, capsys) -> None:
    values = torch.tensor([[1.0, 0.0], [2.0, 3.0], [1.0, -0.0], [torch.nan, 1.0], [torch.nan, 1.0], [-torch.inf, 9.0]])
    save_vectors(tmp_path / "a.npy", values)
    info = info_file(tmp_path / "a.npy")
    assert (info.shape, info.least, info.largest) == ((6, 2), 0.0, 9.0)
    assert (info.n_not_finite, info.n_duplicates) == (3, 1)
    assert run("info", tmp_path / "a.npy") == 0
    assert "6 x 2, torch.float32" in capsys.readouterr().out
    assert run("info", tmp_path / "a.npy", "--json") == 0
    assert json.loads(capsys.readouterr().out)["n_duplicates"] == 1


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.bfloat16, torch.float64])
def test_duplicates_are_counted_exactly(dtype: torch.dtype, tmp_path: Path) -> None:
    values = torch.randint(0, 3, (400, 4), generator=torch.Generator().manual_seed(0)).to(dtype)
    save_vectors(tmp_path / "a.pt", values)
    assert info_file(tmp_path / "a.pt").n_duplicates == 400 - len(set(map(tuple, values.tolist())))
    assert info_file(tmp_path / "a.pt", max_memory="1KiB").n_duplicates is None


def test_a_saved_parameter_is_read_as_the_numbers_it_holds(tmp_path: Path) -> None:
    values = torch.nn.Parameter(torch.arange(8.0).reshape(4, 2))
    torch.save({"a": values}, tmp_path / "a.pt")
    with open_vectors(tmp_path / "a.pt") as file:
        assert not file.read(0, 4).requires_grad
    assert info_file(tmp_path / "a.pt").largest == 7.0


def test_the_disk_of_a_plan_is_what_the_search_claims(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_vectors(tmp_path / "c.npy", points(3000, 30))
    claimed: list[int] = []
    add = Journal.add

    def noted(journal: Journal) -> None:
        data = [journal.folder / name for name in ("indices", "distances", "state")]
        claimed.append(sum(path.stat().st_size for path in data if path.exists()))
        add(journal)

    monkeypatch.setattr(Journal, "add", noted)
    for out, memory in (("o.npz", "512KiB"), ("o.npy", "64MiB"), ("o.ibin", "64MiB")):
        asked = {"k": 5, "out": tmp_path / out, "max_memory": memory}
        plan = plan_files(tmp_path / "c.npy", **asked)
        search_files(tmp_path / "c.npy", **asked)
        unfinished, answer = plan.disk.needs
        assert set(claimed) == {unfinished.bytes}
        claimed.clear()
        assert 0 <= (tmp_path / out).stat().st_size - answer.bytes < 1000  # headers
        assert unfinished.folder == answer.folder == tmp_path
        assert plan.facts()["disk_bytes"] == unfinished.bytes + answer.bytes
        assert str(tmp_path) in str(plan)


@pytest.mark.parametrize("name", ["c.csv", "c.npy.gz", "?.csv"])
def test_inputs_that_are_decoded_are_told_with_their_place(name: str, tmp_path: Path) -> None:
    save_vectors(tmp_path / "c.csv", points(200, 3))
    save_vectors(tmp_path / "q.npy", points(20, 3))
    (tmp_path / "c.npy.gz").write_bytes(gzip.compress((tmp_path / "q.npy").read_bytes()))
    decoded = (tmp_path / "q.npy").stat().st_size if name.endswith("gz") else 200 * 3 * 8
    for asked in ({}, {"dtype": "float16"}):
        needs = plan_files(tmp_path / name, tmp_path / "q.npy", k=2, **asked).disk.needs
        assert needs[-1] == (Path(tempfile.gettempdir()), decoded, "decoded inputs")
    assert all(need.what != "decoded inputs" for need in plan_files(tmp_path / "q.npy", k=2).disk.needs)


def test_the_time_of_a_plan_has_the_order_of_the_search(tmp_path: Path) -> None:
    save_vectors(tmp_path / "c.npy", points(20_000, 64))
    save_vectors(tmp_path / "q.npy", points(4000, 64))
    asked = {"k": 10, "out": tmp_path / "o.npz"}
    plan, report = (one(tmp_path / "c.npy", tmp_path / "q.npy", **asked) for one in (plan_files, search_files))
    parts = plan.facts()["seconds_of"]
    assert plan.seconds == pytest.approx(sum(parts.values()))
    assert parts["writing"] > 0
    assert plan_files(tmp_path / "c.npy", tmp_path / "q.npy", k=10).outlook.writing == 0.0  # nobody says where to
    assert report.seconds / 20 < plan.seconds < report.seconds * 20  # a factor of 2 on a machine of one's own


def test_a_search_waits_for_the_kernels_of_all_that_may_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A fresh process would search by the usual screen, its kernels being there first, and the plan told of the rare.
    save_vectors(tmp_path / "c.npy", flat(20_000, 50))
    save_vectors(tmp_path / "q.npy", flat(3000, 50))
    asked: list[tuple[str, float]] = []

    def noted(use: tuple[object, ...], rehearse: object, patience: float = 0.0, delay: float = 0.0) -> bool:
        asked.append((str(use[1]), patience))
        return True

    monkeypatch.setattr(meanwhile, "are_ready", noted)
    report = search_files(tmp_path / "c.npy", tmp_path / "q.npy", k=10, out=tmp_path / "o.npz")
    waited = [name for name, patience in asked if patience > 1.0]
    assert report.screens == ["leading"]
    assert waited[: len(set(waited))] == list(dict.fromkeys(waited))
    assert {"leading", "dense"} <= set(waited)


def test_rows_that_take_long_are_few(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_vectors(tmp_path / "c.npy", points(9000, 1))
    save_vectors(tmp_path / "q.npy", points(300, 1))
    slow: list[int] = []
    real = trial.Tried._run

    def counted(tried: trial.Tried, rows: int, centres: Centres) -> object:
        slow.append(rows)
        time.sleep(0.002 * rows)
        return real(tried, rows, centres)

    monkeypatch.setattr(trial.Tried, "_run", counted)
    plan = plan_files(tmp_path / "c.npy", tmp_path / "q.npy", k=10)
    assert slow[0] == 1
    assert plan.seconds > 300 * 0.002
    monkeypatch.setattr(trial, "_LONG", 0.004)
    slow.clear()
    plan_files(tmp_path / "c.npy", tmp_path / "q.npy", k=10)
    assert max(slow[:4]) <= 4


def test_a_plan_leaves_nothing_behind(tmp_path: Path) -> None:
    save_vectors(tmp_path / "c.npy", points(200, 3))
    plan_files(tmp_path / "c.npy", k=2, out=tmp_path / "o.npz")
    assert [path.name for path in tmp_path.iterdir()] == ["c.npy"]


def test_a_plan_refuses_what_the_search_refuses_of_its_answer(tmp_path: Path) -> None:
    save_vectors(tmp_path / "c.npy", points(200, 3))
    for out, distances in (("c.npy", None), ("o.fvecs", None), ("o.npy", "d.ivecs"), ("no/o.npy", None)):
        apart = None if distances is None else tmp_path / distances
        for asked in (plan_files, search_files):
            with pytest.raises(VectorFileError):
                asked(tmp_path / "c.npy", k=2, out=tmp_path / out, distances=apart)


@pytest.mark.parametrize("memory", ["1MiB", "64MiB"])
def test_a_sample_takes_no_more_rows_than_a_block_has(
    memory: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_vectors(tmp_path / "a.npy", torch.zeros(3000, 512))  # 6 MB
    sampled: list[tuple[int, int]] = []
    real = steps.Tried

    def noted(x: torch.Tensor, c: torch.Tensor, *arguments: object, **options: object) -> steps.Tried:
        sampled.append((len(x), len(c)))
        return real(x, c, *arguments, **options)

    monkeypatch.setattr(steps, "Tried", noted)
    layout = plan_files(tmp_path / "a.npy", k=3, max_memory=memory).layout
    assert all(x <= layout.row_block and c <= layout.ctr_block for x, c in sampled)
    assert (layout.n_steps > 1) == (memory == "1MiB")


def test_a_large_block_is_sampled_from_all_over_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outlook, "_COORDINATES", 1 << 12)
    save_vectors(tmp_path / "c.npy", torch.arange(9000.0)[:, None].expand(9000, 8))
    read: list[tuple[int, int]] = []
    real: Callable[..., torch.Tensor] = VectorFile.read

    def noted(file: VectorFile, start: int, stop: int, out: torch.Tensor | None = None) -> torch.Tensor:
        read.append((start, stop))
        return real(file, start, stop, out)

    monkeypatch.setattr(VectorFile, "read", noted)
    plan = plan_files(tmp_path / "c.npy", k=3)
    assert plan.outlook.sampled == pytest.approx(9000 / 512)
    assert f"of 1 in {9000 / 512:.3g} centres" in str(plan)
    assert min(start for start, _ in read) == 0
    assert max(stop for _, stop in read) == 9000
    assert plan.seconds < 60


def test_plan_and_info_start_no_thread_that_stays(tmp_path: Path) -> None:
    save_vectors(tmp_path / "c.npy", points(200, 3))
    before = threading.active_count()
    info_file(tmp_path / "c.npy")
    assert threading.active_count() == before
