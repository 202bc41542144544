"""Centres that occur more often than anyone can be answered with: dropped before a dense screen sees them."""

from __future__ import annotations

import pytest
import torch

from janelia_core.ml._knn.data import copies
from janelia_core.ml._knn.data.copies import without_spare_copies
from janelia_core.ml._knn.data.points import Points
from janelia_core.ml.extra_torch_functions import knn_mc
from janelia_core.ml.neighbors import knn, watch_knn
from oracle import nearest

ROOM = 1 << 30


def repeated(n: int, n_distinct: int, d: int = 3, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    g = torch.Generator().manual_seed(0)
    return torch.randn(n_distinct, d, generator=g).to(dtype)[torch.randint(n_distinct, (n,), generator=g)]


def first_copies(values: torch.Tensor, k: int) -> list[int]:
    seen: dict[tuple[float, ...], int] = {}
    kept = []
    for i, row in enumerate(values.tolist()):
        seen[tuple(row)] = seen.get(tuple(row), 0) + 1
        if seen[tuple(row)] <= k:
            kept.append(i)
    return kept


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.int32])
@pytest.mark.parametrize("k", [1, 4, 50])
def test_of_equal_centres_the_first_k_stay(dtype, k):
    values = repeated(3000, 70, dtype=dtype)
    values[5::7] = torch.arange(len(values[5::7]) * 3).view(-1, 3).to(dtype)
    kept = without_spare_copies(Points(values, chunk=700), k, ROOM)
    assert kept.row_numbers(torch.arange(len(kept))).tolist() == first_copies(values, k)


def test_zeros_of_either_sign_are_equal():
    values = torch.zeros(40, 2)
    values[::2] *= -1.0
    assert without_spare_copies(Points(values), 3, ROOM).subset.tolist() == [0, 1, 2]


def test_of_a_subset_numbers_stay_those_of_the_whole():
    values = repeated(200, 3)
    subset = torch.arange(10, 200, 2)
    kept = without_spare_copies(Points(values, subset), 2, ROOM)
    assert kept.subset.tolist() == [int(subset[i]) for i in first_copies(values[subset], 2)]


def test_equal_codes_of_unequal_centres_drop_none_of_them(monkeypatch):
    monkeypatch.setattr(copies, "_codes", lambda values: torch.zeros(len(values), dtype=torch.int64))
    values = repeated(60, 20)
    assert len(without_spare_copies(Points(values), 1, ROOM)) == 60
    assert len(without_spare_copies(Points(values[:1].repeat(60, 1)), 1, ROOM)) == 1


def test_nothing_is_looked_for_without_copies_or_room():
    points, crowded = Points(torch.randn(500, 3)), Points(repeated(500, 5))
    assert without_spare_copies(points, 2, ROOM) is points
    assert without_spare_copies(crowded, 2, 100) is crowded
    assert without_spare_copies(crowded, 500, ROOM) is crowded


def test_codes_of_small_integers_differ():
    g = torch.Generator().manual_seed(0)
    values = torch.randint(0, 2, (20_000, 64), generator=g).unique(dim=0)
    assert len(copies._codes(values).unique()) == len(values)


@pytest.mark.parametrize("metric", ["euclidean", "dot", "cosine"])
def test_many_copies_crowd_no_list(metric):
    x, ctrs = torch.randn(2000, 40, generator=torch.Generator().manual_seed(1)), repeated(2400, 40, d=40)
    with watch_knn() as reports:
        found = knn(x, ctrs, 5, metric=metric).indices
    assert reports[0].plan.screen == "dense"
    assert (reports[0].n_escalated, reports[0].n_exhaustive) == (0, 0)
    if metric == "euclidean":
        assert torch.equal(knn_mc(x[:9], ctrs, 5, 2400), nearest(x[:9], ctrs, 5))
        assert torch.equal(found[:9].T, nearest(x[:9], ctrs, 5))
