"""What boxes take on a GPU, of memory and of time, and how a search goes: pure arithmetic.

Work is in nanoseconds of an H100; only ratios matter. Nothing is known of the values, so it is that of points spread
evenly: in more than some five dimensions most boxes are near most rows, and products take less.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from janelia_core.ml._knn.metrics.metric import DISTANCE
from janelia_core.ml._knn.plan.demand import Cost, Demand
from janelia_core.ml._knn.problem import MOST_CTRS, Problem
from janelia_core.ml._knn.screens.boxes.shapes import LEAF, MOST_NEIGHBOURS, Shape, kept_for, shape_for, wider
from janelia_core.ml._knn.screens.rerank.cost import TOGETHER, bytes_of_listed

MOST_COORDINATES = 8
_FEWEST_CTRS = 2048  # fewer are looked at all at once
_MOST_CTRS = 1 << 30  # row numbers are 32-bit numbers
_PER_LAUNCH = 1e6  # all launches, some 30 of torch's among them
_PER_CTR, _PER_ROW, _PER_LISTED = 1.0, 2.0, 0.1
_PER_LEAF = 0.15, 1.0  # of a tile: what waits, and what 32 rows compute, times (d + 5) / 8
_MORE_LISTED = 1.8  # centres within the first bound, for each neighbour
_MOST_TILES = 1 << 16
_MOST_ROWS = 1 << 20
_TIMES = 8  # the memory that a row takes which is searched again
_SCRATCH = 2  # a part in so many of the room is for lists on the walk
_PER_KEPT = 12  # a candidate, before it is re-ranked: its number, twice, and its bound
_PER_BLOCK_ROW = 96  # a row: places, order, bounds
_PER_ASKED = 20  # what is known of a row until the host asks who is in doubt, if all are


class Settings(NamedTuple):
    """How a search goes.

    Attributes:
        shape: Of kernels.
        rows: Rows of a block.
        tiles: Tiles of them that walk at a time.
    """

    shape: Shape
    rows: int
    tiles: int


def why_not(problem: Problem, workers: int) -> str:
    """Return why the screen does not serve, or nothing."""
    if problem.machine.gpu is None:
        return problem.machine.no_gpu or "boxes are for GPUs"
    if problem.form != DISTANCE or problem.masked:
        return "boxes tell distances alone, of all centres"
    if not 1 <= problem.d <= MOST_COORDINATES:
        return f"boxes want at most {MOST_COORDINATES} coordinates"
    if problem.k > min(MOST_NEIGHBOURS, problem.n_ctrs // 8):
        return f"boxes list at most {MOST_NEIGHBOURS} neighbours, an eighth of the centres"
    if not _FEWEST_CTRS <= problem.n_ctrs <= _MOST_CTRS:
        return f"{problem.n_ctrs} centres are none for boxes"
    return ""


def cost(problem: Problem) -> Cost:
    """Return the work of sorting, and of walks through boxes of points that are spread evenly."""
    shape = shape_for(problem.n_smps, problem.n_ctrs, problem.k)
    wait, compute = _PER_LEAF
    per_leaf = wait + compute * shape.rows / 32 * (problem.d + 5) / 8
    walk = problem.n_smps / shape.rows * _leaves(problem) * per_leaf
    rows = problem.n_smps * (_PER_ROW + _PER_LISTED * shape.keep)
    return Cost(_PER_LAUNCH + problem.unpaid("boxes", problem.n_ctrs * _PER_CTR) + rows + walk)


def _leaves(problem: Problem) -> float:
    """Return how many leaves a tile of rows enters: side by side with the first bound around it, in leaves' sides."""
    d = problem.d
    ball = math.pi ** (d / 2) / math.gamma(d / 2 + 1)
    radius = (_MORE_LISTED * problem.k / ball) ** (1 / d)
    side = LEAF ** (1 / d)
    around: float = (2.0 + 2.0 * radius / side) ** d
    return min(around, problem.n_ctrs / LEAF)


def demand(problem: Problem, room: int, workers: int, rival: Cost) -> Demand | str:
    """Return what it asks of the memory, or nothing where another screen takes less."""
    if cost(problem).work > rival.work:
        return ""
    held = problem.n_ctrs * (4 * problem.d + 12) + problem.n_ctrs * (8 * problem.d + 48)
    settings = _settings(problem, (room - held) // 4 * 3)  # the rest is for rows in doubt
    if settings is None:
        return f"boxes of {problem.n_ctrs} centres take more than the {room} bytes there are for them"
    used = (
        held
        + settings.rows * _bytes_of_row(settings.shape.keep, problem)
        + settings.tiles * settings.shape.listed_bytes
    )
    return Demand(
        used, 4 * MOST_CTRS, settings.shape.keep, "boxes of near centres on a GPU", settings, kept=True, sifts=True
    )


def again(settings: Settings, n_ctrs: int) -> Settings:
    """Return how rows in doubt are searched again, of which a copy is taken: in no more memory."""
    wide = wider(settings.shape, n_ctrs)
    tiles = max(1, settings.tiles * settings.shape.listed_bytes // wide.listed_bytes)
    return Settings(wide, max(1, settings.rows // _TIMES), tiles)


def _bytes_of_row(keep: int, problem: Problem) -> int:
    return (
        keep * (_PER_KEPT + bytes_of_listed(keep))
        + 8 * problem.k
        + 24 * problem.d
        + _PER_BLOCK_ROW
        + TOGETHER * _PER_ASKED
    )


def _settings(problem: Problem, room: int) -> Settings | None:
    share = room // _SCRATCH
    rows = min(problem.n_smps, _MOST_ROWS, (room - share) // _bytes_of_row(kept_for(problem.k), problem))
    if rows <= 0:
        return None
    # The fewer rows a block has, the farther they lie from one another.
    shape = shape_for(rows, problem.n_ctrs, problem.k)
    tiles = min(-(-rows // shape.rows), _MOST_TILES, share // shape.listed_bytes)
    return Settings(shape, rows, tiles) if tiles > 0 else None
