"""A Numba kernel of the dense screen that turns measurements of centres into what their keys need.

Names and equations are those of `dense.screen`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from janelia_core.ml._knn.arithmetic.bounds import TINY32 as TINY
from janelia_core.ml._knn.screens.dense.rounding import Sums
from janelia_core.ml._knn.screens.dense.row_bounds import UP, point_bounds
from janelia_core.ml._runtime.arrays import F32
from janelia_core.ml._runtime.jit import inlined, jit
from janelia_core.ml._simd.dot_tiles import TILE


class CtrConstants(NamedTuple):
    """What the bounds of all centres share.

    Fields:
        d: Coordinates.
        relative_error: Bound of the relative error each coordinate comes with.
        unit: rho.
        gamma: g.
        tiny: W t.
        product: Scores are inner products, without |c|^2 / 2.
        exact: Sums of products may be exact: h_j carries no error of its own.
    """

    d: int
    relative_error: float
    unit: float
    gamma: float
    tiny: float
    product: bool
    exact: bool


class Bounded(NamedTuple):
    """What `bound_ctrs` tells of centres.

    Fields:
        largest: The largest norm.
        whole: All centres are made of integers.
        lacking: The most that an h_j lacks.
    """

    largest: float
    whole: bool
    lacking: float


@inlined
def _round_up(bound: float) -> np.float32:
    """A nonnegative bound in float32, never smaller."""
    return np.float32(bound * (1.0 + 2.0**-22) + TINY)


@jit
def bound_ctrs(sums: Sums, steps: F32, of: CtrConstants, parameters: F32, errs: F32) -> tuple[float, bool, float]:
    """Writes parameters and errors of packed centres.

    Args:
        sums: (r,), as `round_points` wrote them; r is a multiple of TILE.
        steps: (r,), likewise; 0 where there is no centre.
        of: What all centres share.
        parameters: (r / TILE, 3, TILE), written: beta_j, e_j, h_j; -inf for h_j where there is no centre.
        errs: (r, 2), written: (e_j, g_j).

    Returns:
        As `Bounded` says.
    """
    largest, all_whole, lacking = 0.0, True, 0.0
    gap: float
    for i in range(np.uint64(sums.shape[0])):
        tile, lane = i // np.uint64(TILE), i % np.uint64(TILE)
        if steps[i] == 0.0:
            parameters[tile, 0, lane], parameters[tile, 1, lane] = np.float32(1.0), np.float32(0.0)
            parameters[tile, 2, lane] = -np.inf
            errs[i, 0] = errs[i, 1] = np.float32(0.0)
            continue
        residual, norm, square, square_error, whole = point_bounds(sums, i, of.d, of.relative_error)
        half = 0.0 if of.product else square / 2.0
        own = of.gamma * 1.1 * half + of.tiny + (0.0 if of.product else square_error)
        reach = _round_up(((of.unit + of.gamma) * norm + residual) / (1.0 - of.gamma) * UP)
        if of.exact:
            level = np.float32(-half)
            gap = own + abs(half + np.float64(level))
            lacking = max(lacking, gap)
        else:
            target = own - half
            level = np.float32(target + 2.0**-23 * abs(target) + TINY)
            gap = max(np.float64(level) + half, 0.0) + own
        parameters[tile, 0, lane], parameters[tile, 1, lane], parameters[tile, 2, lane] = steps[i], reach, level
        errs[i, 0], errs[i, 1] = _round_up(np.float64(reach)), _round_up(gap * UP)
        largest, all_whole = max(largest, norm), all_whole and whole
    return largest, all_whole, lacking
