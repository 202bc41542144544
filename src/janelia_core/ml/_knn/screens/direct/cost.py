"""What a pass over all centres takes, of memory and of time: pure arithmetic.

Work is in nanoseconds of one core, measured on a Zen 4 (AVX-512); only ratios matter.
"""

from __future__ import annotations

import math

from janelia_core.ml._knn.plan.demand import PER_CELL, PER_LISTED, Cost, Demand, cells_asked
from janelia_core.ml._knn.problem import Problem

_SHARE = 4  # of the room: the most that lists may take
SHORT = 16
"""Coordinates up to which centres are gathered into columns: at least a run of either type, along which points of more
are summed."""
_PER_ENTRY = 100.0  # of a list, in each of a few shares
_SLACK = 8  # places beyond k, and k / 8 more


def width(k: int) -> int:
    """Return how many centres are listed of a row."""
    return k + _SLACK + k // 8


def why_not(problem: Problem, workers: int) -> str:
    """Return why the screen does not serve, or nothing."""
    if not problem.machine.kernels:
        return "Numba kernels need a CPU tensor and an installed numba"
    return ""


def cost(problem: Problem) -> Cost:
    """Return the work of a pass: reading the centres, the sums of all pairs, and the lists of rows."""
    n_smps, n_ctrs, d, k = problem.n_smps, problem.n_ctrs, problem.d, problem.k
    size = 1.0 if problem.float32 else 2.0
    read = 0.4 * size * d + (1.5 if d <= SHORT else 0.0)
    per_pair = (0.35 + 0.08 * d * size) if d <= SHORT else (1.0 + 0.04 * d * size)
    rounds = width(k) * (1.0 + math.log(max(1.0, n_ctrs / width(k))))  # entries of a list
    lists = n_smps * rounds * _PER_ENTRY
    return Cost(n_ctrs * (read + n_smps * per_pair) + lists)


def demand(problem: Problem, room: int, workers: int, rival: Cost) -> Demand | str:
    """Return what the screen asks for, or nothing where another takes less."""
    listed = problem.n_smps * PER_LISTED * 2 * workers * width(problem.k)
    if problem.masked:
        listed += problem.n_smps * (problem.n_ctrs // 8 + 256) + PER_CELL * cells_asked(problem)
    if cost(problem).work > rival.work or listed > room // _SHARE:
        return ""
    return Demand(
        held=listed + problem.n_smps * 32 * problem.d,
        per_row=12 * problem.d + PER_LISTED * width(problem.k),
        width=width(problem.k),
        reason="one pass over the centres as they are stored, by compiled kernels",
        own=width(problem.k),
        variant=problem.d <= SHORT,
        sifts=True,
    )
