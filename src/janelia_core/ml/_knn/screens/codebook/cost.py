"""What the codebook screen takes, of memory and of time: pure arithmetic.

Work is in nanoseconds of one core, measured on a Zen 4 (AVX-512); only ratios matter.
"""

from __future__ import annotations

import math

from janelia_core.ml._knn.plan.demand import PER_LISTED, Cost, Demand
from janelia_core.ml._knn.problem import Problem

NAME = "codebook"
SLACK = 7
"""Centres that are listed of a row in doubt, beyond the k + 1 of all rows."""
_FEWEST_ROWS = 2048
_MOST_K = 32
_MOST_COLUMNS = 1024
_MOST_CTRS, _MOST_WORDS = 1 << 12, 1 << 18  # and coordinates of centres, which stay in a core's caches
_BLOCK = 64  # rows
_FEWEST_HALVED, _SHORTEST_HALVED = 128, 8


def why_not(problem: Problem, workers: int) -> str:
    """Return why the screen does not serve, or nothing."""
    if not problem.machine.kernels:
        return "Numba kernels need a CPU tensor and an installed numba"
    if problem.masked:
        return "the compiled screens take no masks"
    few = problem.n_smps < _FEWEST_ROWS or problem.n_smps < problem.n_ctrs
    served = not few and holds(problem.n_ctrs, problem.d, problem.k)
    return "" if served else "not many rows among few centres"


def holds(n_ctrs: int, d: int, k: int) -> bool:
    """Tell whether centres are few enough for a book, and lists short."""
    fits = n_ctrs <= _MOST_CTRS and n_ctrs * d <= _MOST_WORDS and 0 < d <= _MOST_COLUMNS
    return fits and k <= _MOST_K


def held(n_ctrs: int, d: int, k: int, workers: int) -> int:
    """Return the bytes of centres in words, and of what workers hold for their blocks of rows."""
    return n_ctrs * (d + 4) * 32 + workers * _BLOCK * (8 * d + 12 * (k + 1 + SLACK) + 64)


def cost(problem: Problem) -> Cost:
    """Return the work of all rows: coordinates brought into place, sums of all pairs, and lists."""
    n_smps, n_ctrs, d, k = problem.n_smps, problem.n_ctrs, problem.d, problem.k
    if k == 1 and halved(n_ctrs, d) and "bfloat16" in problem.machine.formats:
        per_row, per_pair = 10.0 + 1.1 * d, 0.015 + 0.0172 * -(-d // 2)
    else:
        entries = k * (1.0 + math.log(max(1.0, n_ctrs / k))) if k > 1 else 0.0
        per_row, per_pair = 6.0 + 0.3 * d + entries * 0.7 * (k + 1), 0.02 + 0.0172 * (d + 1)
    return Cost(problem.unpaid(NAME, packing(n_ctrs, d)) + n_smps * (per_row + n_ctrs * per_pair))


def packing(n_ctrs: int, d: int) -> float:
    """Return the work of putting centres into words, by one worker."""
    return 5e4 + n_ctrs * d * 10.0


def halved(n_ctrs: int, d: int) -> bool:
    """Tell whether bfloat16 scores at first take less, where the machine multiplies that faster."""
    return n_ctrs >= _FEWEST_HALVED and d >= _SHORTEST_HALVED


def demand(problem: Problem, room: int, workers: int, rival: Cost) -> Demand | str:
    """Return what the screen asks for, or nothing where another takes less, or the memory is short."""
    width = problem.k + 1 + SLACK
    packed = held(problem.n_ctrs, problem.d, problem.k, workers)
    if cost(problem).work > rival.work or packed > room // 4:
        return ""
    return Demand(
        held=packed,
        per_row=24 * problem.d + PER_LISTED * width,
        width=width,
        reason="scores of blocks of rows by compiled kernels",
        kept=True,
        sifts=True,
    )
