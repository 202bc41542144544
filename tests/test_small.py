"""Small problems: one look at all distances proves most rows, by torch operations or by compiled kernels."""

from __future__ import annotations

import functools
import sys

import pytest
import torch

from janelia_core.ml._knn.brief import lanes as brief
from janelia_core.ml._knn.brief import pieces
from janelia_core.ml._knn.brief.door import nearest_briefly
from janelia_core.ml._knn.choose import make_plan
from janelia_core.ml._knn.small import at_once as small
from janelia_core.ml._knn.small import lanes
from janelia_core.ml._knn.small.terms import terms as known
from janelia_core.ml._runtime import workers
from janelia_core.ml.extra_torch_functions import knn_do, knn_mc
from janelia_core.ml.neighbors import watch_knn
from oracle import nearest, wrong_rows
from problems import PROBLEMS, gaussian


def looked(monkeypatch, x, ctrs, k, kernels):
    """Search with or without compiled kernels; return the answer and how many rows the look proved."""
    monkeypatch.setattr(small, "_KERNELS", lanes.__name__ if kernels else "no such module")
    monkeypatch.setattr(small, "_PATIENCE", torch.inf)
    with watch_knn() as reports:
        got = knn_mc(x, ctrs, k, len(ctrs))
    return got, reports[0].n_exhaustive


@pytest.mark.parametrize("name", PROBLEMS)
def test_kernels_and_torch_operations_give_the_one_answer(monkeypatch, name):
    x, ctrs, k, _ = PROBLEMS[name]()
    x = x[:8]
    for columns in (1, 9):  # all distances, and a product first where the dtype is float32
        wide_x, wide_ctrs = x.repeat(1, columns), ctrs.repeat(1, columns)
        expected = nearest(wide_x, wide_ctrs, k)
        for kernels in (True, False):
            assert torch.equal(looked(monkeypatch, wide_x, wide_ctrs, k, kernels)[0], expected)


@pytest.mark.parametrize("d", [1, 3, 6, 7, 16, 65])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16])
@pytest.mark.parametrize(("n_ctrs", "k"), [(1, 1), (5, 5), (64, 3), (65, 64), (300, 7)])
def test_gaussian_rows_are_proven_by_the_look(monkeypatch, d, dtype, n_ctrs, k):
    x, ctrs, _, _ = gaussian(dtype, n=12, n_ctrs=n_ctrs, d=d)
    got, proven = looked(monkeypatch, x, ctrs, k, kernels=True)
    assert wrong_rows(x, ctrs, got) == []
    assert proven == 12 or dtype == torch.float16 or d == 1


@pytest.mark.parametrize("d", [2, 20])
def test_rows_that_no_look_can_tell_of_are_searched_again_among_drawn_centres(monkeypatch, d):
    x, ctrs = torch.full((4, d), torch.inf), torch.zeros(9, d)
    monkeypatch.setattr(small, "_KERNELS", lanes.__name__)
    torch.manual_seed(0)
    got = knn_do(x, ctrs, 2, 9, 5)
    torch.manual_seed(0)
    assert torch.equal(got, torch.randperm(9)[:5].sort().values[:2, None].repeat(1, 4))


@pytest.mark.parametrize("d", [2, 20])
def test_ties_of_whole_numbers_need_no_second_look(monkeypatch, d):
    g = torch.Generator().manual_seed(0)
    x, ctrs = (torch.randint(-2, 3, (n, d), generator=g).float() for n in (30, 200))
    got, proven = looked(monkeypatch, x, ctrs, 9, kernels=True)
    assert proven == 30
    assert wrong_rows(x, ctrs, got) == []


def sum_that_loses_its_terms(g):
    ctrs = torch.full((2, 16), 0.99 * 2.0**-12.5)  # their squares are too small to be added to 1, one by one
    ctrs[0, 0], ctrs[1], ctrs[1, 0] = 1.0, 0.0, 1.0 + 2.0**-23
    return torch.zeros(1, 16), ctrs


def far_from_the_origin(g):
    return 100 + 0.1 * torch.randn(10, 64, generator=g), 100 + 0.1 * torch.randn(200, 64, generator=g)


@pytest.mark.parametrize("points", [sum_that_loses_its_terms, far_from_the_origin])  # squared gaps, products
def test_keys_without_their_error_bound_are_caught(monkeypatch, points):
    x, ctrs = points(torch.Generator().manual_seed(0))
    assert wrong_rows(x, ctrs, looked(monkeypatch, x, ctrs, 1, kernels=True)[0]) == []
    monkeypatch.setattr(small, "terms", lambda *what: known(*what)._replace(slack=(0.0, 0.0)))
    assert wrong_rows(x, ctrs, looked(monkeypatch, x, ctrs, 1, kernels=True)[0]) != []


def test_distances_without_their_error_bound_are_caught(monkeypatch):
    x, ctrs, k, answer = PROBLEMS["swapped-coordinates"]()
    monkeypatch.setattr(small.DistanceBound, "of", lambda d, exact: small.DistanceBound(0.0, 0.0))
    indices = small.nearest_at_once(x, ctrs, make_plan(len(x), len(ctrs), x.shape[1], k, 1000))[0]
    got, _ = looked(monkeypatch, x, ctrs, k, kernels=True)
    assert not torch.equal(got, answer) or not torch.equal(indices, answer)


def test_kernels_are_loaded_when_torch_has_taken_as_long(monkeypatch):
    plan = make_plan(100, 50, 3, 5, 50)
    monkeypatch.setattr(small, "_spent", 0.0)
    assert not small._wants_kernels(plan, 100)
    monkeypatch.setattr(small, "_spent", small._PATIENCE / 2)
    monkeypatch.delitem(sys.modules, "numba", raising=False)
    assert not small._wants_kernels(plan, 100)
    monkeypatch.setitem(sys.modules, "numba", sys)  # its import takes longer than the kernels of small problems
    assert small._wants_kernels(plan, 100)
    monkeypatch.delitem(sys.modules, "numba")
    monkeypatch.setattr(small, "_spent", small._PATIENCE + 0.1)
    assert small._wants_kernels(plan, 100)


@pytest.mark.parametrize("rounded", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_threads_that_share_the_rows_of_a_brief_search_change_no_answer(monkeypatch, dtype, rounded):
    x, ctrs, k, _ = gaussian(dtype, n=100, n_ctrs=300, d=7)
    asked = functools.partial(nearest_briefly, x, ctrs, k, None, "euclidean", 1 << 28, rounded=rounded)
    alone, shared = asked(), []  # the modules are there: `lanes` was imported
    monkeypatch.setattr(brief, "_PER_THREAD", 1)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    monkeypatch.setattr(pieces, "shared", lambda *args: shared.append(args[2]) or workers.shared(*args))
    several = asked()
    assert shared == [3]
    assert torch.equal(several.indices, alone.indices)
    assert several.distances is alone.distances is None or torch.equal(several.distances, alone.distances)
    assert torch.equal(several.indices.T if rounded else several.indices, nearest(x, ctrs, k))
    x[17] = torch.nan
    assert asked() is None
