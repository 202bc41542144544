"""A mask for each pair in the compiled screens: whatever its shape, and wherever it comes from, the answer is one."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from janelia_core.ml._knn.choose import make_plan
from janelia_core.ml._knn.data.mask import Allowed, Table
from janelia_core.ml._knn.report import Report
from janelia_core.ml._runtime.machine import this_machine
from janelia_core.ml.neighbors import knn, watch_knn
from plans import changed, run
from problems import LOW_FORMATS

CPU = this_machine(torch.device("cpu"))
N, N_CTRS, D, K = 30, 3000, 12, 5
WAYS = {
    "dense, two workers": {"screen": "dense", "workers": 2, "row_block": 9, "pack_bytes": 1 << 24, "cells": 1 << 10},
    "dense, packed panel by panel": {"screen": "dense", "pack_bytes": 0, "panel": 64},
    "dense, packed": {"screen": "dense", "pack_bytes": 1 << 24},
    **{f"dense, {name}": {"screen": "dense", "formats": (name, "float32")} for name in LOW_FORMATS},
    "direct": {"screen": "direct", "workers": 2},
}
TWO = ("dense, packed", "direct")


def points(step: int = 0) -> tuple[Tensor, Tensor]:
    """Return rows and centres, of which none are nearly as far as others; or whole numbers of few steps, which tie."""
    g = torch.Generator().manual_seed(2)
    x, ctrs = (torch.randn(n, D, generator=g) for n in (N, N_CTRS))
    return ((x * step).round(), (ctrs * step).round()) if step else (x, ctrs)


def values(x: Tensor, ctrs: Tensor, metric: str = "euclidean") -> Tensor:
    """Return order values in float64."""
    a, b = x.double(), ctrs.double()
    if metric == "euclidean":
        return (a[:, None] - b).square().sum(-1)
    product = a @ b.T
    return -product if metric == "dot" else 1 - product / (a.norm(dim=1)[:, None] * b.norm(dim=1))


def expected(value: Tensor, table: Tensor, k: int) -> Tensor:
    """Return (k, n): the first k allowed by (value, index), -1 where there are fewer."""
    order = value.masked_fill(~table, torch.inf).sort(dim=1, stable=True).indices[:, :k]
    return order.masked_fill(torch.arange(k) >= table.sum(dim=1, keepdim=True), -1).T


def tables(value: Tensor, k: int = K) -> dict[str, Tensor]:
    """Return masks of many shapes."""
    n, n_ctrs = value.shape
    g = torch.Generator().manual_seed(3)
    chance, j = torch.rand(n, n_ctrs, generator=g), torch.arange(n_ctrs)
    middle = torch.arange(n)[:, None] * n_ctrs // n
    rank = value.argsort(dim=1, stable=True).argsort(dim=1)
    few = torch.tensor([0, 1, k - 1, k, k + 1])[torch.arange(n) % 5]
    return {
        "half": chance < 0.5,
        "nearly all": chance < 0.98,
        "one in a hundred": chance < 0.01,
        "a band": (j - middle).abs() < 40,
        "blocks": (middle // 500) == (j // 500),
        "all but the nearest": rank >= n_ctrs // 2,  # a threshold made of those would leave out all others
        "the farthest few": rank >= n_ctrs - few[:, None],
        "fewer than k": chance.argsort(dim=1).argsort(dim=1) < few[:, None],
        "all or none": (torch.arange(n)[:, None] % 2 == 0).expand(n, n_ctrs),
    }


def tiles_of(table: Tensor) -> Allowed:
    return lambda rows, start, stop: table[rows, start:stop]


def searched(x: Tensor, ctrs: Tensor, allowed: Allowed, metric: str, **changes: object) -> tuple[Tensor, Report]:
    """Search in a given way; also return what was reported."""
    plan = make_plan(len(x), len(ctrs), x.shape[1], K, 10**6, machine=CPU, metric=metric, masked=True)
    with watch_knn() as reports:
        found = run(x, ctrs, changed(plan, at_once_rows=0, **changes), allowed)
    return found, reports[0]


@pytest.mark.parametrize(
    ("way", "metric"),
    [*((way, "euclidean") for way in WAYS), *((way, metric) for way in TWO for metric in ("dot", "cosine"))],
)
def test_a_compiled_screen_answers_with_the_nearest_that_a_row_may_have(way: str, metric: str) -> None:
    x, ctrs = points()
    value = values(x, ctrs, metric)
    for name, table in tables(value).items():
        for allowed in (Table(table), tiles_of(table)):
            found, report = searched(x, ctrs, allowed, metric, **WAYS[way])
            assert torch.equal(found, expected(value, table, K)), name
            assert report.plan.screen == WAYS[way]["screen"]
            assert report.n_exhaustive == report.n_escalated == 0, name  # lists told, also of rows that may have few


@pytest.mark.parametrize("way", TWO)
def test_ties_go_to_the_lowest_index_that_a_row_may_have(way: str) -> None:
    """Also where exact scores break ties themselves, and where a centre has more copies than any list has places."""
    lattice = points(step=1)
    copies = lattice[0] + 0.25, lattice[1][:2].repeat(N_CTRS // 2, 1)
    for x, ctrs in (lattice, copies):
        value = values(x, ctrs)
        for name, table in tables(value).items():
            found, _ = searched(x, ctrs, Table(table), "euclidean", **WAYS[way])
            assert torch.equal(found, expected(value, table, K)), name


@pytest.mark.parametrize("way", TWO)
def test_what_is_not_finite_comes_last_among_what_a_row_may_have(way: str) -> None:
    x, ctrs = points()
    x[3, 0], x[4, 1] = torch.nan, torch.inf
    ctrs[::3, 2], ctrs[1::3, 5] = torch.nan, torch.inf
    value = values(x, ctrs).nan_to_num(1e300, posinf=1e299)
    for name in ("half", "one in a hundred", "fewer than k"):
        table = tables(value)[name]
        rank = value.masked_fill(~table, torch.inf)
        found, _ = searched(x, ctrs, Table(table), "euclidean", **WAYS[way])
        assert torch.equal(found, expected(rank, table, K)), name


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize(("n", "n_ctrs", "d"), [(40, 150, 3), (40, 150, 20), (120, 900, 12)])
def test_small_problems_are_answered_at_one_look(n: int, n_ctrs: int, d: int, metric: str) -> None:
    g = torch.Generator().manual_seed(4)
    x, ctrs = torch.randn(n, d, generator=g), torch.randn(n_ctrs, d, generator=g)
    value = values(x, ctrs, metric)
    for name, table in tables(value).items():
        for mask in (table, tiles_of(table)):
            found = knn(x, ctrs, K, mask=mask, metric=metric).indices
            assert torch.equal(found.T, expected(value, table, K)), name
    lattice = (x * 2).round(), (ctrs * 2).round()
    table = tables(value)["half"]
    found = knn(*lattice, K, mask=table).indices
    assert torch.equal(found.T, expected(values(*lattice), table, K))


def of_strides(table: Tensor) -> dict[str, Tensor]:
    padded = torch.ones(2 * N + 1, N_CTRS + 3, dtype=torch.bool)
    padded[1::2, 2:-1] = table
    return {
        "transposed": table.T.contiguous().T,
        "a window": padded[1::2, 2:-1],
        "every other column": torch.stack([table, ~table], dim=2)[..., 0],
        "of bytes other than one": (table.to(torch.uint8) * 6).view(torch.bool),
    }


def test_a_mask_is_read_where_it_stands_whatever_its_strides() -> None:
    x, ctrs = points()
    value = values(x, ctrs)
    half = tables(value)["half"]
    for name, table in of_strides(half).items():
        for way in TWO:
            found, _ = searched(x, ctrs, Table(table), "euclidean", **WAYS[way])
            assert torch.equal(found, expected(value, half, K)), name


@pytest.mark.parametrize("shape", [(2, N, N_CTRS), (N, N_CTRS), (1, 1, N_CTRS), (2, 1, N_CTRS), (1, N, N_CTRS)])
def test_masks_broadcast_over_batches(shape: tuple[int, ...]) -> None:
    x, ctrs = points()
    mask = torch.rand(shape, generator=torch.Generator().manual_seed(5)) < 0.3
    batch = torch.stack([x, -x]), torch.stack([ctrs, ctrs.flip(0)])
    found = knn(*batch, K, mask=mask, max_memory=8 << 20)
    for b, table in enumerate(mask.expand(2, N, N_CTRS)):
        assert torch.equal(found.indices[b].T, expected(values(batch[0][b], batch[1][b]), table, K))


def test_a_function_is_asked_for_few_pairs_at_once() -> None:
    x, ctrs = points()
    table, asked = tables(values(x, ctrs))["half"], []

    def mask(rows: Tensor, first: int, last: int) -> Tensor:
        asked.append((len(rows), last - first))
        return table[rows, first:last]

    for memory in (1 << 20, 64 << 20):
        asked.clear()
        found = knn(x, ctrs, K, mask=mask, m=100, max_memory=memory).indices
        assert torch.equal(found.T, expected(values(x, ctrs), table, K))
        assert max(columns for _, columns in asked) <= 100
        assert max(rows * columns for rows, columns in asked) <= memory // 8


PLANS: dict[str, Callable[[], str]] = {
    "dense": lambda: make_plan(2000, 20000, 64, 10, 20000, machine=CPU, masked=True).screen,
    "direct": lambda: make_plan(4, 100_000, 64, 10, 100_000, machine=CPU, masked=True).screen,
    "none": lambda: make_plan(200, 500, 8, 10, 500, machine=CPU, masked=True).screen,
}


@pytest.mark.parametrize("screen", PLANS)
def test_plans_give_masks_the_screen_that_they_would_give_none(screen: str) -> None:
    assert PLANS[screen]() == screen
