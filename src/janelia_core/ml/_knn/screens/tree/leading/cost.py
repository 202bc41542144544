"""When leading directions are looked for, and what a tree over them holds: pure arithmetic.

What they spare depends on the data alone, so by sizes they cost what the dense screen does.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from janelia_core.ml._knn.metrics.metric import DISTANCE
from janelia_core.ml._knn.plan.demand import PER_LISTED, Cost, Demand
from janelia_core.ml._knn.plan.plan import Plan
from janelia_core.ml._knn.problem import Problem
from janelia_core.ml._knn.screens.tree import cost as tree

MOST_DIRECTIONS = 15
"""One coordinate less than trees are quick in: the rest has one, too."""
_FEWEST_COLUMNS = 33  # below, a tree over the columns themselves serves
_MOST_COLUMNS = 4096
_LEAST_WORK = 5e7  # of the rival: less is over before a look has paid
_FEWEST_PAIRS = 1 << 22
_GAIN = 0.5  # of that work, which the easiest data may take
_PER_PAIR, _PER_COLUMN, _PER_BYTE, _BESIDE = 0.48, 0.0028, 0.1, 40  # as in `dense.cost`
_PER_LISTED, _PER_PACKED = 190.0, 120.0  # likewise
_PER_IMAGE = 3.0  # nanoseconds of a coordinate of a point that is brought to its image
_SHARE = 2  # of the memory
_WIDTH = 4  # times k, entries of the longest list


class Rival(NamedTuple):
    """What a look compares with.

    Attributes:
        work: Of the rival.
        rows: Rows that walk.
    """

    work: float
    rows: int


def why_not(problem: Problem, workers: int) -> str:
    """Return why the screen does not serve, or nothing."""
    usual = problem.machine.kernels and not problem.masked and problem.form == DISTANCE
    if not usual:
        return "trees want Numba kernels, Euclidean distances and no mask"
    fits = _FEWEST_COLUMNS <= problem.d <= _MOST_COLUMNS and problem.k <= tree.MOST_K // _WIDTH
    return "" if fits else f"leading directions want {_FEWEST_COLUMNS} columns or more, and few neighbours"


def cost(problem: Problem) -> Cost:
    """Return what low-precision scores of all pairs take, which is the most, and what images and a tree do."""
    n_smps, n_ctrs, d = problem.n_smps, problem.n_ctrs, problem.d
    pairs = n_ctrs * max(n_smps * (_PER_PAIR + _PER_COLUMN * d), _PER_BYTE * (d + _BESIDE))
    making = tree.build_work(n_ctrs, MOST_DIRECTIONS + 1) + n_ctrs * (_PER_PACKED + 2.0 * _PER_IMAGE * d)
    return Cost(pairs + _PER_LISTED * problem.k * n_smps + problem.unpaid("leading", making))


def easiest(problem: Problem) -> float:
    """Return what the easiest data would ask."""
    imaged = _PER_IMAGE * problem.d * (problem.n_smps + (problem.n_ctrs if problem.unpaid("leading", 1.0) else 0))
    images = problem._replace(d=MOST_DIRECTIONS + 1, paid=_as_of_trees(problem))
    return tree.cost(images).work + imaged


def demand(problem: Problem, room: int, workers: int, rival: Cost) -> Demand | str:
    """Return what a tree over images asks for; or nothing, where it cannot pay."""
    if rival.work == math.inf or rival.work < _LEAST_WORK or easiest(problem) > _GAIN * rival.work:
        return ""
    if problem.n_smps * problem.n_ctrs < _FEWEST_PAIRS:
        return ""
    p, width = MOST_DIRECTIONS + 1, _WIDTH * longest(problem.k)
    held = problem.n_ctrs * (17 * p + 31) + problem.n_smps * (4 * p + 21)
    if held > room // _SHARE:
        return ""
    return Demand(
        held=held,
        per_row=24 * problem.d + 12 * p + PER_LISTED * width,
        width=width,
        reason=f"box tree in leading directions of {problem.d} dimensions, if they tell enough",
        own=Rival(rival.work, min(256, max(32, problem.n_smps // 64))),
        kept=True,
        sifts=True,
    )


def rival_of(plan: Plan) -> Rival | None:
    """Return what a look compares with; None, and none is taken: in a rehearsal, whose points tell nothing."""
    problem, own = plan.problem, plan.own
    return own if problem.n_smps * problem.n_ctrs >= _FEWEST_PAIRS else None


def longest(k: int) -> int:
    """Return how many centres are listed of a row."""
    return k + 4 + k // 8


def _as_of_trees(problem: Problem) -> tuple[tuple[str, float], ...]:
    return tuple(("tree", work) for name, work in problem.paid if name == "leading")
