"""What verify says of another tool's answer: its distances, and that it can go on as a search can."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from janelia_core.files import Progress, Recall, search_files, verify_files
from janelia_core.files.formats.registry import save_vectors
from janelia_core.files.layout import Layout

K = 4


@pytest.fixture
def inputs(tmp_path: Path) -> tuple[Path, Path]:
    """Write 90 centres and 30 queries of float32."""
    g = torch.Generator().manual_seed(0)
    save_vectors(tmp_path / "c.npy", torch.randn(90, 5, generator=g))
    save_vectors(tmp_path / "x.npy", torch.randn(30, 5, generator=g))
    return tmp_path / "c.npy", tmp_path / "x.npy"


def answered(inputs: tuple[Path, Path], metric: str = "euclidean") -> tuple[np.ndarray, np.ndarray]:
    """Return the exact neighbours and their distances, (30, K) each."""
    out = inputs[0].parent / "exact.npz"
    search_files(*inputs, k=K, out=out, metric=metric)
    with np.load(out) as found:
        return found["indices"], found["distances"]


def checked(inputs: tuple[Path, Path], metric: str = "euclidean", **arrays: np.ndarray) -> Recall:
    np.savez(inputs[0].parent / "a.npz", **arrays)
    return verify_files(*inputs, inputs[0].parent / "a.npz", metric=metric)


@pytest.mark.parametrize("suffix", ["npz", "ibin", "hdf5", "pt", "safetensors", "parquet"])
def test_distances_beside_the_row_numbers_are_checked_in_every_format(
    suffix: str, inputs: tuple[Path, Path], tmp_path: Path
) -> None:
    search_files(*inputs, k=K, out=tmp_path / f"a.{suffix}")
    found = verify_files(*inputs, tmp_path / f"a.{suffix}").distances
    assert found is not None
    assert (found.words, found.n_compared, found.n_equal, found.n_off) == ("distances", 120, 120, 0)
    save_vectors(tmp_path / f"without.{suffix}", torch.from_numpy(answered(inputs)[0]), name="indices")
    assert verify_files(*inputs, tmp_path / f"without.{suffix}").distances is None


@pytest.mark.parametrize(
    ("metric", "change", "words"),
    [
        ("euclidean", lambda x, c, d: ((x - c) ** 2).sum(-1), "squared distances"),
        ("sqeuclidean", lambda x, c, d: ((x - c) ** 2).sum(-1) ** 0.5, "distances, not squared"),
        ("dot", lambda x, c, d: (x * c).sum(-1), "inner products"),
        ("dot", lambda x, c, d: -(x * c).sum(-1), "inner products with a minus sign"),
        ("cosine", lambda x, c, d: 1 - d.astype(np.float64), "cosines"),
        ("cosine", lambda x, c, d: 2 * d, "2 (1 - cosine)"),
        ("manhattan", lambda x, c, d: abs(x - c).sum(-1), "distances"),
    ],
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_what_other_tools_store_is_recognised_by_its_values(
    metric: str, change, words: str, dtype: type, inputs: tuple[Path, Path]
) -> None:
    indices, distances = answered(inputs, metric)
    c, x = (np.load(path).astype(np.float64) for path in inputs)
    stored = change(x[:, None], c[indices], distances).astype(dtype)
    recall = checked(inputs, metric, indices=indices, distances=stored)
    assert recall.all_right
    found = recall.distances
    assert found is not None
    assert (found.words, found.n_off) == (words, 0)
    if metric != "cosine":  # made of distances that were rounded before
        assert found.n_equal + found.n_near == 120
    assert words in str(recall)


def test_a_false_distance_is_no_wrong_row_but_not_all_right_either(inputs: tuple[Path, Path]) -> None:
    indices, distances = answered(inputs)
    distances[3, 1] = np.nextafter(distances[3, 1], np.float32(9))
    distances[5, 0] += np.float32(1e-5) * distances[5].max()
    distances[7, 2] *= np.float32(1.5)
    distances[8, 3] = np.nan
    indices[9, 3], distances[9, 3] = -1, np.inf  # fewer found: wrong, and nothing to compare
    recall = checked(inputs, indices=indices, distances=distances)
    found = recall.distances
    assert found is not None
    assert (recall.n_wrong, recall.wrong_rows, recall.all_right) == (1, [9], False)
    assert (found.n_compared, found.n_equal, found.n_near, found.n_off) == (119, 115, 1, 2)
    assert 0.1 < found.largest < 0.5
    indices, distances = answered(inputs)
    distances[7, 2] *= np.float32(1.5)
    recall = checked(inputs, indices=indices, distances=distances)
    assert (recall.n_wrong, recall.all_right) == (0, False)


def test_the_distance_that_is_compared_is_that_of_the_listed_centre(inputs: tuple[Path, Path]) -> None:
    indices, distances = answered(inputs)
    c, x = (np.load(path).astype(np.float64) for path in inputs)
    far = ((x[2] - c) ** 2).sum(-1).argmax()
    indices[2, 3], distances[2, 3] = far, ((x[2] - c[far]) ** 2).sum() ** 0.5
    recall = checked(inputs, indices=indices, distances=distances)
    assert recall.distances is not None
    assert (recall.n_wrong, recall.distances.n_equal + recall.distances.n_near) == (1, 120)


def test_distances_in_a_file_of_their_own_are_checked_and_of_another_shape_refused(
    inputs: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    search_files(*inputs, k=K, out=tmp_path / "a.ivecs", distances=tmp_path / "d.fvecs")
    found = verify_files(*inputs, tmp_path / "a.ivecs", k=3, distances=tmp_path / "d.fvecs").distances
    assert found is not None
    assert (found.n_compared, found.n_equal) == (90, 90)
    save_vectors(tmp_path / "d.npy", torch.zeros(30, 3))
    with pytest.raises(ValueError, match="has 30 rows of 3 columns, where there should be 30 rows of at least 4"):
        verify_files(*inputs, tmp_path / "a.ivecs", distances=tmp_path / "d.npy")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.ivecs", "c.npy", "d.fvecs", "d.npy", "x.npy"]


@pytest.fixture
def six_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    def blocks(n_smps: int, n_ctrs: int, k: int, **sizes: object) -> Layout:
        return Layout(n_smps, n_ctrs, k, "centres", -(-n_smps // 2), -(-n_ctrs // 3), 2**26, 0, 0, 0)

    monkeypatch.setattr("janelia_core.files.question.make_layout", blocks)


def stop_after(steps: int):  # type: ignore[no-untyped-def]
    left = [steps]

    def callback(progress: Progress) -> None:
        left[0] -= 1
        if not left[0]:
            raise KeyboardInterrupt

    return callback


@pytest.mark.parametrize("out", [None, "exact.npz"])
def test_a_check_that_was_stopped_goes_on_by_the_command_that_it_says(
    out: str | None, inputs: tuple[Path, Path], six_steps: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    search_files(*inputs, k=K, out=tmp_path / "a.ibin")
    arguments = {"k": 3, "out": None if out is None else tmp_path / out}
    kept = tmp_path / ("a.ibin.verify.unfinished" if out is None else "exact.npz.unfinished")
    with pytest.raises(KeyboardInterrupt, match=r"go on with: janelia-knn verify .* -k 3 .*--resume"):
        verify_files(*inputs, tmp_path / "a.ibin", **arguments, progress=stop_after(4))
    assert kept.is_dir()
    with pytest.raises(FileExistsError, match=r"an unfinished search is there; .* resume it by: janelia-knn verify"):
        verify_files(*inputs, tmp_path / "a.ibin", **arguments)
    seen: list[Progress] = []
    found = verify_files(*inputs, tmp_path / "a.ibin", **arguments, resume=True, progress=seen.append)
    assert (found.all_right, found.n_identical, len(seen)) == (True, 30, 2)
    names = {"a.ibin", "c.npy", "x.npy"} | ({out} if out else set())
    assert {path.name for path in tmp_path.iterdir()} == names
    if out is not None:
        search_files(*inputs, k=3, out=tmp_path / "whole.npz")
        assert (tmp_path / out).read_bytes() == (tmp_path / "whole.npz").read_bytes()


def test_a_check_stopped_while_it_compares_has_no_step_to_repeat(
    inputs: tuple[Path, Path], six_steps: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*arguments: object) -> None:
        raise KeyboardInterrupt

    search_files(*inputs, k=K, out=tmp_path / "a.npy")
    with monkeypatch.context() as patch:
        patch.setattr("janelia_core.files.verify.count", stopped)
        with pytest.raises(KeyboardInterrupt, match="go on with"):
            verify_files(*inputs, tmp_path / "a.npy")
    seen: list[Progress] = []
    assert verify_files(*inputs, tmp_path / "a.npy", resume=True, progress=seen.append).all_right
    assert seen == []


def test_beside_an_answer_in_a_folder_that_may_not_be_written_nothing_is_kept(
    inputs: tuple[Path, Path], six_steps: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    search_files(*inputs, k=K, out=tmp_path / "a.npy")
    monkeypatch.setattr(os, "access", lambda *arguments: False)
    with pytest.raises(KeyboardInterrupt):
        verify_files(*inputs, tmp_path / "a.npy", progress=stop_after(4))
    assert not list(tmp_path.glob("*.unfinished"))
    assert verify_files(*inputs, tmp_path / "a.npy").all_right
    with pytest.raises(ValueError, match="its folder may not be written, so no check was kept there; give out"):
        verify_files(*inputs, tmp_path / "a.npy", resume=True)
