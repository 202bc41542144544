"""Radius searches in parts, through transforms of torch, or of extreme numbers, answer as plain ones."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from janelia_core.ml import CenterIndex, knn, radius, radius_count
from janelia_core.ml._knn.radius import kept_parts
from janelia_core.ml._neighbors.radius import nearest

G = torch.Generator().manual_seed(0)
X, CTRS = torch.rand(70, 3, generator=G), torch.rand(90, 3, generator=G)
CLOUDS, OTHERS = torch.rand(4, 20, 3, generator=G), torch.rand(4, 30, 3, generator=G)
MASK = torch.rand(70, 90, generator=G) < 0.5
CALLS: dict[str, dict[str, Any]] = {
    "ctrs": {"x": X, "ctrs": CTRS},
    "itself": {"x": X},
    "piles of itself": {"x": X[torch.arange(70) % 5]},
    "mask": {"x": X, "ctrs": CTRS, "mask": MASK},
    "subset": {"x": X, "ctrs": CTRS, "mask": MASK[0]},
    "function": {"x": X, "ctrs": CTRS, "mask": lambda rows, first, last: MASK[rows, first:last]},
    "by index": {"x": X, "ctrs": CTRS, "sort_by": "index"},
    "clouds": {"x": CLOUDS, "ctrs": OTHERS},
    "clouds of themselves": {"x": CLOUDS, "lengths": torch.tensor([20, 0, 13, 1])},
    "ragged": {"x": X, "ctrs": CTRS, "x_batch": torch.arange(70) // 20, "ctrs_batch": torch.arange(90) // 40 * 2},
    "masked clouds": {"x": CLOUDS, "ctrs": OTHERS, "mask": torch.rand(4, 20, 30, generator=G) < 0.5},
}


@pytest.mark.parametrize("name", CALLS)
def test_the_nearest_within_are_the_same_by_tables_of_a_few_rows(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = [radius(**CALLS[name], r=0.3, max_neighbors=most) for most in (1, 1000)]
    monkeypatch.setattr(nearest, "_PER_SLOT", 1 << 24)
    assert len(whole[1].indices) > len(whole[0].indices) > 0
    for most, found in zip((1, 1000), whole, strict=True):
        again = radius(**CALLS[name], r=0.3, max_neighbors=most)
        assert all(map(torch.equal, again, found))


def test_a_limit_of_neighbours_takes_no_table_of_all_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    search = nearest.search
    monkeypatch.setattr(
        nearest, "search", lambda *args, **more: sizes.append((found := search(*args, **more)).nbytes) or found
    )
    x = torch.rand(2000, 3, generator=G)
    assert len(radius(x, r=0.05, max_neighbors=2000, max_memory=1 << 20).indices) < 20_000
    assert sizes == []  # rows have fewer
    found = radius(x, r=2.0, max_neighbors=100, max_memory=1 << 20)
    assert max(sizes) <= 1 << 20
    assert torch.equal(found.padded().indices, knn(x, k=100).indices)


@pytest.mark.parametrize("expected", [1 << 8, 1 << 18])
def test_kept_centres_in_parts_leave_rows_out_by_their_number(expected: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_parts, "_EXPECTED", expected)  # of which as many rows are searched together
    x = torch.rand(500, 2, generator=G)
    x[400:450] = x[:50]
    index = CenterIndex(x).without(torch.arange(100, 120))
    left = torch.ones(500, dtype=torch.bool)
    left[100:120] = False
    own = torch.eye(500, dtype=torch.bool)
    for r in (0.02, 0.4):
        assert all(map(torch.equal, index.radius(None, r), radius(x, x, r, mask=left & ~own)))


def test_transforms_find_what_plain_calls_do() -> None:
    index = CenterIndex(CTRS).without(torch.arange(0, 90, 3))
    calls = {
        "clouds": lambda x: radius(x, OTHERS, 0.5, max_neighbors=3),
        "some are gone": lambda x: index.radius(x, 0.4),
        "some are gone, nearest": lambda x: index.radius(x, 0.4, max_neighbors=3),
    }
    for name, call in calls.items():
        x = CLOUDS if name == "clouds" else X

        def summed(x: torch.Tensor, call: Any = call) -> tuple[torch.Tensor, Any]:
            found = call(x)
            return found.distances.sum(), found

        plain, gradient = call(x), x.clone().requires_grad_()
        call(gradient).distances.sum().backward()
        by_func, found = torch.func.grad(summed, has_aux=True)(x)
        assert all(map(torch.equal, found, plain))
        torch.testing.assert_close(by_func, gradient.grad)


@pytest.mark.parametrize("metric", ["euclidean", "sqeuclidean", "dot", "cosine", "manhattan", "chebyshev"])
def test_subnormal_centres_have_radii(metric: str) -> None:
    least = 2.0**-1074
    x, ctrs = torch.tensor([[0.0], [4.0]]).double() * least, torch.tensor([[0.0], [1.0], [3.0]]).double() * least
    expected = {
        "cosine": ([1, 2], [0, 2], [0, 1, 2, 1, 2, 0], [3, 3]),
        "dot": ([0, 1, 2, 2, 1, 0], [3, 3], [0, 1, 2, 2, 1, 0], [3, 3]),
        "sqeuclidean": ([0, 1, 2, 2, 1, 0], [3, 3], [0, 1, 2, 2, 1, 0], [3, 3]),
    }.get(metric, ([0, 1, 2], [2, 1], [0, 1, 2, 2, 1, 0], [3, 3]))
    for r, indices, counts in ((least, *expected[:2]), (1.0, *expected[2:])):
        found = radius(x, ctrs, r, metric=metric)
        assert (found.indices.tolist(), found.counts.tolist()) == (indices, counts)


def test_there_may_be_no_batch_at_all() -> None:
    x, ctrs = torch.zeros(0, 5, 3), torch.zeros(0, 4, 3)
    for most in (None, 2):
        assert [len(part) for part in radius(x, ctrs, max_neighbors=most)] == [1, 0, 0]
    assert radius_count(x, ctrs).shape == (0, 5)
    assert knn(x, ctrs, k=2, r=1.0).indices.shape == (0, 5, 2)


@pytest.mark.parametrize("metric", ["euclidean", "sqeuclidean", "dot", "cosine", "manhattan", "chebyshev"])
def test_radii_are_what_is_stored_where_subnormals_are_flushed(metric: str) -> None:
    least = 2.0**-1074
    ctrs = torch.tensor([0.0, 1.0, 5.0]).double()[:, None] * least
    ctrs = torch.cat([ctrs, torch.tensor([[3.0], [math.inf], [math.nan]]).double()])
    x, r = torch.zeros(8, 1, dtype=torch.float64), torch.tensor([0.0, 1.0, 4.0, 5.0]).double() * least
    r = torch.cat([r, torch.tensor([2.0, 1e300, 1e308, math.inf], dtype=torch.float64)])
    expected = [radius(x, ctrs, r, metric=metric, max_neighbors=most) for most in (None, 6)]
    torch.set_flush_denormal(True)
    try:
        found = [radius(x, ctrs, r, metric=metric, max_neighbors=most) for most in (None, 6)]
    finally:
        torch.set_flush_denormal(False)
    for ours, theirs in zip(found, expected, strict=True):
        assert torch.equal(ours.offsets, theirs.offsets)
        assert torch.equal(ours.indices, theirs.indices)


def test_an_index_of_which_nothing_is_left_has_no_neighbours() -> None:
    x = torch.rand(50, 3, generator=G)
    for index in (CenterIndex(x), CenterIndex(x[:20]).with_rows(x[20:])):
        empty = index.without(torch.arange(50))
        for found in (empty.radius(x[:3], 9.0), empty.radius(r=9.0), empty.radius(x[:3], 9.0, max_neighbors=2)):
            assert not found.counts.any()


def test_removed_centres_stay_out_where_a_thread_flushes_subnormals() -> None:
    x = torch.rand(40, 2, dtype=torch.float64, generator=G)
    x[0] = 1e-310
    index = CenterIndex(x).without(torch.arange(20, 40))
    expected = index.radius(x[:5], 9.0)
    torch.set_flush_denormal(True)
    try:
        found = index.radius(x[:5], 9.0)
    finally:
        torch.set_flush_denormal(False)
    assert torch.equal(found.indices, expected.indices)
    assert int(found.indices.max()) < 20
