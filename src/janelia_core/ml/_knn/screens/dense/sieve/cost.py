"""When a sieve is thought of, what it takes where it pays, and what it holds: pure arithmetic.

What it spares depends on the data alone, so by sizes it costs what the dense screen does. Times are in nanoseconds of
one core.
"""

from __future__ import annotations

from janelia_core.ml._knn.metrics.metric import DISTANCE
from janelia_core.ml._knn.plan.demand import Cost, Demand
from janelia_core.ml._knn.problem import Problem
from janelia_core.ml._knn.screens.dense import cost as dense
from janelia_core.ml._knn.screens.dense.formats import INT8

DIRECTIONS = 60
"""Leading ones; with the length of the rest, 64 columns."""
COLUMNS = 64
SAMPLE = 1024
"""Centres that a look takes."""
REFINED = 2048
"""Centres that tell the leading directions, once it is clear that these pay."""
_FEWEST_COLUMNS, _MOST_COLUMNS = 256, 4096
MOST_WORK = 0.7
"""Of the dense screen's: what a sieve may take at most, for all is rough."""
_LEAST_WORK = 1.5e8  # of the dense screen: less is over before a look has paid
_FEWEST_CTRS, _FEWEST_PAIRS = 1 << 12, 1 << 22
_PER_PAIR, _PER_PAIR_OF_COLUMNS, _PER_COLUMN = 0.4, 0.5, 0.004  # of images; and of the dense screen
_PER_PASS, _PER_COLUMN_PASSED = 8.0, 0.014  # of a centre that is scored over all columns
_PER_ROW, _PER_LISTED, _PER_COLUMN_OF_ROW = 6_000.0, 190.0, 4.0  # until thresholds are low, and to make its image
_PER_CTR, _PER_COLUMN_OF_CTR = 1_100.0, 4.0
_PER_PACKED, _PER_COLUMN_PACKED = 200.0, 1.2  # of a centre, for the dense screen
_SHARE = 2  # of the memory


def why_not(problem: Problem, workers: int) -> str:
    """Return why the screen does not serve, or nothing."""
    if problem.form != DISTANCE or problem.masked:
        return "a sieve wants Euclidean distances and no mask"
    if why := dense.why_not(problem, workers):
        return why
    fits = _FEWEST_COLUMNS <= problem.d <= _MOST_COLUMNS and dense.formats(problem)[0] == INT8.name
    return "" if fits else f"a sieve wants {_FEWEST_COLUMNS} columns or more, and scores in bytes"


def cost(problem: Problem) -> Cost:
    """Return what the dense screen takes, which is the most."""
    return dense.cost(problem)


def rows_work(problem: Problem) -> float:
    """Return the work of the rows in the dense screen."""
    pair = _PER_PAIR_OF_COLUMNS + _PER_COLUMN * problem.d
    return problem.n_smps * (problem.n_ctrs * pair + _PER_LISTED * problem.k)


def rival_work(problem: Problem) -> float:
    """Return the work of the dense screen, packing included where nothing stands."""
    packing = problem.n_ctrs * (_PER_PACKED + _PER_COLUMN_PACKED * problem.d)
    return rows_work(problem) + problem.unpaid("dense", packing)


def work(problem: Problem, share: float, made: bool) -> float:
    """Return the work of a search in which a share of all centres is scored over all columns.

    made: The meshes are there.
    """
    d, making = problem.d, problem.n_ctrs * (_PER_CTR + _PER_COLUMN_OF_CTR * problem.d)
    pair = _PER_PAIR + share * (_PER_PASS + _PER_COLUMN_PASSED * d)
    row = problem.n_ctrs * pair + _PER_LISTED * problem.k + _PER_ROW + _PER_COLUMN_OF_ROW * d
    return problem.n_smps * row + (0.0 if made else making)


def demand(problem: Problem, room: int, workers: int, rival: Cost) -> Demand | str:
    """Return what the dense screen asks for and what a sieve holds beside; or nothing, where it cannot pay."""
    made = not problem.unpaid("sieve", 1.0)
    if rows_work(problem) < _LEAST_WORK or problem.n_ctrs < _FEWEST_CTRS:
        return ""
    if work(problem, 0.0, made) > MOST_WORK * rival_work(problem):
        return ""
    held = held_bytes(problem, workers)
    if held > room // _SHARE:
        return ""
    # Packed for rows in doubt alone: of what is kept between searches, the meshes take their share.
    under = dense.demand(problem._replace(keeps=0), room - held, workers, rival)
    return under._replace(
        held=under.held + held,
        reason=f"{under.reason}, of those whose images in {DIRECTIONS} directions are near, if they are few",
    )


def is_rehearsal(problem: Problem) -> bool:
    """Tell whether points are made up, and tell nothing."""
    return problem.n_smps * problem.n_ctrs < _FEWEST_PAIRS


def held_bytes(problem: Problem, workers: int) -> int:
    """Return what a sieve holds: images and their words, words of the centres, orders, and rows that are sieved."""
    n_ctrs, n_smps, d = problem.n_ctrs, problem.n_smps, problem.d
    words = COLUMNS + d + 64 + 2 * dense.PER_CTR
    images = (4 * COLUMNS + 8) * (n_ctrs + n_smps)
    making = max(20 * SAMPLE * d, workers * 512 * (d + 64 + 12 * COLUMNS))
    return n_ctrs * (words + 32) + images + 24 * n_smps + making
