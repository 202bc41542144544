"""A query meets the centres that share a label with it: exactly, whatever the blocks and the kind of file."""

from __future__ import annotations

import random
import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from janelia_core.files import VectorFileError, open_vectors, plan_files, save_vectors, search_files, verify_files
from janelia_core.files.labels import shared, tiles
from janelia_core.files.labels.lists import Lists
from janelia_core.ml import knn

Sets = Sequence[frozenset[int]]
N, M, K = 60, 300, 7


def sets(n: int, most: int, seed: int) -> Sets:
    draw = random.Random(seed)
    return [frozenset(draw.sample(range(9), draw.randint(0, most))) for _ in range(n)]


def write_spmat(path: Path, rows: Sets) -> None:
    """As big-ann-benchmarks' write_sparse_matrix does."""
    ends = np.cumsum([0, *map(len, rows)])
    columns = [label for row in rows for label in sorted(row)]
    path.write_bytes(
        struct.pack("<qqq", len(rows), 9, len(columns))
        + ends.astype("<i8").tobytes()
        + np.array(columns, "<i4").tobytes()
        + np.ones(len(columns), "<f4").tobytes()
    )


def write_text(path: Path, rows: Sets) -> None:
    path.write_text("".join(",".join(f"red{label}" for label in row) + "\n" for row in rows))


def write_npy(path: Path, rows: Sets) -> None:
    np.save(path, np.array([[*row, -1, -1, -1][:3] for row in rows], dtype="i4"))


@pytest.fixture
def labels(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, Path]:
    kind = getattr(request, "param", "spmat")
    write = {"spmat": write_spmat, "txt": write_text, "npy": write_npy}[kind]
    files = tmp_path / f"base.{kind}", tmp_path / f"query.{kind}"
    write(files[0], sets(M, 3, 0))
    write(files[1], sets(N, 2, 1))
    g = torch.Generator().manual_seed(0)
    save_vectors(tmp_path / "b.npy", torch.randint(0, 4, (M, 6), generator=g))  # many ties
    save_vectors(tmp_path / "q.npy", torch.randint(0, 4, (N, 6), generator=g))
    return files


def allowed(match: str) -> Tensor:
    base, query = sets(M, 3, 0), sets(N, 2, 1)
    return torch.tensor([[(q <= b) if match == "all" else bool(q & b) for b in base] for q in query])


def vectors(folder: Path) -> tuple[Tensor, Tensor]:
    return open_vectors(folder / "q.npy").read(0, N), open_vectors(folder / "b.npy").read(0, M)


@pytest.mark.parametrize(
    ("labels", "match", "group"),
    [("spmat", "any", 1e6), ("spmat", "all", 1e6), ("txt", "any", 1.0), ("npy", "all", 1.0)],
    indirect=["labels"],
)
def test_only_centres_that_share_a_label_are_found(
    match: str, group: float, labels: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared, "_GROUP", group)  # queries of the same labels together, or all under a mask
    expected = knn(*vectors(tmp_path), K, mask=allowed(match))
    for memory in ("1GiB", "60KiB"):
        out = tmp_path / f"{memory}.npz"
        report = search_files(
            *(tmp_path / "b.npy", tmp_path / "q.npy"),
            k=K,
            out=out,
            labels=labels,
            labels_match=match,
            max_memory=memory,
        )
        assert (report.layout.n_ctr_blocks > 1) == (memory == "60KiB")
        assert torch.equal(open_vectors(f"{out}::indices").read(0, N), expected.indices)
        assert torch.equal(open_vectors(f"{out}::distances").read(0, N), expected.distances)
        assert (
            verify_files(tmp_path / "b.npy", tmp_path / "q.npy", out, labels=labels, labels_match=match).n_identical
            == N
        )


def test_a_centre_without_a_shared_label_is_a_wrong_neighbour(labels: tuple[Path, Path], tmp_path: Path) -> None:
    places = tmp_path / "b.npy", tmp_path / "q.npy"
    bad = knn(*vectors(tmp_path), K, mask=allowed("any")).indices
    bad[0, K - 1] = (~allowed("any")[0]).nonzero()[0]  # a stranger
    bad[1, 0] = -1  # though there is a nearest
    save_vectors(tmp_path / "a.npy", bad)
    recall = verify_files(*places, tmp_path / "a.npy", labels=labels)
    assert recall.wrong_rows == [0, 1]
    assert verify_files(*places, tmp_path / "a.npy").n_wrong > 2  # without labels nearer ones are missing


def test_no_row_is_its_own_neighbour_by_labels_either(labels: tuple[Path, Path], tmp_path: Path) -> None:
    base, (_, ctrs) = sets(M, 3, 0), vectors(tmp_path)
    search_files(tmp_path / "b.npy", k=K, out=tmp_path / "o.npy", labels=(labels[0], labels[0]), max_memory="60KiB")
    mask = torch.tensor([[bool(a & b) for b in base] for a in base])
    expected = knn(ctrs, k=K, mask=mask)
    assert torch.equal(open_vectors(tmp_path / "o.npy").read(0, M), expected.indices)


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda raw: raw[:20], "ends within its header"),
        (lambda raw: raw[:-4], "should have"),
        (lambda raw: raw[:32] + struct.pack("<q", 10**9) + raw[40:], "begin where no row can"),
        (lambda raw: raw[:16] + struct.pack("<q", 2**60) + raw[24:], "should have"),
        (lambda raw: raw[: 24 + 8 * (M + 1)] + struct.pack("<i", 99) + raw[28 + 8 * (M + 1) :], "columns outside"),
    ],
)
def test_a_damaged_file_of_labels_is_one_line(damage, told: str, tmp_path: Path) -> None:
    save_vectors(tmp_path / "b.npy", torch.zeros(M, 2))
    write_spmat(tmp_path / "base.spmat", sets(M, 3, 0))
    (tmp_path / "base.spmat").write_bytes(damage((tmp_path / "base.spmat").read_bytes()))
    both = (tmp_path / "base.spmat",) * 2
    with pytest.raises(VectorFileError, match=told):
        search_files(tmp_path / "b.npy", k=2, out=tmp_path / "o.npy", labels=both)
    assert not (tmp_path / "o.npy.unfinished").exists()


def test_labels_that_do_not_belong_are_refused_before_the_search(labels: tuple[Path, Path], tmp_path: Path) -> None:
    places = tmp_path / "b.npy", tmp_path / "q.npy"
    (tmp_path / "words.txt").write_text("red1\n" * N)
    for both, told in [
        ((labels[1], labels[1]), f"{N} rows of labels"),
        ((labels[0], tmp_path / "none.txt"), "no such"),
    ]:
        with pytest.raises((VectorFileError, FileNotFoundError), match=told):
            search_files(*places, k=2, out=tmp_path / "o.npy", labels=both)
    with pytest.raises(VectorFileError, match="cannot share labels"):
        search_files(*places, k=2, out=tmp_path / "o.npy", labels=(labels[0], tmp_path / "words.txt"))


def test_a_plan_by_labels_is_of_the_very_search(labels: tuple[Path, Path], tmp_path: Path) -> None:
    asked = {"k": K, "labels": labels, "max_memory": "60KiB"}
    places = tmp_path / "b.npy", tmp_path / "q.npy"
    plan = plan_files(*places, out=tmp_path / "p.npz", **asked)
    ran = search_files(*places, out=tmp_path / "p.npz", **asked)
    assert (plan.layout, set(plan.screens)) == (ran.layout, set(ran.screens))
    assert "by labels" in str(plan)


@pytest.mark.parametrize("every", [False, True])
def test_a_mask_is_the_same_from_bits_of_common_labels_and_from_lists_of_rare_ones(
    every: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw = random.Random(0)
    n, m, names = 30, 200, range(100)
    often = [9.0 if name < 5 else 0.1 for name in names]  # more labels than there are bits, a few of them common
    queries, centres = ([frozenset(draw.choices(names, often, k=draw.randrange(5))) for _ in range(r)] for r in (n, m))
    true = torch.tensor([[ours <= theirs if every else bool(ours & theirs) for theirs in centres] for ours in queries])
    monkeypatch.setattr(tiles, "_MARKS", 7)
    monkeypatch.setattr(tiles, "_CELLS", 500)
    for bits, cost in ((0, 0), (3, 10**9), (62, 10**9)):
        monkeypatch.setattr(tiles, "_BITS", bits)
        monkeypatch.setattr(tiles, "_MARK", cost)
        found = shared.Shared(lists_of(queries), n, lists_of(centres), m, every)
        rows = torch.tensor([5, 3, 29, *range(10, 25)])
        assert torch.equal(found(rows, 40, 190), true[rows, 40:190])
        assert found(rows[:0], 0, 10).shape == (0, 10)


def lists_of(rows: Sets) -> Lists:
    pairs = torch.tensor([(row, label) for row, labels in enumerate(rows) for label in labels])
    return Lists.of(pairs[:, 0], pairs[:, 1])


def test_labels_that_changed_anywhere_are_not_gone_on_with(tmp_path: Path) -> None:
    n = 40_000  # more than is sampled of an input
    save_vectors(tmp_path / "b.npy", torch.arange(n)[:, None].float())
    save_vectors(tmp_path / "q.npy", torch.zeros(3, 1))
    base, own = np.zeros((n, 2), dtype="i8"), {"k": 4, "out": tmp_path / "o.npy", "max_memory": "256KiB"}
    np.save(tmp_path / "lb.npy", base)
    np.save(tmp_path / "lq.npy", np.zeros((3, 1), dtype="i8"))
    files = tmp_path / "b.npy", tmp_path / "q.npy"
    by = tmp_path / "lb.npy", tmp_path / "lq.npy"

    def stop(progress: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        search_files(*files, labels=by, progress=stop, **own)
    base[1000] = 7
    np.save(tmp_path / "lb.npy", base)
    with pytest.raises(ValueError, match="this search was begun with labels"):
        search_files(*files, labels=by, resume=True, **own)
    base[1000] = 0
    np.save(tmp_path / "lb.npy", base)  # touched, and what it was
    assert search_files(*files, labels=by, resume=True, **own).resumed_at == 1
