"""Numba kernels of the dense screen that turn measurements of rows into constants, and lists into proofs.

Names and equations are those of `dense.screen`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from janelia_core.ml._knn.arithmetic.bounds import TINY32 as TINY
from janelia_core.ml._knn.metrics.metric import COSINE, DOT
from janelia_core.ml._knn.screens.dense.lists import Lists
from janelia_core.ml._knn.screens.dense.rounding import Sums
from janelia_core.ml._runtime.arrays import B8, F32, F64, I64, Reals
from janelia_core.ml._runtime.jit import inlined, jit

UP = 1.0 + 2.0**-20
"""Outweighs float64 roundings: sums of d <= 2^30 nonnegative terms, and a few operations more."""
MAX_NORM = 2.0**60
"""Rows of a larger norm in the frame go up the ladder, as a sum may overflow (centres: about 2^20)."""
RESIDUAL, NORM, POINT, POINT_ERROR, WHOLE = range(5)
"""Rows of what `measure` writes."""


class RowConstants(NamedTuple):
    """What centres and their format ask of rows.

    Attributes:
        d: Coordinates.
        relative_error: Bound of the relative error each coordinate comes with.
        whole: All centres are made of integers, whose sums of products may be exact.
        largest: The largest norm of a centre.
        unit: rho.
        lacking: L, the most that an h_j lacks.
        widest: The largest beta_j.
        int8: Sums are of int8, and centres are v + 128.
    """

    d: int
    relative_error: float
    whole: bool
    largest: float
    unit: float
    lacking: float
    widest: float
    int8: bool


class KeyTerms(NamedTuple):
    """What keys of n rows are made of.

    Fields:
        words: (n, n_words) coordinates; their type tells the format (`dot_tiles.WORDS`).
        start: (n,) int32 for int8, else float32; what sums start from.
        alpha: (n,) float32; what a unit of the row's sums stands for.
        lift: (n,) float32; at least what `start` adds to keys.
        reach: (n,) float32; a_i of `dense.screen`: the error of score (i, j) is at most 2 a_i e_j + g_j + lift_i.
    """

    words: Reals
    start: Reals
    alpha: F32
    lift: F32
    reach: F32


@inlined
def point_bounds(sums: Sums, i: int, d: int, relative_error: float) -> tuple[float, float, float, float, bool]:
    """What (1) needs to know of point i, as `measure` writes it."""
    of = sums[i]
    square, whole = of.square, of.whole and of.square < 2.0**48
    norm = np.sqrt(square)
    # The subtraction rounds each coordinate once; between integers of this size it does not.
    lost = 0.0 if whole else 2.0**-53 * norm + relative_error * np.sqrt(of.wide) + TINY
    residual = (np.sqrt(of.loss) + lost) * UP
    square_error = 0.0 if whole else ((d + 2) * 2.0**-53 * square + 2.0 * norm * lost + lost * lost) * UP
    return residual, max(norm, np.sqrt(of.kept)) * UP + lost, square, square_error, whole


@jit
def measure(sums: Sums, d: int, relative_error: float, measured: F64) -> None:
    """Turns sums (r,) of `round_points` into bounds, measured (5, r).

    Rows of measured: at least the norm of point - value; at least the norms of point and of value; |point|^2 as
    computed; at least its error; 1 where the value is the point itself and made of integers, else 0.
    """
    for i in range(sums.shape[0]):
        residual, norm, square, square_error, whole = point_bounds(sums, i, d, relative_error)
        measured[RESIDUAL, i], measured[NORM, i] = residual, norm
        measured[POINT, i], measured[POINT_ERROR, i], measured[WHOLE, i] = square, square_error, np.float64(whole)


@jit
def bound_rows(sums: Sums, of: RowConstants, rows: KeyTerms, exact: B8, square: F64, lost: B8) -> None:
    """Writes the constants of r rows for their keys.

    Args:
        sums: (r,), as `round_points` wrote them.
        of: What centres ask.
        rows: n >= r of them. The words are there, and set to 0 for lost rows; as is alpha, then set to 1: lists of lost
            rows tell nothing, but their keys must be numbers. All else is written.
        exact: (n,), written: keys are scores.
        square: (r,), written: |x|^2 rounded down, in the frame.
        lost: (r,), written: rows beyond what the format holds.
    """
    words, start, alpha, lift, reach = rows
    for i in range(sums.shape[0]):
        residual, norm, of_point, square_error, whole = point_bounds(sums, i, of.d, of.relative_error)
        square[i] = of_point - square_error
        sure = whole and of.whole and norm * of.largest + of.largest * of.largest / 2.0 < 2.0**23
        bound = np.float32(max(norm, residual / of.unit) * UP * (1.0 + 2.0**-22) + TINY)
        lost[i] = not bound < MAX_NORM
        total = sums[i].total
        if lost[i]:
            words[i, :], alpha[i], total = 0, np.float32(1.0), 0.0
        exact[i] = sure
        reach[i] = np.float32(0.0) if sure or lost[i] else bound
        # 1.01 outweighs what sums of floats lose of it, and in `lift` what they add.
        steps = 0.0 if sure or of.lacking == 0.0 else 1.01 * of.lacking / np.float64(alpha[i])
        if of.int8:
            steps = np.ceil(steps)
            start[i] = steps - 128.0 * total
            lift[i] = 1.01 * steps * np.float64(alpha[i]) * of.widest
        else:
            start[i] = steps
            lift[i] = 1.01 * steps


@jit
def prove(
    lists: Lists,
    square: F64,
    lost: B8,
    scale: float,
    what: int,
    panel: int,
    n_panels: int,
    listed: I64,
    excluded: F64,
    at_least: F64,
) -> None:
    """Writes the candidates of r rows, and what their lists prove (`contract.Candidates`).

    Args:
        lists: Of n >= r rows.
        square: (r,), as `bound_rows` wrote them.
        lost: (r,), likewise.
        scale: Of the frame, a power of two.
        what: `Metric.form`.
        panel: Centres of a panel; where n_panels > 0, entry (panel p, place q) is centre q n_panels + p.
        n_panels: See panel; 0: packed positions are positions.
        listed: (r, w), written: positions of centres, -1 behind the last.
        excluded: (r,), written: order value of a score of at most limit, rounded down.
        at_least: (r, w), written for distances: lower bounds of those of the listed.
    """
    length, limit, exact, keys, ids = lists.length, lists.limit, lists.exact, lists.keys, lists.ids
    unscale = 1.0 / scale
    for i in range(listed.shape[0]):
        for slot in range(listed.shape[1]):
            if slot >= length[i]:
                listed[i, slot] = -1
            elif n_panels == 0:
                listed[i, slot] = ids[i, slot]
            else:
                packed = np.uint32(ids[i, slot])
                listed[i, slot] = packed % np.uint32(panel) * np.int64(n_panels) + packed // np.uint32(panel)
        if what == COSINE:
            bound = limit[i] * unscale * unscale
            excluded[i] = (1.0 - bound) - 2.0**-51 * (1.0 + abs(bound))
        elif what == DOT:
            excluded[i] = (-limit[i] - 2.0**-51 * (abs(square[i]) + 2.0 * abs(limit[i]))) * unscale * unscale
        else:
            excluded[i] = _distance(square[i], limit[i]) * unscale * unscale
            for slot in range(min(listed.shape[1], length[i])):
                distance = _distance(square[i], np.float64(keys[i, slot])) * unscale * unscale
                at_least[i, slot] = -np.inf if lost[i] else distance
        if exact[i] or limit[i] == -np.inf:  # the list is the whole answer, or holds all that a mask allows
            excluded[i] = np.inf
        if lost[i]:
            excluded[i] = -np.inf


@inlined
def _distance(square: float, score: float) -> float:
    """|x|^2 - 2 s, rounded down."""
    return (square - 2.0 * score) - 2.0**-51 * (abs(square) + 2.0 * abs(score))
