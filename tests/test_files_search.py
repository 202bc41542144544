"""A search from file to file gives the answer of the call in memory, in bounded memory, whatever stops it."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor

from janelia_core.files import plan_files, search_files
from janelia_core.files.formats.registry import save_vectors
from janelia_core.files.inputs.input import open_vectors
from janelia_core.files.layout import Layout, make_layout
from janelia_core.ml._knn.distances.distances import distances
from janelia_core.ml.extra_torch_functions import knn_mc
from problems import KINDS, PROBLEMS


def spread(n: int, d: int = 6, seed: int = 0) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def blocks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Let every search work in 3 x 4 blocks; the list says which loop is the outer one, or that centres are whole."""
    outer = ["queries"]

    def small(n_smps: int, n_ctrs: int, k: int, *, but_self: bool, **sizes: object) -> Layout:
        whole = outer[0] == "whole"
        ctr_block = n_ctrs if whole else -(-n_ctrs // 4)
        loop = "queries" if whole else outer[0]
        return Layout(n_smps, n_ctrs, k, loop, -(-n_smps // 3), ctr_block, 2**26, 0, 0, 0, but_self)

    monkeypatch.setattr("janelia_core.files.question.make_layout", small)
    return outer


def rows_of(path: Path | str) -> Tensor:
    with open_vectors(path) as file:
        return file.read(0, file.n)


@pytest.mark.parametrize(
    ("name", "outer"), list(zip(KINDS, itertools.cycle(["queries", "centres", "whole"]), strict=False))
)
def test_files_in_blocks_give_the_answer_of_tensors(name: str, outer: str, blocks: list[str], tmp_path: Path) -> None:
    blocks[0] = outer
    problem = PROBLEMS[name]()
    save_vectors(tmp_path / "c.pt", problem.ctrs)
    save_vectors(tmp_path / "x.pt", problem.x)
    report = search_files(tmp_path / "c.pt", tmp_path / "x.pt", k=problem.k, out=tmp_path / "o.npz")
    found = rows_of(tmp_path / "o.npz::indices")
    assert torch.equal(found.T, knn_mc(problem.x, problem.ctrs, problem.k, len(problem.ctrs)))
    whole = distances(problem.x, problem.ctrs, found, "euclidean")
    assert torch.equal(rows_of(tmp_path / "o.npz::distances").nan_to_num(-1.0), whole.nan_to_num(-1.0))
    assert report.layout.n_steps > 1 or (outer == "whole" and len(problem.x) == 1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c.pt", "o.npz", "x.pt"]


@pytest.mark.parametrize("outer", ["queries", "centres", "whole"])
@pytest.mark.parametrize("d", [1, 6])
def test_a_single_neighbour_of_each_query_is_an_answer(outer: str, d: int, blocks: list[str], tmp_path: Path) -> None:
    blocks[0] = outer
    ctrs, x = spread(40, d), spread(30, d, seed=1)
    save_vectors(tmp_path / "c.npy", ctrs)
    save_vectors(tmp_path / "x.npy", x)
    search_files(tmp_path / "c.npy", tmp_path / "x.npy", k=1, out=tmp_path / "o.npz")
    assert torch.equal(rows_of(tmp_path / "o.npz::indices"), knn_mc(x, ctrs, 1, 40).T)


@pytest.mark.parametrize("outer", ["queries", "centres", "whole"])
def test_without_queries_no_centre_is_its_own_neighbour(outer: str, blocks: list[str], tmp_path: Path) -> None:
    blocks[0] = outer
    points = spread(30).repeat(4, 1)  # copies of a point tie with it, and come first by number
    points[7, 0] = torch.nan
    save_vectors(tmp_path / "c.npy", points)
    search_files(tmp_path / "c.npy", k=5, out=tmp_path / "o.npy", rows=(2, 101))
    whole = knn_mc(points, points, 120, 120).T
    for row, found in zip(range(2, 101), rows_of(tmp_path / "o.npy").tolist(), strict=True):
        assert found == [j for j in whole[row].tolist() if j != row][:5]


@pytest.mark.parametrize("outer", ["queries", "whole"])
def test_ranges_of_rows_answer_with_row_numbers_of_the_file(outer: str, blocks: list[str], tmp_path: Path) -> None:
    blocks[0] = outer
    x, ctrs = spread(20), spread(90, seed=1)
    save_vectors(tmp_path / "c.fbin", ctrs)
    save_vectors(tmp_path / "x.fvecs", x)
    search_files(
        tmp_path / "c.fbin", tmp_path / "x.fvecs", k=3, out=tmp_path / "o.ivecs", rows=(5, None), ctr_rows=(10, 71)
    )
    assert torch.equal(rows_of(tmp_path / "o.ivecs").T.long(), knn_mc(x[5:], ctrs[10:71], 3, 61) + 10)


@pytest.mark.parametrize("out", ["o.npz", "o.hdf5", "o.ibin", "o.pt", "o.safetensors", "o.parquet"])
def test_formats_of_several_arrays_hold_the_distances_too(out: str, blocks: list[str], tmp_path: Path) -> None:
    x, ctrs = spread(20), spread(90, seed=1)
    save_vectors(tmp_path / "c.npy", ctrs)
    save_vectors(tmp_path / "x.npy", x)
    search_files(tmp_path / "c.npy", tmp_path / "x.npy", k=3, out=tmp_path / out, metric="sqeuclidean")
    with open_vectors(tmp_path / out, role="indices") as file:
        indices = file.read(0, 20).long()
    with open_vectors(tmp_path / out, role="distances") as file:
        assert torch.equal(file.read(0, 20), distances(x, ctrs, indices, "sqeuclidean"))
    assert torch.equal(indices.T, knn_mc(x, ctrs, 3, 90))


def test_distances_go_to_a_file_of_their_own_when_asked(blocks: list[str], tmp_path: Path) -> None:
    save_vectors(tmp_path / "c.npy", spread(50))
    search_files(tmp_path / "c.npy", k=3, out=tmp_path / "o.ivecs", distances=tmp_path / "d.fvecs")
    found = rows_of(tmp_path / "o.ivecs").long()
    assert torch.equal(rows_of(tmp_path / "d.fvecs"), distances(spread(50), spread(50), found, "euclidean"))


def test_numbers_are_rounded_first_when_a_dtype_is_asked_for(blocks: list[str], tmp_path: Path) -> None:
    ctrs = spread(90).double() * 100
    save_vectors(tmp_path / "c.npy", ctrs)
    search_files(tmp_path / "c.npy", tmp_path / "c.npy", k=4, out=tmp_path / "o.npy", dtype="bfloat16")
    assert torch.equal(rows_of(tmp_path / "o.npy").T, knn_mc(ctrs.bfloat16(), ctrs.bfloat16(), 4, 90))


@pytest.mark.parametrize(
    ("n_smps", "n_ctrs", "k", "outer", "passes"),
    [
        (10_000, 60_000, 10, "queries", 1),  # all fits
        (10_000_000, 60_000, 10, "queries", 1),  # all centres fit, queries pass by
        (60_000, 10_000_000, 10, "queries", 2),  # half the queries at a time, all centres pass by twice
        (10_000_000, 200_000, 1, "centres", 1),  # few centres, short lists
    ],
)
def test_the_layout_reads_least(n_smps: int, n_ctrs: int, k: int, outer: str, passes: int) -> None:
    layout = make_layout(n_smps, n_ctrs, k, row_bytes=512, ctr_bytes=512, d_bytes=(512, 512), max_memory=128 * 2**20)
    assert (layout.outer, layout.ctr_bytes) == (outer, passes * n_ctrs * 512)


@given(
    n_smps=st.integers(1, 10**9),
    n_ctrs=st.integers(1, 10**9),
    k=st.integers(1, 1000),
    d=st.integers(1, 4096),
    memory=st.integers(2**22, 2**34),
)
def test_a_layout_stays_within_the_memory_and_its_steps_meet_every_pair(
    n_smps: int, n_ctrs: int, k: int, d: int, memory: int
) -> None:
    sizes = {"row_bytes": 4 * d, "ctr_bytes": 4 * d, "d_bytes": (4 * d, 4 * d)}
    assume(memory >= 4 * 8 * (8 * d + 40 * k))
    layout = make_layout(n_smps, n_ctrs, k, max_memory=memory, **sizes)
    per_neighbour = 24 if layout.n_ctr_blocks == 1 else 40  # running lists take more
    assert layout.workspace + layout.row_block * (4 * d + per_neighbour * k) + layout.ctr_block * 4 * d <= memory
    assert layout.n_steps == layout.n_row_blocks * layout.n_ctr_blocks
    last = layout.n_steps - 1
    assert layout.step(0) == (0, 0)
    assert layout.step(last) == (layout.n_row_blocks - 1, layout.n_ctr_blocks - 1)
    assert len({layout.step(i) for i in range(min(layout.n_steps, 50))}) == min(layout.n_steps, 50)
    # The share of the queries decides how often the centres are read.
    assert layout.ctr_bytes <= layout.n_row_blocks * n_ctrs * 4 * d


@pytest.mark.parametrize("order", ["queries", "centres"])
def test_a_run_reads_exactly_what_the_plan_says(order: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Reading is what is looked at: no search need run.
    monkeypatch.setattr("janelia_core.files.stream.extend", lambda *arguments, **options: None)
    d, many, few = 64, 40_000, 10_000
    n_ctrs, n_smps = (many, few) if order == "queries" else (few, many)
    save_vectors(tmp_path / "c.fvecs", torch.zeros(n_ctrs, d))
    save_vectors(tmp_path / "x.npy", torch.zeros(n_smps, d))
    arguments = {"k": 20 if order == "queries" else 2, "max_memory": 4 * 2**20}
    plan = plan_files(tmp_path / "c.fvecs", tmp_path / "x.npy", **arguments)
    report = search_files(tmp_path / "c.fvecs", tmp_path / "x.npy", out=tmp_path / "o.npy", **arguments)
    assert plan.layout == report.layout
    assert report.bytes_read == plan.layout.bytes_read
    assert f"{report.bytes_read} bytes" in str(plan)
    assert plan.layout.n_steps > 3
    assert plan.layout.outer == order
