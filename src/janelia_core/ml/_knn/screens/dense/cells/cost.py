"""When cells are thought of, and what they hold: pure arithmetic.

What they spare depends on the data alone, so by sizes they cost what the dense screen does.
"""

from __future__ import annotations

import math

from janelia_core.ml._knn.metrics.metric import DISTANCE
from janelia_core.ml._knn.plan.demand import Cost, Demand
from janelia_core.ml._knn.problem import Problem
from janelia_core.ml._knn.screens.dense import cost as dense
from janelia_core.ml._knn.screens.dense.formats import FORMATS

DIRECTIONS = 16
"""In which points are put in order."""
_PER_CELL, _MOST_CELLS = 256, 512  # centres, on average,
_PER_COORDINATE = 1 / 3  # and so many times d: a row is rounded anew for each cell that it visits
_TILE = 64  # centres at most
_LEAST_WORK = 1.5e8  # of the dense screen: less is over before a look has paid
_FEWEST_CTRS = 1 << 13
_GAIN = 0.25  # of that work, which grouping and packing anew may take
_PER_CTR, _PER_PACKED = 500.0, 2.0  # of that: a centre, and a coordinate
_SHARE = 2  # of the memory
_ORDERED = 24 + 4 * DIRECTIONS  # bytes of a point while it is put in order


def cells_of(n_ctrs: int, d: int) -> int:
    """Return how many cells so many centres are put into at most."""
    return max(1, min(_MOST_CELLS, n_ctrs // max(_PER_CELL, int(_PER_COORDINATE * d))))


def why_not(problem: Problem, workers: int) -> str:
    """Return why the screen does not serve, or nothing."""
    if problem.form != DISTANCE:
        return "cells want Euclidean distances"
    if problem.masked:
        return "cells take no masks"
    if not problem.machine.exact_products:
        return "float32 products, which tell how near cells are, may be cut here"
    return dense.why_not(problem, workers)


def cost(problem: Problem) -> Cost:
    """Return what the dense screen takes, which is the most."""
    return dense.cost(problem)


def demand(problem: Problem, room: int, workers: int, rival: Cost) -> Demand | str:
    """Return what the dense screen asks for and what cells hold beside; or nothing, where they cannot pay."""
    n_ctrs, d = problem.n_ctrs, problem.d
    rows = rows_work(problem)
    making = problem.unpaid("cells", n_ctrs * (_PER_CTR + _PER_PACKED * d))
    if rows < _LEAST_WORK or n_ctrs < _FEWEST_CTRS or making > _GAIN * rows:
        return ""
    held = held_bytes(problem, workers)
    if held > room // _SHARE:
        return ""
    under = dense.demand(problem, room - held, workers, rival)
    return under._replace(
        held=under.held + held,
        reason=f"{under.reason}, in cells of near centres if they are in clusters",
    )


def rows_work(problem: Problem) -> float:
    """Return the work of the rows in the dense screen."""
    return dense.cost(problem._replace(paid=(("dense", math.inf),))).work


def held_bytes(problem: Problem, workers: int) -> int:
    """Return what cells hold: words and constants of centres and of tiles' middles, orders, and rows that visit."""
    n_ctrs, d, n_cells = problem.n_ctrs, problem.d, cells_of(problem.n_ctrs, problem.d)
    places = n_ctrs + n_cells * _TILE
    heads = places // _TILE + n_cells * _TILE
    per_place = 4 * FORMATS[dense.formats(problem)[0]].n_words(d) + dense.PER_CTR
    cell = (4 if problem.float32 else 16) * d * (4 * n_ctrs // n_cells + _TILE)  # values of a large one
    return (
        (places + heads) * per_place
        + (8 + 8) * places
        + 8 * n_cells * d
        + _ORDERED * (n_ctrs + problem.n_smps)
        + workers * cell
    )
