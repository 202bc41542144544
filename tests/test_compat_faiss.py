"""The port of FAISS answers as FAISS documents, and where it differs it does so as its docstring says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from janelia_core.compat import faiss

LARGEST = np.finfo(np.float32).max
VALUES = {
    faiss.METRIC_L2: lambda a, b: np.square(a[:, None] - b).sum(2),
    faiss.METRIC_INNER_PRODUCT: lambda a, b: (a[:, None] * b).sum(2),
    faiss.METRIC_L1: lambda a, b: np.abs(a[:, None] - b).sum(2),
    faiss.METRIC_Linf: lambda a, b: np.abs(a[:, None] - b).max(2),
}
X = np.random.default_rng(0).integers(-9, 9, (40, 5)).astype(np.float32)
Q = np.random.default_rng(1).integers(-9, 9, (12, 5)).astype(np.float32)


def expected(q: np.ndarray, x: np.ndarray, k: int, metric: int) -> tuple[np.ndarray, np.ndarray]:
    """Return what FAISS documents, ties by lowest row."""
    values = VALUES[metric](q, x)
    order = np.argsort(-values if metric == faiss.METRIC_INNER_PRODUCT else values, axis=1, kind="stable")[:, :k]
    missing = ((0, 0), (0, k - order.shape[1]))
    pad = -LARGEST if metric == faiss.METRIC_INNER_PRODUCT else LARGEST
    distances = np.pad(np.take_along_axis(values, order, 1), missing, constant_values=pad)
    return distances, np.pad(order, missing, constant_values=-1)


def same(got: tuple, want: tuple) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(got, want, strict=True))


@pytest.mark.parametrize("metric", VALUES)
@pytest.mark.parametrize("k", [1, 7, 43])
def test_knn_and_index_give_values_of_the_metric_best_first_and_pad(metric, k):
    index = faiss.IndexFlat(5, metric)
    index.add(X[:10])
    index.add(X[10:])
    assert same(index.search(Q, k), expected(Q, X, k, metric))
    assert same(faiss.knn(Q, X, k, metric), expected(Q, X, k, metric))


def test_what_is_handed_back_has_the_dtypes_of_faiss():
    index = faiss.IndexFlatL2(5)
    index.add(X.astype(np.float64))
    found, ranged = index.search(Q.tolist(), 3), index.range_search(Q, 50)
    assert [part.dtype for part in found] == [np.float32, np.int64]
    assert [part.dtype for part in ranged] == [np.uint64, np.float32, np.int64]


def test_kinds_of_index_know_their_metric_and_size():
    assert (faiss.IndexFlat(3).metric_type, faiss.IndexFlatL2(3).metric_type) == (1, 1)
    index = faiss.IndexFlatIP(5)
    assert (index.metric_type, index.d, index.ntotal, index.is_trained) == (0, 5, 0, True)
    index.train(X)
    index.add(X)
    assert index.ntotal == 40
    index.reset()
    assert (index.ntotal, index.search(Q, 2)[1].tolist()) == (0, [[-1, -1]] * 12)


def test_what_was_added_is_a_copy():
    index, x = faiss.IndexFlatL2(5), X.copy()
    index.add(x)
    x[:] = 0
    assert (index.reconstruct_n() == X).all()


def test_vectors_that_are_not_nearer_than_the_largest_float32_are_none():
    x = np.array([[0.0, 0.0], [3e38, 3e38], [np.nan, 0.0], [1.0, 0.0]], np.float32)
    assert faiss.knn(np.zeros((1, 2)), x, 4)[1].tolist() == [[0, 3, -1, -1]]
    assert faiss.knn(np.full((1, 2), np.nan), x, 2)[1].tolist() == [[-1, -1]]
    products = faiss.knn(np.array([[np.inf, 0.0]]), x, 4, faiss.METRIC_INNER_PRODUCT)
    assert same(products, (np.array([[np.inf, np.inf, -LARGEST, -LARGEST]]), np.array([[1, 3, -1, -1]])))


@pytest.mark.parametrize(
    ("metric", "radius", "labels"),
    [
        (faiss.METRIC_L2, 1.0, [0]),
        (faiss.METRIC_L2, 1.0000001, [0, 1, 2]),
        (faiss.METRIC_L2, np.inf, [0, 1, 2, 3]),
        (faiss.METRIC_L2, 0.0, []),
        (faiss.METRIC_L2, -1.0, []),
        (faiss.METRIC_INNER_PRODUCT, 0.0, []),
        (faiss.METRIC_INNER_PRODUCT, -1e-9, [0, 1, 2, 3]),
        (faiss.METRIC_L1, 3.0, [0, 1, 2]),
        (faiss.METRIC_Linf, 3.000001, [0, 1, 2, 3]),
    ],
)
def test_a_range_is_strict(metric, radius, labels):
    index = faiss.IndexFlat(2, metric)
    index.add(np.array([[0, 0], [1, 0], [0, 1], [3, 0]]))
    lims, distances, found = index.range_search(np.zeros((2, 2)), radius)
    assert lims.tolist() == [0, len(labels), 2 * len(labels)]
    assert found.tolist() == labels * 2
    assert (distances == np.tile(VALUES[metric](np.zeros((1, 2)), index.reconstruct_n())[0][labels], 2)).all()


def test_a_range_is_strict_after_one_rounding_to_float32():
    x = np.array([[1 - 2.0**-24, np.sqrt(2.0**-23 - 2.0**-26)]], np.float32)
    assert 1 - 2.0**-25 < np.square(x.astype(np.float64)).sum() < 1
    index = faiss.IndexFlatL2(2)
    index.add(x)
    assert index.search(np.zeros((1, 2)), 1)[0] == 1
    assert len(index.range_search(np.zeros((1, 2)), 1.0)[2]) == 0


def test_a_range_of_products_holds_the_larger_ones_in_the_order_of_adding():
    index = faiss.IndexFlatIP(5)
    index.add(X)
    index.remove_ids(np.arange(0, 40, 3))
    lims, distances, labels = index.range_search(Q, 60.0)
    products = VALUES[faiss.METRIC_INNER_PRODUCT](Q, np.delete(X, np.arange(0, 40, 3), 0))
    rows, want = (products > 60).nonzero()
    assert same((labels, distances), (want, products[rows, want]))
    assert (np.diff(lims.astype(int)) == np.bincount(rows, minlength=12)).all()


def test_labels_of_a_flat_index_move_up_behind_removed_vectors():
    index, left = faiss.IndexFlatL2(5), X
    index.add(X)
    for gone in ([3, 3, 99, 0], list(range(10)), list(range(5, 25)), [0], [1, 2, 3], [2], [0], [1], [0]):
        inside = sorted({i for i in gone if i < len(left)})
        assert index.remove_ids(np.array(gone)) == len(inside)
        left = np.delete(left, inside, 0)
        assert (index.reconstruct_n() == left).all()
        assert same(index.search(Q, 45), expected(Q, left, 45, faiss.METRIC_L2))
    index.add(X)
    assert same(index.search(Q, 45), expected(Q, np.concatenate([left, X]), 45, faiss.METRIC_L2))


def test_vectors_come_back_by_label_or_in_turn():
    index = faiss.IndexFlatL2(5)
    index.add(X)
    assert (index.reconstruct(7) == X[7]).all()
    assert (index.reconstruct_n(3, 4) == X[3:7]).all()
    assert (index.reconstruct_n(30) == X[30:]).all()
    for call in (lambda: index.reconstruct(40), lambda: index.reconstruct(-1), lambda: index.reconstruct_n(38, 3)):
        with pytest.raises(RuntimeError, match="there are 40 vectors"):
            call()


@pytest.mark.parametrize("kind", [faiss.IndexIDMap, faiss.IndexIDMap2])
def test_labels_of_the_callers_stay_with_their_vectors(kind):
    index, ids = kind(faiss.IndexFlatL2(5)), np.arange(40)[::-1] // 2 * 10
    index.add_with_ids(X[:25], ids[:25])
    index.add_with_ids(X[25:], ids[25:])
    assert (index.d, index.ntotal, index.metric_type) == (5, 40, 1)
    left = np.ones(40, bool)
    for gone in ([10, 190, 5], ids[:30]):
        left &= ~np.isin(ids, gone)
        index.remove_ids(np.array(gone))
        distances, rows = expected(Q, X[left], 45, faiss.METRIC_L2)
        assert same(index.search(Q, 45), (distances, np.append(ids[left], -1)[rows]))
        assert (index.id_map == ids[left]).all()
    assert set(index.range_search(Q, np.inf)[2]) == set(ids[left])
    index.add_with_ids(Q[:1], [0])
    assert (index.reconstruct(0) == Q[0]).all()  # the last with this label
    with pytest.raises(RuntimeError):
        index.reconstruct(12345)
    index.reset()
    assert index.ntotal == len(index.id_map) == 0


def test_who_gives_labels_is_not_mistaken():
    index = faiss.IndexFlatL2(5)
    with pytest.raises(RuntimeError, match="add_with_ids"):
        faiss.IndexIDMap(index).add(X)
    with pytest.raises(ValueError, match="one label for each row"):
        faiss.IndexIDMap(index).add_with_ids(X, np.arange(39))
    mapped = faiss.IndexIDMap(index)
    for wrong in (["a"] * 40, [2**70] * 40):
        with pytest.raises((ValueError, OverflowError)):
            mapped.add_with_ids(X, wrong)
        assert mapped.ntotal == len(mapped.id_map) == 0
    index.add(X)
    with pytest.raises(RuntimeError, match="must be empty, and has 40"):
        faiss.IndexIDMap(index)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda index: index.search(Q[:, :4], 1), "same number of columns"),
        (lambda index: index.search(Q[0], 1), "x must have shape"),
        (lambda index: index.search(Q, 0), "k must be at least 1"),
        (lambda index: index.add(Q[:, :4]), "must have shape"),
        (lambda index: index.range_search(Q, np.nan), "got nan"),
        (lambda index: faiss.knn(Q, X, 1, metric=-1), r"metric must be 0 .* or 3 \(Linf\), got -1"),
        (lambda index: faiss.IndexFlat(5, 4), "metric must be .* got 4"),
    ],
)
def test_wrong_shapes_and_numbers_are_errors(call, says):
    index = faiss.IndexFlatL2(5)
    index.add(X)
    with pytest.raises(ValueError, match=says):
        call(index)


@pytest.mark.parametrize("name", ["index", "an index.npz"])
def test_an_index_comes_back_from_its_file(tmp_path: Path, name):
    flat, mapped = faiss.IndexFlatIP(5), faiss.IndexIDMap(faiss.IndexFlatL2(5))
    flat.add(X)
    mapped.add_with_ids(X, np.arange(40) * 7)
    for index in (flat, mapped):
        index.remove_ids([7])
        faiss.write_index(index, tmp_path / name)
        back = faiss.read_index(tmp_path / name)
        assert isinstance(back, faiss.IndexIDMap) == isinstance(index, faiss.IndexIDMap)
        assert same(back.search(Q, 45), index.search(Q, 45))
        assert [file.name for file in tmp_path.iterdir()] == [name]


def test_an_empty_index_comes_back_with_its_columns(tmp_path: Path):
    faiss.write_index(faiss.IndexFlat(3, faiss.METRIC_Linf), str(tmp_path / "index"))
    back = faiss.read_index(str(tmp_path / "index"))
    assert (back.d, back.ntotal, back.metric_type) == (3, 0, faiss.METRIC_Linf)


@pytest.mark.parametrize(
    "of", ["nothing", "a part", "another library", "another archive", "other labels", "an unknown metric"]
)
def test_a_file_that_holds_no_index_is_an_error_that_names_it(tmp_path: Path, of):
    file = tmp_path / "index"
    index = faiss.IndexFlatL2(5)
    index.add(X)
    faiss.write_index(index, file)
    whole = file.read_bytes()
    file.write_bytes({"nothing": b"", "a part": whole[:-9], "another library": b"IxF2" + bytes(99)}.get(of, b""))
    with file.open("ab") as more:
        if of == "another archive":
            np.savez(more, other=X)
        if of == "other labels":
            np.savez(more, vectors=X, metric=1, ibs=np.arange(len(X)))
        if of == "an unknown metric":
            np.savez(more, vectors=X, metric=-1)
    with pytest.raises(RuntimeError, match="index' is damaged, or was not written by write_index"):
        faiss.read_index(file)
