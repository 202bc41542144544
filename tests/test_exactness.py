"""The answer equals an independent oracle's, index by index, on data made to break it."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given

from janelia_core.ml._knn import reference
from janelia_core.ml.extra_torch_functions import knn_do, knn_mc
from oracle import nearest, wrong_rows
from problems import FLOATS, INTEGERS, PROBLEMS, far_offset, gaussian


@pytest.mark.parametrize("name", PROBLEMS)
def test_the_answer_is_the_exact_one(name):
    x, ctrs, k, answer = PROBLEMS[name]()
    expected = nearest(x, ctrs, k)
    if answer is not None:
        assert torch.equal(expected, answer), "the oracle contradicts the problem's own answer"
    assert torch.equal(knn_mc(x, ctrs, k, ctrs.shape[0]), expected)


@pytest.mark.parametrize("name", PROBLEMS)
def test_the_reference_agrees_with_the_oracle(name):
    x, ctrs, k, _ = PROBLEMS[name]()
    assert torch.equal(reference.nearest(x[:4], ctrs, k), nearest(x[:4], ctrs, k))


@pytest.mark.parametrize("name", PROBLEMS)
def test_the_order_of_all_centres_is_the_exact_one(name):
    x, ctrs, _, _ = PROBLEMS[name]()
    assert torch.equal(knn_mc(x[:3], ctrs, len(ctrs), 50), nearest(x[:3], ctrs, len(ctrs)))


def test_the_oracle_catches_a_planted_wrong_neighbour():
    x, ctrs, k, _ = gaussian()
    planted = knn_mc(x, ctrs, k, 100)
    planted[[2, 3], 7] = planted[[3, 2], 7]
    assert wrong_rows(x, ctrs, planted) == [7]


@pytest.mark.parametrize("x_dtype", [*FLOATS, *INTEGERS])
@pytest.mark.parametrize("c_dtype", [*FLOATS, *INTEGERS])
def test_mixed_dtypes_compare_by_stored_value(x_dtype, c_dtype):
    x, ctrs = gaussian(x_dtype, n=6).x, gaussian(c_dtype, n_ctrs=90).ctrs
    assert torch.equal(knn_mc(x, ctrs, 4, 33), nearest(x, ctrs, 4))


@pytest.mark.parametrize("dtype", [torch.uint16, torch.uint32, torch.uint64, torch.bool, torch.float8_e4m3fn])
def test_rare_dtypes_compare_by_stored_value(dtype):
    x, ctrs, k, _ = gaussian(torch.uint8, n_ctrs=90)
    x, ctrs = x.to(dtype), ctrs.to(dtype)
    as_lists = (x.to(torch.float64), ctrs.to(torch.float64))
    assert torch.equal(knn_mc(x, ctrs, k, 1000), nearest(*as_lists, k))


def test_uint64_beyond_int64_compares_by_stored_value():
    values = torch.tensor([[2**63 - 1], [2**63], [2**63 + 3], [5]], dtype=torch.uint64)
    assert knn_mc(values, values, 4, 2).T.tolist() == [[0, 1, 2, 3], [1, 0, 2, 3], [2, 1, 0, 3], [3, 0, 1, 2]]


def test_int64_and_float64_compare_by_stored_value():
    x = torch.tensor([[2**60 + 1]])
    ctrs = torch.tensor([[2.0**60 + 2**8], [2.0**60], [-1.5], [2.0**60 - 2**7]], dtype=torch.float64)
    assert torch.equal(knn_mc(x, ctrs, 4, 9), nearest(x, ctrs, 4))


def test_small_negative_integers_compare_with_floats_beside_them():
    x = torch.tensor([[-1, -1]])
    ctrs = torch.tensor([[2e-7, 2e-7], [0.0, 2.6e-7]], dtype=torch.float64) - 1.0
    assert knn_mc(x, ctrs, 2, 9).T.tolist() == [[1, 0]]
    assert torch.equal(knn_mc(ctrs, x.expand(40, 2), 3, 9), nearest(ctrs, x.expand(40, 2), 3))


def test_a_view_that_negates_compares_by_its_values():
    values = torch.randn(3000, 3, generator=torch.Generator().manual_seed(0))
    negated = torch._neg_view(values)  # as `z.conj().imag` is
    expected = knn_mc(values, -values, 3, 9999)
    assert torch.equal(knn_mc(values, negated, 3, 9999), expected)
    assert torch.equal(knn_mc(negated, values, 3, 9999), knn_mc(-values, values, 3, 9999))
    assert torch.equal(knn_mc(values, values, 3, 9999), knn_mc(negated, negated, 3, 9999))


numbers = st.one_of(
    st.integers(-3, 3).map(float),
    st.floats(width=32),
    st.floats(),
    st.sampled_from([1.0, 1.0 + 2**-52, 1.0 - 2**-53, 1e308, -1e308, 5e-324, 1e-160, 1e16, 0.1]),
)


@st.composite
def tables(draw):
    """A pair of small tables of hard numbers in some floating dtype, and a k."""
    dtype = draw(st.sampled_from(FLOATS))
    d, n, n_ctrs = draw(st.integers(0, 3)), draw(st.integers(1, 3)), draw(st.integers(1, 48))
    pool = draw(st.lists(numbers, min_size=1, max_size=6))
    pick = st.sampled_from(pool)
    rows = [draw(st.lists(pick, min_size=d, max_size=d)) for _ in range(n)]
    seed = draw(st.integers(0, 99))
    ids = torch.randint(len(pool), (n_ctrs, d), generator=torch.Generator().manual_seed(seed))
    ctrs = torch.tensor(pool, dtype=torch.float64)[ids]
    x = torch.tensor(rows, dtype=torch.float64).reshape(n, d)
    return x.to(dtype), ctrs.to(dtype), draw(st.integers(1, n_ctrs))


@given(tables(), st.sampled_from([5, 24, 100]))
def test_any_table_of_hard_numbers_is_ordered_exactly(problem, m):
    x, ctrs, k = problem
    assert torch.equal(knn_mc(x, ctrs, k, m), nearest(x, ctrs, k))


@given(tables(), st.integers(1, 48), st.integers(0, 5))
def test_centre_dropout_is_exact_over_the_drawn_centres(problem, n_used, seed):
    x, ctrs, k = problem
    n_used = min(max(n_used, k), len(ctrs))
    torch.manual_seed(seed)
    got = knn_do(x, ctrs, k, 20, n_used)
    torch.manual_seed(seed)
    used = torch.randperm(len(ctrs))[:n_used].sort().values if n_used < len(ctrs) else torch.arange(len(ctrs))
    assert torch.equal(got, used[nearest(x, ctrs[used], k)])


def test_points_far_from_the_origin_keep_their_neighbours_where_cdist_loses_them():
    x, ctrs, k, _ = far_offset()
    expected = nearest(x, ctrs, k)
    assert torch.equal(knn_mc(x, ctrs, k, 1000), expected)
    expanded = torch.cdist(x, ctrs, compute_mode="use_mm_for_euclid_dist").topk(k, largest=False).indices.T
    assert not torch.equal(expanded, expected)


def test_it_agrees_with_plain_broadcasting_where_there_are_no_ties():
    x, ctrs, k, _ = gaussian(torch.float64, n=200, n_ctrs=500)
    plain = (x[:, None] - ctrs[None]).square().sum(dim=-1).topk(k, largest=False).indices.T
    assert torch.equal(knn_mc(x, ctrs, k, 64), plain)
