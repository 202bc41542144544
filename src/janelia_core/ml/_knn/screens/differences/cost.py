"""What keys of all pairs take, of memory and of time: pure arithmetic.

Work is in nanoseconds of one core, measured on a Zen 4 (AVX-512); only ratios matter.
"""

from __future__ import annotations

import math

from janelia_core.ml._knn.metrics.metric import CHEBYSHEV, MANHATTAN
from janelia_core.ml._knn.plan.demand import PER_LISTED, Cost, Demand
from janelia_core.ml._knn.problem import Problem

FORMS = (MANHATTAN, CHEBYSHEV)
_MOST_COLUMNS = 1 << 14
_MOST_CTRS = 1 << 31  # positions take half of an entry
_COLUMNS = 1 << 15  # coordinates of centres in columns, which a core's caches hold
_TILE = 64  # centres of a tile, at most
_SLACK = 8  # places of a list beyond k, and k / 8 more
_LONGER = 4  # times as long is a list where the first is not certified
_PER_BROUGHT, _PER_PAIR, _PER_COORDINATE, _PER_ENTRY, _PER_ROW = 0.2, 0.15, 0.043, 6.0, 1000.0


def width(k: int) -> int:
    """Return how many centres are listed of a row at first."""
    return k + _SLACK + k // 8


def longer(k: int) -> int:
    """Return how many are listed of a row that the first list does not certify."""
    return _LONGER * width(k)


def room(width: int) -> int:
    """Return how many entries a list may have until it is cut to its width."""
    return 2 * width + _TILE


def ctrs_at_once(d: int) -> int:
    """Return how many centres are brought into columns together."""
    return max(1, _COLUMNS // (d * _TILE)) * _TILE


def why_not(problem: Problem, workers: int) -> str:
    """Return why the screen does not serve, or nothing."""
    if not problem.machine.kernels or problem.masked:
        return "differences want Numba kernels and no mask"
    fits = 0 < problem.d <= _MOST_COLUMNS and problem.n_ctrs < _MOST_CTRS
    return "" if fits else f"differences want at most {_MOST_COLUMNS} dimensions"


def cost(problem: Problem) -> Cost:
    """Return the work of all pairs, and of lists."""
    n_smps, n_ctrs, d, w = problem.n_smps, problem.n_ctrs, problem.d, width(problem.k)
    entries = w * (2.0 + math.log(max(1.0, n_ctrs / w)))
    per_row = n_ctrs * (_PER_PAIR + _PER_COORDINATE * d) + entries * _PER_ENTRY + _PER_ROW
    return Cost(n_ctrs * d * _PER_BROUGHT + n_smps * per_row)


def demand(problem: Problem, room_left: int, workers: int, rival: Cost) -> Demand | str:
    """Return what the screen asks for, or nothing where the memory is short or another takes less."""
    most = longer(problem.k)
    held = workers * 4 * problem.d * (ctrs_at_once(problem.d) + _TILE)
    if held > room_left // 2 or cost(problem).work > rival.work:
        return ""
    return Demand(
        held=held,
        per_row=16 * problem.d + 8 * room(most) + PER_LISTED * most,
        width=most,
        reason=f"differences in {problem.d} dimensions, by compiled kernels",
    )
