"""Every way through the search gives the one answer at every exponent: against exact integers, never within a tolerance."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from extremes import DTYPES, Extreme, problem
from janelia_core.ml._knn import small, small_kernels
from janelia_core.ml._knn.distances import distances
from janelia_core.ml._knn.find import find
from janelia_core.ml._knn.merge import Running, compare, extend
from janelia_core.ml._knn.plan import make_plan
from janelia_core.ml._knn.points import Points
from janelia_core.ml._knn.search import search
from oracle import exact_order, nearest, points
from problems import LOW_FORMATS
from test_distances import true_distance

METRICS = ("euclidean", "dot", "cosine")  # "sqeuclidean" orders as "euclidean"; distances are asked for all four
SEEDS = range(84)  # twice through all shapes and scales

Search = Callable[[Tensor, Tensor, int, str], Tensor]


def forced(**changes: object) -> Search:
    """Return a search whose plan is changed; blocks of a few centres grow with these, so that some seven are left."""

    def run(x: Tensor, ctrs: Tensor, k: int, metric: str) -> Tensor:
        plan = make_plan(len(x), len(ctrs), x.shape[1], k, 10**6, metric=metric)
        own = dict(changes)
        if own.get("width") == -1:
            own["width"] = k
        if "fallback_ctrs" in own:
            own["fallback_ctrs"] = max(own["fallback_ctrs"], len(ctrs) // 7)
        return search(Points(x), Points(ctrs), replace(plan, **own))

    return run


def small_by(kernels: bool) -> Search:
    """Return a search that looks at all distances at once."""

    def run(x: Tensor, ctrs: Tensor, k: int, metric: str) -> Tensor:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(small, "_KERNELS", small_kernels.__name__ if kernels else "no such module")
            patch.setattr(small, "_PATIENCE", torch.inf)
            return find(x, ctrs, k, metric=metric)

    return run


def merged(x: Tensor, ctrs: Tensor, k: int, metric: str) -> Tensor:
    """Search centres that come in blocks, the first of them smaller than k, as from a file."""
    running = Running.empty(len(x), k, metric)
    edges = sorted({0, 1, len(ctrs) // 2, len(ctrs)})
    for start, stop in zip(edges, edges[1:], strict=False):
        extend(running, x, ctrs[start:stop], start, Points(ctrs), max_memory=2**24)
    return running.indices.T


def masked(x: Tensor, ctrs: Tensor, k: int, metric: str) -> Tensor:
    """Search under a mask that denies nothing."""
    return find(x, ctrs, k, metric=metric, allowed=lambda rows, start, stop: torch.ones(len(rows), stop - start) > 0)


def in_little_memory(x: Tensor, ctrs: Tensor, k: int, metric: str) -> Tensor:
    return find(x, ctrs, k, m=3, max_memory=2**20, metric=metric)


WAYS: dict[str, Search] = {
    "the small way by torch operations": small_by(kernels=False),
    "the small way by kernels": small_by(kernels=True),
    "a tree": forced(screen="tree"),
    **{f"dense scores in {name}": forced(screen="dense", formats=(name, "float32")) for name in LOW_FORMATS},
    "dense scores in float32": forced(screen="dense", formats=("float32",), workers=2, row_block=64),
    "the portable screen": forced(screen="portable"),
    "the portable screen with no candidate to spare": forced(screen="portable", width=-1, ctr_block=29),
    "the portable screen of 8 bits": forced(screen="portable", operand_bits=8),
    "every centre": forced(screen="none", fallback_rows=40, fallback_ctrs=17, fallback_pairs=400),
    "every centre by kernels": forced(screen="none", kernels=True),
    "blocks of centres, merged": merged,
    "a mask": masked,
    "a budget of 1 MiB": in_little_memory,
}


@functools.cache
def solved(seed: int, metric: str) -> tuple[Extreme, Tensor]:
    """Return the problem of a seed and its exact answer."""
    it = problem(seed)
    return it, nearest(it.x, it.ctrs, it.k, metric)


def wrong(way: str, metric: str, seeds: range = SEEDS) -> list[str]:
    """Return which problems are answered wrong, and in how many rows."""
    found = []
    for seed in seeds:
        it, expected = solved(seed, metric)
        rows = (WAYS[way](it.x, it.ctrs, it.k, metric) != expected).any(dim=0)
        if bool(rows.any()):
            found.append(f"{it.name}, {metric} by {way}: {int(rows.sum())} wrong rows")
    return found


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("way", WAYS)
def test_the_answer_is_the_exact_one_at_every_exponent_by(way: str, metric: str) -> None:
    assert wrong(way, metric) == []


@pytest.mark.parametrize("metric", (*METRICS, "sqeuclidean"))
def test_distances_are_rounded_once_at_every_exponent(metric: str) -> None:
    bad = []
    for seed in SEEDS:
        it = problem(seed)
        indices = torch.randint(-1, len(it.ctrs), (len(it.x), 3), generator=torch.Generator().manual_seed(seed))
        got = distances(it.x, it.ctrs, indices, metric)
        for i, row in enumerate(it.x.tolist()):
            for slot, j in enumerate(indices[i].tolist()):
                truth = torch.inf if j < 0 else true_distance(metric, row, it.ctrs[j].tolist(), got.dtype)
                if float(got[i, slot]) != truth:
                    bad.append(f"{it.name}, {metric}: row {i}, centre {j}: {float(got[i, slot])!r} for {truth!r}")
    assert bad == []


@pytest.mark.parametrize("metric", METRICS)
def test_two_centres_are_compared_exactly_at_every_exponent(metric: str) -> None:
    bad = []
    for seed in SEEDS:
        it = problem(seed)
        g = torch.Generator().manual_seed(seed)
        one, other = (torch.randint(0, len(it.ctrs), (len(it.x),), generator=g) for _ in range(2))
        got = compare(it.x, Points(it.ctrs), one, other, metric).tolist()
        rows, ctrs = points(it.x.tolist(), it.ctrs.tolist())
        for i, (a, b) in enumerate(zip(one.tolist(), other.tolist(), strict=True)):
            first = exact_order(rows[i], [ctrs[a], ctrs[b]], 1, metric) == [0]
            last = exact_order(rows[i], [ctrs[b], ctrs[a]], 1, metric) == [1]
            if got[i] != (-1 if first and last else 0 if first else 1):
                bad.append(f"{it.name}, {metric}: row {i}, centres {a} and {b}")
    assert bad == []


def test_the_problems_reach_both_ends_of_every_range() -> None:
    for dtype in DTYPES:
        sizes = torch.cat(
            [
                torch.cat([it.x, it.ctrs]).abs().double().flatten()
                for it in map(problem, range(600))
                if it.x.dtype == dtype
            ]
        )
        info = torch.finfo(dtype)
        assert sizes[sizes > 0].min() < info.smallest_normal
        assert sizes.max() > info.max / 4
        assert torch.isfinite(sizes).all()
