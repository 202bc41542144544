"""The port of SciPy's tree answers as SciPy does on data without ties, and as its docstring says beyond."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import spatial

from janelia_core.compat.scipy import KDTree, cKDTree

X = np.random.default_rng(0).random((120, 3))
Q = np.random.default_rng(1).random((4, 5, 3))
OURS, THEIRS = KDTree(X), spatial.KDTree(X)
NORMS = [1, 2, np.inf]
SQUARE = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [3.0, 0.0]])


@pytest.mark.parametrize("p", NORMS)
@pytest.mark.parametrize("k", [1, [1], 2, [2, 5], [3, 1], 130])
@pytest.mark.parametrize("bound", [np.inf, 0.2])
def test_query_gives_what_scipy_gives(p, k, bound):
    for x in (Q, Q[0], Q[0, 0]):
        got, want = (tree.query(x, k, p=p, distance_upper_bound=bound) for tree in (OURS, THEIRS))
        np.testing.assert_allclose(got[0], want[0], rtol=1e-14)
        np.testing.assert_array_equal(got[1], want[1])
        assert [np.asarray(part).dtype for part in got] == [np.asarray(part).dtype for part in want]


@pytest.mark.parametrize("p", NORMS)
@pytest.mark.parametrize("r", [0.0, 0.3, 2.0, np.array([0.1, 0.2, 0.0, 0.4, 0.25])])
def test_query_ball_point_gives_what_scipy_gives(p, r):
    for x in (Q, Q[0], Q[0, 0]) if np.ndim(r) == 0 else (Q, Q[0]):
        got, want = (tree.query_ball_point(x, r, p=p, return_sorted=True) for tree in (OURS, THEIRS))
        assert np.shape(got) == np.shape(want)
        assert type(got) is type(want)
        assert all(a == b for a, b in zip(np.ravel(got), np.ravel(want), strict=True))
        lengths = [tree.query_ball_point(x, r, p=p, return_length=True) for tree in (OURS, THEIRS)]
        np.testing.assert_array_equal(*lengths)
        assert lengths[0].dtype == lengths[1].dtype


@pytest.mark.parametrize("p", NORMS)
def test_pairs_and_counts_are_those_of_scipy(p):
    assert OURS.query_pairs(0.2, p=p) == THEIRS.query_pairs(0.2, p=p)
    got, want = (tree.query_pairs(0.2, p=p, output_type="ndarray") for tree in (OURS, THEIRS))
    assert (got.dtype, got.shape) == (want.dtype, want.shape)
    assert OURS.query_ball_tree(KDTree(Q[0]), 0.3, p=p) == THEIRS.query_ball_tree(spatial.KDTree(Q[0]), 0.3, p=p)
    for r in (0.2, [0.1, 0.5]):
        got = OURS.count_neighbors(KDTree(Q[0]), r, p=p)
        np.testing.assert_array_equal(got, THEIRS.count_neighbors(spatial.KDTree(Q[0]), r, p=p))


def test_a_tree_tells_its_points():
    for tree in (OURS, THEIRS):
        assert (tree.n, tree.m) == (120, 3)
        assert (tree.data == X).all()
        assert (tree.mins == X.min(0)).all()
        assert (tree.maxes == X.max(0)).all()
    assert cKDTree([[1, 2]], leafsize=30, balanced_tree=False).data.dtype == np.float64


def test_an_upper_bound_is_strict_and_a_ball_is_not():
    tree = KDTree(SQUARE)
    assert tree.query([0, 0], 4, distance_upper_bound=1)[1].tolist() == [0, 4, 4, 4]
    assert tree.query([0, 0], 4, distance_upper_bound=np.nextafter(1, 2))[1].tolist() == [0, 1, 2, 4]
    assert tree.query_ball_point([0, 0], 1) == [0, 1, 2]
    assert tree.query_ball_point([0, 0], np.nextafter(1, 0)) == [0]


def test_ties_go_to_the_lowest_index():
    tree = KDTree(np.repeat(SQUARE, 3, axis=0)[::-1])
    assert tree.query([0, 0], 12)[1].tolist() == [9, 10, 11, 3, 4, 5, 6, 7, 8, 0, 1, 2]


def test_a_ball_is_decided_where_rounding_would_err():
    """The distance of (1, 2^-30) is above 1, by less than float64 can tell."""
    tree = KDTree([[1.0, 2.0**-30]])
    assert tree.query_ball_point([0, 0], 1) == []
    assert tree.query_ball_point([0, 0], np.nextafter(1, 2)) == [0]


def test_no_points_and_no_questions_are_answered():
    empty = KDTree(X[:0])
    distances, indices = empty.query(Q, 2)
    assert distances.shape == (4, 5, 2)
    assert (distances == np.inf).all()
    assert (indices == 0).all()
    assert empty.query_ball_point(Q[0, 0], 1) == []
    assert empty.mins.tolist() == [0, 0, 0]
    assert OURS.query(Q[:0], 2)[1].shape == (0, 5, 2)
    assert OURS.query_ball_point(Q[:, :0], 1).shape == (4, 0)


def test_points_are_copied():
    x = SQUARE.copy()
    tree = KDTree(x)
    x[:] = 7
    assert tree.query([3, 0])[0] == 0


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda: KDTree([[np.nan]]), ValueError, "data must be finite"),
        (lambda: KDTree([1.0, 2.0]), ValueError, r"shape \(n, m\)"),
        (lambda: KDTree(X + 1j), TypeError, "complex data"),
        (lambda: KDTree(X, boxsize=1.0), NotImplementedError, "periodic"),
        (lambda: OURS.query([[1.0, 2.0]]), ValueError, "vectors of length 3"),
        (lambda: OURS.query([1.0, np.inf, 0.0]), ValueError, "x must be finite"),
        (lambda: OURS.query(X, 0), ValueError, "k must be"),
        (lambda: OURS.query(X, []), ValueError, "k must be"),
        (lambda: OURS.query(X, [0, 1]), ValueError, "k must be"),
        (lambda: OURS.query(X, 1.5), ValueError, "k must be an integer"),
        (lambda: OURS.query(X, [1.5]), ValueError, "k must be an integer"),
        (lambda: OURS.query(X, None), ValueError, "k must be an integer"),
        (lambda: OURS.query(X + 1j), TypeError, "complex data"),
        (lambda: KDTree(X[:, :0]), ValueError, r"shape \(n, m\)"),
        (lambda: OURS.query_pairs(1.0, output_type="list"), ValueError, "'set' or 'ndarray', got 'list'"),
        (lambda: OURS.query(X, p=3), ValueError, "p must be 1, 2 or inf"),
        (lambda: OURS.query_ball_point(X, -1.0), ValueError, "at least 0"),
        (lambda: OURS.query_ball_point(X, [1.0, 2.0]), ValueError, "broadcast"),
    ],
)
def test_what_cannot_be_meant_is_an_error(call, error, says):
    with pytest.raises(error, match=says):
        call()
