"""The estimators are what scikit-learn's are, to its own checks and in its pipelines; their answers are exact."""

from __future__ import annotations

import importlib
import pickle
import sys
from typing import Any

import numpy as np
import pytest
import scipy.sparse
import sklearn.neighbors
import torch
from sklearn.base import clone
from sklearn.cluster import DBSCAN, SpectralClustering
from sklearn.manifold import TSNE, Isomap
from sklearn.neighbors import KNeighborsClassifier, LocalOutlierFactor
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import check_estimator

import janelia_core.sklearn as ours
from janelia_core.extras import MissingExtraError

NAMES = ["NearestNeighbors", "KNeighborsTransformer", "RadiusNeighborsTransformer"]
X = np.random.default_rng(0).normal(size=(80, 3))
Y = np.random.default_rng(1).normal(size=(9, 3))
CLASSES = (X[:, 0] > 0).astype(int)


def both(name: str, **arguments: Any) -> tuple[Any, Any]:
    """Return an estimator of ours and the one of scikit-learn that it takes the place of."""
    return getattr(ours, name)(**arguments), getattr(sklearn.neighbors, name)(**arguments)


def same(a: Any, b: Any) -> None:
    """Compare indices exactly, and distances but for scikit-learn's rounding; types as they are."""
    assert type(a) is type(b)
    if scipy.sparse.issparse(a):
        assert a.shape == b.shape
        for part in ("data", "indices", "indptr"):
            same(getattr(a, part), getattr(b, part))
    elif isinstance(a, tuple) or a.dtype == object:
        assert len(a) == len(b)
        for one, other in zip(a, b, strict=True):
            same(one, other)
    else:
        assert a.dtype == b.dtype
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=1e-12 if a.dtype.kind == "f" else 0)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")  # without pandas, for one
@pytest.mark.parametrize("name", NAMES)
def test_scikit_learn_finds_no_fault_and_none_is_expected(name: str) -> None:
    check_estimator(getattr(ours, name)())  # which raises what it finds


@pytest.mark.parametrize("rows", [None, X, Y], ids=["among", "fit", "new"])
def test_neighbours_and_their_graphs_are_scikit_learns(rows: np.ndarray | None) -> None:
    mine, theirs = (nearest.fit(X) for nearest in both("NearestNeighbors", n_neighbors=4))
    same(mine.kneighbors(rows), theirs.kneighbors(rows))
    same(mine.kneighbors(rows, 2, return_distance=False), theirs.kneighbors(rows, 2, return_distance=False))
    for mode in ("connectivity", "distance"):
        same(mine.kneighbors_graph(rows, mode=mode), theirs.kneighbors_graph(rows, mode=mode))


@pytest.mark.parametrize("rows", [None, X, Y], ids=["among", "fit", "new"])
def test_neighbours_within_a_radius_and_their_graphs_are_scikit_learns(rows: np.ndarray | None) -> None:
    mine, theirs = (nearest.fit(X) for nearest in both("NearestNeighbors", radius=0.8, algorithm="brute"))
    same(mine.radius_neighbors(rows, sort_results=True), theirs.radius_neighbors(rows, sort_results=True))
    same(mine.radius_neighbors(rows, 0.1), theirs.radius_neighbors(rows, 0.1))
    same(mine.radius_neighbors(rows, 0.5, return_distance=False), theirs.radius_neighbors(rows, 0.5, False))
    for options in ({}, {"mode": "distance"}, {"mode": "distance", "sort_results": True}):
        same(mine.radius_neighbors_graph(rows, **options), theirs.radius_neighbors_graph(rows, **options))


@pytest.mark.parametrize("mode", ["distance", "connectivity"])
@pytest.mark.parametrize("name", NAMES[1:])
def test_transformers_return_scikit_learns_graphs(name: str, mode: str) -> None:
    mine, theirs = both(name, mode=mode, algorithm="brute")  # whose rows of ones are by index
    same(mine.fit_transform(X), theirs.fit_transform(X))
    same(mine.transform(Y), theirs.transform(Y))
    assert list(mine.get_feature_names_out()) == list(theirs.get_feature_names_out())


@pytest.mark.parametrize(
    ("metric", "p"),
    [("minkowski", 1), ("minkowski", 2), ("minkowski", np.inf), ("euclidean", 2), ("l2", 2), ("sqeuclidean", 2),
     ("manhattan", 2), ("l1", 2), ("cityblock", 2), ("chebyshev", 2), ("infinity", 2), ("cosine", 2),
     ("haversine", 2)],
)  # fmt: skip
def test_a_metric_is_scikit_learns_of_that_name(metric: str, p: float) -> None:
    d = 2 if metric == "haversine" else 3
    mine, theirs = (nearest.fit(X[:, :d]) for nearest in both("NearestNeighbors", metric=metric, p=p, algorithm="auto"))
    assert mine.effective_metric_ == theirs.effective_metric_
    (a, i), (b, j) = mine.kneighbors(Y[:, :d]), theirs.kneighbors(Y[:, :d])
    assert np.array_equal(i, j)
    np.testing.assert_allclose(a, b, rtol=1e-9)
    r = float(b.mean())
    within = [[sorted(row) for row in nearest.radius_neighbors(Y[:, :d], r)[1]] for nearest in (mine, theirs)]
    assert within[0] == within[1]
    assert 9 < sum(map(len, within[0])) < 9 * 80


def test_the_p_of_metric_params_counts_and_what_nothing_here_orders_by_is_an_error_that_names_what_does() -> None:
    with pytest.warns(SyntaxWarning, match="p is found in metric_params"):
        nearest = ours.NearestNeighbors(p=7, metric_params={"p": 2}).fit(X)
    assert nearest.effective_metric_ == "euclidean"
    for wrong, told in (
        ({"metric": "jaccard"}, "'minkowski', 'euclidean'.*got 'jaccard'"),
        ({"metric": max}, "sklearn.neighbors"),
        ({"p": 3}, "p = 1, 2 or inf, got p=3"),
        ({"metric_params": {"w": [1, 2, 3]}}, "'w'; scale the columns"),
        ({"metric": "euclidean", "metric_params": {"p": 1}}, "for 'minkowski', got 'p'"),
        ({"algorithm": "fast"}, "'algorithm' parameter"),
    ):
        with pytest.raises(ValueError, match=told):
            ours.NearestNeighbors(**wrong).fit(X)


@pytest.mark.parametrize("dtype", ["f4", "f2", "i8", "u1", "?", ">f8", "O"])
def test_distances_are_those_of_the_stored_values_in_float64_whatever_the_dtype(dtype: str) -> None:
    stored = (3 * X).clip(0).astype(dtype)
    distances, indices = ours.NearestNeighbors(n_neighbors=1).fit(stored[:40]).kneighbors(stored[40:])
    assert (distances.dtype, indices.dtype) == (np.dtype(np.float64), np.dtype(np.int64))
    away = stored[40:].astype(np.float64) - stored[indices[:, 0]].astype(np.float64)
    np.testing.assert_allclose(distances[:, 0], np.sqrt((away**2).sum(axis=1)), rtol=1e-15)


def test_ties_go_to_the_lowest_index_and_a_row_is_left_out_by_its_index_so_that_copies_stay() -> None:
    nearest = ours.NearestNeighbors(n_neighbors=2, radius=1.0).fit([[1.0], [0.0], [0.0], [-1.0]])
    assert nearest.kneighbors(return_distance=False).tolist() == [[1, 2], [2, 0], [1, 0], [1, 2]]
    assert [row.tolist() for row in nearest.radius_neighbors([[0.0], [9.0]])[1]] == [[0, 1, 2, 3], []]
    assert [row.tolist() for row in nearest.radius_neighbors()[1]] == [[1, 2], [0, 2, 3], [0, 1, 3], [1, 2]]


def test_tensors_get_tensors_whose_distances_have_gradients_and_arrays_get_arrays() -> None:
    nearest = ours.NearestNeighbors(n_neighbors=2, radius=1.0).fit(torch.from_numpy(X))
    rows = torch.from_numpy(Y).float().requires_grad_()
    distances, indices = nearest.kneighbors(rows)
    assert (distances.dtype, indices.dtype) == (torch.float64, torch.int64)
    distances.sum().backward()
    assert rows.grad is not None
    assert rows.grad.abs().sum() > 0
    assert isinstance(nearest.kneighbors()[0], torch.Tensor)
    assert isinstance(nearest.kneighbors(Y)[0], np.ndarray)
    within = nearest.radius_neighbors(rows)
    assert all(isinstance(row, torch.Tensor) for part in within for row in part)
    same(tuple(row.numpy() for row in within[1]), tuple(nearest.radius_neighbors(rows.detach().numpy())[1]))
    same(nearest.kneighbors_graph(rows), nearest.kneighbors_graph(rows.detach().numpy()))


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (torch.zeros(3), "Expected 2D array"),
        (torch.full((2, 3), torch.nan), "contains NaN"),
        (torch.zeros(2, 3, dtype=torch.complex64), "Complex data not supported"),
        (torch.zeros(2, 4), "X has 4 features, but NearestNeighbors is expecting 3 features"),
        (scipy.sparse.csr_matrix(Y), "Sparse data was passed for X, but dense data is required"),
        (np.full((2, 3), np.inf), "contains infinity"),
    ],
)
def test_what_does_not_fit_is_refused_in_scikit_learns_words(wrong: Any, told: str) -> None:
    with pytest.raises((TypeError, ValueError), match=told):
        ours.NearestNeighbors().fit(X).kneighbors(wrong)


def test_more_neighbours_than_rows_and_unknown_modes_are_refused() -> None:
    nearest = ours.NearestNeighbors().fit(X)
    with pytest.raises(ValueError, match="Expected n_neighbors < n_samples_fit, but n_neighbors = 80"):
        nearest.kneighbors(n_neighbors=80)
    with pytest.raises(ValueError, match="Expected n_neighbors <= n_samples_fit, but n_neighbors = 81"):
        nearest.kneighbors(X, 81)
    with pytest.raises(ValueError, match="Expected n_neighbors > 0"):
        nearest.kneighbors(X, 0)
    with pytest.raises(TypeError, match="integer"):
        nearest.kneighbors(X, 2.0)
    with pytest.raises(ValueError, match="mode, must be one of"):
        nearest.kneighbors_graph(X, mode="other")
    with pytest.raises(TypeError, match="radius must be a number"):
        ours.NearestNeighbors(radius=None).fit(X).radius_neighbors(X)
    with pytest.raises(ValueError, match="return_distance must be True"):
        nearest.radius_neighbors(X, return_distance=False, sort_results=True)


def test_an_array_may_change_after_fit_and_a_tensor_that_does_is_seen() -> None:
    array, tensor = X.copy(), torch.from_numpy(X.copy())
    of_array, of_tensor = ours.NearestNeighbors().fit(array), ours.NearestNeighbors().fit(tensor)
    array[:], tensor[:] = 0, 0
    same(of_array.kneighbors(Y), ours.NearestNeighbors().fit(X).kneighbors(Y))
    with pytest.raises(RuntimeError, match="changed"):
        of_tensor.kneighbors(Y)


def test_estimators_are_cloned_pickled_and_printed_as_scikit_learns_are() -> None:
    nearest = ours.NearestNeighbors(n_neighbors=3, max_memory=2**20).fit(X)
    assert repr(nearest) == "NearestNeighbors(max_memory=1048576, n_neighbors=3)"
    assert clone(nearest).get_params() == nearest.get_params()
    same(pickle.loads(pickle.dumps(nearest)).kneighbors(Y), nearest.kneighbors(Y))
    assert (nearest.n_samples_fit_, nearest.n_features_in_) == X.shape


def test_scikit_learn_takes_a_fitted_one_where_it_takes_its_own() -> None:
    mine, theirs = (nearest.fit(X) for nearest in both("NearestNeighbors", n_neighbors=4))
    same(sklearn.neighbors.kneighbors_graph(mine, 4), sklearn.neighbors.kneighbors_graph(theirs, 4))
    same(sklearn.neighbors.NearestNeighbors().fit(mine).kneighbors(Y), theirs.kneighbors(Y, 5))


def test_names_of_a_data_frame_are_kept_and_asked_for_again() -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(X, columns=["a", "b", "c"])
    nearest = ours.NearestNeighbors().fit(frame)
    assert list(nearest.feature_names_in_) == ["a", "b", "c"]
    same(nearest.kneighbors(frame), ours.NearestNeighbors().fit(X).kneighbors(X))
    with pytest.raises(ValueError, match="feature names"):
        nearest.kneighbors(frame[["c", "b", "a"]])
    with pytest.warns(UserWarning, match="valid feature names"):
        nearest.kneighbors(X)


def test_without_scikit_learn_the_error_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with monkeypatch.context() as here:
        here.delitem(sys.modules, "janelia_core.sklearn")
        with pytest.raises(MissingExtraError, match=r"pip install 'janelia-core\[sklearn\]'"):
            importlib.import_module("janelia_core.sklearn")


@pytest.mark.parametrize(
    ("name", "arguments", "then"),
    [
        ("KNeighborsTransformer", {"n_neighbors": 7}, KNeighborsClassifier(metric="precomputed", n_neighbors=6)),
        ("RadiusNeighborsTransformer", {"radius": 0.9}, DBSCAN(eps=0.6, metric="precomputed")),
        ("KNeighborsTransformer", {"n_neighbors": 30},
         TSNE(metric="precomputed", init="random", perplexity=9, random_state=0)),
        ("KNeighborsTransformer", {"n_neighbors": 9}, Isomap(metric="precomputed", n_neighbors=8)),
        ("KNeighborsTransformer", {"n_neighbors": 9, "mode": "connectivity"},
         SpectralClustering(2, affinity="precomputed_nearest_neighbors", n_neighbors=8, random_state=0)),
        ("KNeighborsTransformer", {"n_neighbors": 9}, LocalOutlierFactor(metric="precomputed", n_neighbors=8)),
    ],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_a_pipeline_gives_what_it_gives_with_scikit_learns_own_neighbours(
    name: str, arguments: dict[str, Any], then: Any
) -> None:
    results = []
    for first in both(name, **arguments):
        pipeline = make_pipeline(first, clone(then))
        if hasattr(then, "predict") and not hasattr(then, "fit_predict"):
            results.append(pipeline.fit(X, CLASSES).predict(Y))
        else:
            results.append((getattr(pipeline, "fit_predict", None) or pipeline.fit_transform)(X))
    assert np.unique(results[0].round(9), axis=0).shape[0] > 1
    np.testing.assert_allclose(results[0], results[1], rtol=1e-6, atol=1e-6)


def test_outliers_among_new_rows_are_those_that_scikit_learns_neighbours_give() -> None:
    new = np.concatenate([Y, [[9.0, 9.0, 9.0]]])
    told = []
    for first in both("KNeighborsTransformer", n_neighbors=9):
        outliers = LocalOutlierFactor(metric="precomputed", novelty=True, n_neighbors=8)
        told.append(make_pipeline(first, outliers).fit(X).score_samples(new))
    np.testing.assert_allclose(told[0], told[1], rtol=1e-9)
    assert told[0][-1] == told[0].min()
