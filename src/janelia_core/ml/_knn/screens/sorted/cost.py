"""What it takes to sort all distances of a row, of memory and of time: pure arithmetic.

Work is in nanoseconds of one core, measured on a Zen 4 (AVX-512); only ratios matter.
"""

from __future__ import annotations

from typing import NamedTuple

from janelia_core.ml._knn.metrics.metric import DISTANCE
from janelia_core.ml._knn.plan.demand import Cost, Demand
from janelia_core.ml._knn.problem import Problem

_FEWEST_K = 48  # fewer are found sooner without a sort
_TILE = 256  # centres that lie together
_TOGETHER = 8  # rows that share a pass over the centres
_WRITTEN = 32  # rows written together
_SHARE = 4  # of the room: the most that tiles and rows on their way may take
_MOST_CTRS = 1 << 30


class Sorting(NamedTuple):
    """How rows are sorted.

    Attributes:
        single: Keys in float32 leave out most centres before float64 distances are made.
        all_listed: Every centre is sorted, since hardly any could be left out.
    """

    single: bool
    all_listed: bool


def why_not(problem: Problem, workers: int) -> str:
    """Return why the screen does not serve, or nothing."""
    if not problem.machine.kernels:
        return "Numba kernels need a CPU tensor and an installed numba"
    if problem.masked:
        return "the compiled screens take no masks"
    if problem.form != DISTANCE or problem.d == 0 or problem.n_ctrs > _MOST_CTRS:
        return "distances alone are sorted"
    return "" if problem.k >= _FEWEST_K else f"fewer than {_FEWEST_K} neighbours are listed, not sorted"


def cost(problem: Problem) -> Cost:
    """Return the work of the screen: distances, which of them are sorted, and the sort."""
    n_smps, n_ctrs, d = problem.n_smps, problem.n_ctrs, problem.d
    per_row = min(_per_row(problem, sorting) for sorting in _ways(problem))
    return Cost(problem.unpaid("sorted", n_ctrs * (10.0 + 2.0 * d)) + n_smps * (1500.0 + per_row))


def demand(problem: Problem, room: int, workers: int, rival: Cost) -> Demand | str:
    """Return what the screen asks for, or nothing where another takes less or it does not fit."""
    held = _tiles(problem) + workers * _scratch(problem)
    if cost(problem).work > rival.work or held > room // _SHARE * 3:
        return ""
    sorting = min(_ways(problem), key=lambda way: _per_row(problem, way))
    return Demand(
        held=held,
        per_row=40 * problem.d + 64,
        width=1,
        reason="all distances, and a sort of the nearest, by compiled kernels",
        own=sorting,
        variant=sorting,
        kept=True,
        sifts=True,
    )


def _ways(problem: Problem) -> list[Sorting]:
    """Return how rows may be sorted."""
    ways = [Sorting(False, True), Sorting(False, False)]
    return [*ways, Sorting(True, False)] if problem.float32 else ways


def _per_row(problem: Problem, sorting: Sorting) -> float:
    """Return the nanoseconds of a row."""
    n_ctrs, d, k = problem.n_ctrs, problem.d, problem.k
    if sorting.all_listed:
        return n_ctrs * (0.075 * d + 5.0) + k
    distances = 0.035 * d + 1.1 if sorting.single else 0.075 * d + 1.2
    gathered = 12.0 + 0.1 * d if sorting.single else 0.5
    return n_ctrs * distances + 1.15 * k * (5.0 + gathered)


def _tiles(problem: Problem) -> int:
    """Return the bytes of the centres in tiles, and of their numbers."""
    return (problem.n_ctrs + _TILE) * ((4 if problem.float32 else 8) * problem.d + 8)


def _scratch(problem: Problem) -> int:
    """Return the bytes of a worker, whatever its rows."""
    return (problem.n_ctrs + _TILE) * (8 * _TOGETHER + 32) + 8 * _WRITTEN * problem.k + 1024 * problem.d + (1 << 16)
