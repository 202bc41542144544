"""A radius search from file to file gives the answer of the call in memory, whatever its blocks."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from janelia_core import cli
from janelia_core.files import Progress, VectorFileError, radius_files, save_vectors
from janelia_core.files.formats.contract import VectorFile
from janelia_core.files.layout import Layout
from janelia_core.ml import RadiusNeighbors, radius


def spread(n: int, d: int = 4, seed: int = 0) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def blocks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Let every search work in 3 blocks of queries and as many blocks of centres as the list says."""
    of_centres = [4]

    def small(n_smps: int, n_ctrs: int, k: int, *, but_self: bool, outers: tuple[str], **_: object) -> Layout:
        rows, ctrs = -(-n_smps // 3), -(-n_ctrs // of_centres[0])
        return Layout(n_smps, n_ctrs, k, outers[0], rows, ctrs, 2**26, 0, 0, 0, but_self)

    monkeypatch.setattr("janelia_core.files.question.make_layout", small)
    return of_centres


@pytest.fixture
def pairs(tmp_path: Path) -> tuple[Tensor, Tensor]:
    """Put queries and centres on the disk: each centre twice, far apart, some queries among them; one is no number."""
    ctrs, x = spread(60).repeat(2, 1), spread(20, seed=1)
    x[3], x[7], x[8] = ctrs[5], 1e6, torch.nan
    ctrs[50, 1] = torch.inf
    save_vectors(tmp_path / "c.npy", ctrs)
    save_vectors(tmp_path / "x.npy", x)
    return x, ctrs


def of_npz(path: Path) -> RadiusNeighbors:
    with np.load(path) as file:
        return RadiusNeighbors(*(torch.from_numpy(file[name]) for name in ("offsets", "indices", "distances")))


def of_rangeres(path: Path) -> RadiusNeighbors:
    """Read what big-ann-benchmarks reads: two int32, counts, row numbers, float32 distances; and nothing is left."""
    data = path.read_bytes()
    n, total = struct.unpack_from("<ii", data)
    counts, indices = np.frombuffer(data, "<i4", n, 8), np.frombuffer(data, "<i4", total, 8 + 4 * n)
    distances = np.frombuffer(data, "<f4", total, 8 + 4 * (n + total))
    assert len(data) == 8 + 4 * (n + 2 * total)
    assert counts.sum() == total
    offsets = np.concatenate([[0], counts.cumsum()])
    return RadiusNeighbors(*map(torch.tensor, (offsets, indices.astype(np.int64), distances)))


def same(one: RadiusNeighbors, other: RadiusNeighbors) -> bool:
    return all(torch.equal(a, b) and a.dtype == b.dtype for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("of_centres", [1, 4])
@pytest.mark.parametrize(
    ("metric", "r"), [("euclidean", 1.5), ("sqeuclidean", 2.25), ("cosine", 0.3), ("dot", -1.0), ("manhattan", 2.5)]
)
def test_blocks_give_the_answer_of_the_whole(
    metric: str, r: float, of_centres: int, blocks: list[int], pairs: tuple[Tensor, Tensor], tmp_path: Path
) -> None:
    blocks[0] = of_centres
    truth = radius(*pairs, r, metric=metric)
    for out, read in (("o.npz", of_npz), ("o.rangeres", of_rangeres)):
        report = radius_files(tmp_path / "c.npy", tmp_path / "x.npy", radius=r, out=tmp_path / out, metric=metric)
        assert same(read(tmp_path / out), truth)
        assert (report.n, report.found) == (20, len(truth.indices))
    assert int(truth.counts.min()) == 0
    assert int(truth.counts.max()) > 4
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c.npy", "o.npz", "o.rangeres", "x.npy"]


@pytest.mark.parametrize("bytes_of", ["_PER_MEMBER", "_PER_PAIR"])
@pytest.mark.parametrize("of_centres", [1, 4])
def test_a_memory_too_small_for_all_members_gives_the_same_answer(
    of_centres: int,
    bytes_of: str,
    blocks: list[int],
    pairs: tuple[Tensor, Tensor],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    blocks[0] = of_centres
    monkeypatch.setattr(f"janelia_core.files.within.{bytes_of}", 2**25 // 50)  # 50 of them fit
    told: list[Progress] = []
    taken: list[int] = []

    def noted(file: VectorFile, numbers: Tensor) -> Tensor:
        taken.append(len(numbers))
        return take(file, numbers)

    take = VectorFile.take
    monkeypatch.setattr(VectorFile, "take", noted)
    files = tmp_path / "c.npy", tmp_path / "x.npy"
    report = radius_files(*files, radius=1.5, out=tmp_path / "o.npz", progress=told.append)
    assert same(of_npz(tmp_path / "o.npz"), radius(*pairs, 1.5))
    assert told[-1].done == told[-1].total == 20 * 120
    if of_centres > 1 and bytes_of == "_PER_MEMBER":  # some queries were taken in smaller blocks
        assert len(told) > 3 * 4
        assert report.bytes_read > 4 * 120 * 16
    if of_centres > 1:
        assert len(taken) > 3
        assert max(taken) <= 50
    # The members of a single query are more than fit: they are what the answer is made of.
    radius_files(*files, radius=1e9, out=tmp_path / "all.npz")
    assert same(of_npz(tmp_path / "all.npz"), radius(*pairs, 1e9))


def test_a_real_memory_of_few_kilobytes_gives_the_same_answer(tmp_path: Path) -> None:
    ctrs, x = spread(150, 2).round(decimals=1), spread(12, 2, seed=1).round(decimals=1)
    save_vectors(tmp_path / "c.fvecs", ctrs)
    save_vectors(tmp_path / "x.fbin", x)
    files = tmp_path / "c.fvecs", tmp_path / "x.fbin"
    report = radius_files(*files, radius=0.5, out=tmp_path / "o.npz", max_memory="2KiB")
    assert same(of_npz(tmp_path / "o.npz"), radius(x, ctrs, 0.5))
    assert report.bytes_read > 2 * 150 * 12


@pytest.mark.parametrize("of_centres", [1, 4])
def test_without_queries_no_centre_is_its_own_neighbour(of_centres: int, blocks: list[int], tmp_path: Path) -> None:
    blocks[0] = of_centres
    points = spread(25, 2).repeat(4, 1)
    save_vectors(tmp_path / "c.npy", points)
    radius_files(tmp_path / "c.npy", radius=0.5, out=tmp_path / "o.npz", rows=(2, 91))
    truth = radius(points, r=0.5)
    first, last = int(truth.offsets[2]), int(truth.offsets[91])
    part = RadiusNeighbors(truth.offsets[2:92] - first, truth.indices[first:last], truth.distances[first:last])
    assert same(of_npz(tmp_path / "o.npz"), part)


@pytest.mark.parametrize("of_centres", [1, 4])
def test_row_numbers_are_those_of_the_file_and_a_dtype_rounds_first(
    of_centres: int, blocks: list[int], pairs: tuple[Tensor, Tensor], tmp_path: Path
) -> None:
    blocks[0] = of_centres
    x, ctrs = pairs
    radius_files(
        tmp_path / "c.npy",
        tmp_path / "x.npy",
        radius=1.5,
        out=tmp_path / "o",
        dtype="bfloat16",
        rows=(1, None),
        ctr_rows=(10, 101),
        formats=(None, None, "rangeres"),
    )
    truth = radius(x[1:].bfloat16(), ctrs[10:101].bfloat16(), 1.5)
    assert same(of_rangeres(tmp_path / "o"), truth._replace(indices=truth.indices + 10))


def test_pixels_and_double_numbers_are_searched_as_they_are(blocks: list[int], tmp_path: Path) -> None:
    g = torch.Generator().manual_seed(0)
    ctrs = torch.randint(256, (90, 8), generator=g).to(torch.uint8)
    x = ctrs[:20].double() + 0.25
    save_vectors(tmp_path / "c.u8bin", ctrs)
    save_vectors(tmp_path / "x.npy", x)
    files = tmp_path / "c.u8bin", tmp_path / "x.npy"
    radius_files(*files, radius=40_000, out=tmp_path / "o.npz", metric="sqeuclidean")
    truth = radius(x, ctrs.double(), 40_000, metric="sqeuclidean")
    assert truth.distances.dtype == torch.float64
    assert same(of_npz(tmp_path / "o.npz"), truth)
    radius_files(*files, radius=40_000, out=tmp_path / "o.rangeres", metric="sqeuclidean")
    assert same(of_rangeres(tmp_path / "o.rangeres"), truth._replace(distances=truth.distances.float()))


def test_nobody_within_reach_is_an_answer(blocks: list[int], pairs: tuple[Tensor, Tensor], tmp_path: Path) -> None:
    for out, read in (("o.npz", of_npz), ("o.rangeres", of_rangeres)):
        radius_files(tmp_path / "c.npy", tmp_path / "x.npy", radius=1e-9, out=tmp_path / out, rows=(4, 20))
        found = read(tmp_path / out)
        assert (found.offsets.tolist(), found.indices.tolist()) == ([0] * 17, [])


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"out": "o.ivecs"}, "take rangeres or npz"),
        ({"out": "none/o.npz"}, "folder that does not exist"),
        ({"out": "c.npy", "formats": (None, None, "npz")}, "is an input"),
        ({"radius": -1.0}, "at least 0"),
        ({"radius": float("nan")}, "at least 0"),
        ({"metric": "l3"}, "metric must be one of"),
        ({"metric": "haversine"}, "2 columns"),
        ({"rows": (5, 5)}, "rows must lie"),
        ({"max_memory": 100}, "max_memory must be at least"),
    ],
)
def test_what_cannot_be_asked_is_refused_before_the_search(
    changed: dict[str, object], told: str, pairs: tuple[Tensor, Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("janelia_core.files.within.Within.blocks", None)
    asked = {"radius": 1.0, "out": "o.npz"} | changed
    asked["out"] = tmp_path / str(asked["out"])
    with pytest.raises(ValueError, match=told):
        radius_files(tmp_path / "c.npy", tmp_path / "x.npy", **asked)  # type: ignore[arg-type]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c.npy", "x.npy"]


def test_more_than_int32_holds_is_refused_and_an_earlier_answer_stays(
    blocks: list[int], pairs: tuple[Tensor, Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "o.rangeres"
    out.write_text("as before")
    for most, told in ((118, "20 queries or 120 centres"), (119, "120 results; take npz")):
        monkeypatch.setattr("janelia_core.files.answer.ragged._MOST", most)
        with pytest.raises(VectorFileError, match=told):
            radius_files(tmp_path / "c.npy", tmp_path / "x.npy", radius=9.0, out=out)
    assert out.read_text() == "as before"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c.npy", "o.rangeres", "x.npy"]


def test_an_input_that_changes_meanwhile_is_noticed(
    blocks: list[int], pairs: tuple[Tensor, Tensor], tmp_path: Path
) -> None:
    def change(_: Progress) -> None:
        save_vectors(tmp_path / "x.npy", pairs[0] + 1)

    with pytest.raises(ValueError, match="changed while they were searched"):
        radius_files(tmp_path / "c.npy", tmp_path / "x.npy", radius=1.0, out=tmp_path / "o.npz", progress=change)
    assert not (tmp_path / "o.npz").exists()


def test_the_command_writes_the_same_file_and_says_what_it_found(
    pairs: tuple[Tensor, Tensor], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["radius", str(tmp_path / "c.npy"), "--radius", "1.5", str(tmp_path / "x.npy"), "-o"]
    assert cli.main([*asked, str(tmp_path / "o.rangeres")]) == 0
    truth = radius(*pairs, 1.5)
    assert f"{len(truth.indices)} neighbours of 20 queries" in capsys.readouterr().out
    assert same(of_rangeres(tmp_path / "o.rangeres"), truth)
    assert cli.main([*asked, str(tmp_path / "o.npz"), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["found"], facts["bytes_read"]) == (len(truth.indices), 140 * 16)
    assert same(of_npz(tmp_path / "o.npz"), truth)
    assert cli.main([*asked, str(tmp_path / "o.ivecs")]) == 2
    assert "o.ivecs" in capsys.readouterr().err
