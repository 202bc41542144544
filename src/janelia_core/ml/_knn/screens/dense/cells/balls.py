"""Numba kernels that find the middles of cells and tiles, and put balls around tiles."""

from __future__ import annotations

import numpy as np

from janelia_core.ml._knn.screens.dense.row_bounds import UP
from janelia_core.ml._runtime.arrays import F64, Reals
from janelia_core.ml._runtime.jit import jit_with
from janelia_core.ml._simd.dot_tiles import TILE

_summing = jit_with(fastmath={"reassoc", "contract", "nsz"})


@_summing
def cell_middle(u: Reals, scale: float, middle: F64) -> None:
    """Writes the middle (d,) of points (n, d), times scale."""
    n, d = u.shape
    middle[:] = 0.0
    for i in range(n):
        for q in range(d):
            middle[q] += np.float64(u[i, q])
    for q in range(d):
        middle[q] *= scale / n


@_summing
def tile_balls(u: Reals, scale: float, middles: F64, radii: F64) -> None:
    """Writes the middle of each TILE of points, and how far the farthest of these is from it, not rounded down.

    A difference in float64 loses 2^-53 of itself, times a power of two nothing, and its square and the sum of d squares
    (d + 2) 2^-53 of themselves: UP outweighs all that, and what vanishes in squares of differences below 2^-500 is
    added.

    Args:
        u: (n, d) points, float32 or float64.
        scale: A power of two, by which radii are multiplied.
        middles: (t, d), written.
        radii: (t,), written.
    """
    n, d = u.shape
    for tile in range(middles.shape[0]):
        start, stop = tile * TILE, min(tile * TILE + TILE, n)
        for q in range(d):
            middles[tile, q] = 0.0
        for i in range(start, stop):
            for q in range(d):
                middles[tile, q] += np.float64(u[i, q])
        for q in range(d):
            middles[tile, q] /= stop - start
        farthest = 0.0
        for i in range(start, stop):
            square = 0.0
            for q in range(d):
                gap = (np.float64(u[i, q]) - middles[tile, q]) * scale
                square += gap * gap
            farthest = max(farthest, square)
        radii[tile] = np.sqrt(farthest) * UP + 2.0**-400
