"""What a sort of centres and walks among them take, of memory and of time: pure arithmetic.

Work is in nanoseconds of one core, measured on a Zen 4; only ratios matter.
"""

from __future__ import annotations

import math

from janelia_core.ml._knn.metrics.metric import DISTANCE
from janelia_core.ml._knn.plan.demand import Cost, Demand
from janelia_core.ml._knn.problem import Problem

_PER_CTR = 56  # bytes, sorted and while that is done
_MOST_CTRS = (1 << 31) - 3
_CACHED = 1 << 16  # centres that caches hold


def why_not(problem: Problem, workers: int) -> str:
    """Return why the screen does not serve, or nothing."""
    if problem.d != 1 or problem.form != DISTANCE or problem.n_ctrs > _MOST_CTRS:
        return "distances of one coordinate alone lie on a line"
    if not problem.machine.kernels:
        return "Numba kernels need a CPU tensor and an installed numba"
    return "the compiled screens take no masks" if problem.masked else ""


def cost(problem: Problem) -> Cost:
    """Return the work of the sort, and of walks: a search by halves, and a step for each neighbour."""
    n_ctrs, far = problem.n_ctrs, max(0.0, math.log2(problem.n_ctrs / _CACHED))
    halves = 4.0 * math.log2(n_ctrs + 2) + 15.0 * far
    sort = n_ctrs * ((20.0 if problem.float32 else 120.0) + 5.0 * far)
    return Cost(problem.unpaid("line", sort) + problem.n_smps * (20.0 + halves + 6.0 * problem.k))


def demand(problem: Problem, room: int, workers: int, rival: Cost) -> Demand | str:
    """Return what the screen asks for, or nothing where another takes less or it does not fit."""
    held = _PER_CTR * problem.n_ctrs + workers * 256 * problem.k
    if cost(problem).work > rival.work or held > room // 4 * 3:
        return ""
    return Demand(
        held=held,
        per_row=48,
        width=1,
        reason="centres of one coordinate sorted, and walks outward, by compiled kernels",
        kept=True,
        sifts=True,
    )
