"""A Numba kernel that makes images of points: products in float32, of few columns at a time.

Names and equations are those of `images`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from janelia_core.ml._knn.screens.dense.row_bounds import UP, KeyTerms
from janelia_core.ml._knn.screens.dense.scan import Tiles
from janelia_core.ml._runtime.arrays import F32, F64, Reals
from janelia_core.ml._runtime.jit import jit, jit_with
from janelia_core.ml._simd.dot_tiles import ROWS, TILE, score_tile

TOGETHER = 64
"""Columns whose products are added in float32; such sums are added in float64."""
QUARTERS = 4
_summing = jit_with(fastmath={"reassoc", "contract", "nsz"}, forceinline=True)


class Maker(NamedTuple):
    """What makes images.

    Fields:
        directions: In tiles, TOGETHER columns after the other, and of these TILE directions after the other.
        middle: (d,).
        lost: delta.
        lost_of_squares: E, over |v|^2.
    """

    directions: Tiles
    middle: F64
    lost: float
    lost_of_squares: float


@_summing
def _take(u: Reals, i: int, middle: F64, first: int, n: int, words: F32, r: int) -> float:
    """Writes v^ of n columns of a point to words[r]; returns the sum of squares."""
    square, row, place = 0.0, np.uint64(r), np.uint64(first)
    for q in range(np.uint64(n)):
        value = np.float32(np.float64(u[np.uint64(i), place + q]) - middle[place + q])
        words[row, q] = value
        square += np.float64(value) * np.float64(value)
    return square


@jit
def make_images(u: Reals, maker: Maker, images: F32, off: F64) -> None:
    """Write images of finite points.

    Args:
        u: (n, d) points.
        maker: Of images.
        images: (n, p + QUARTERS), written.
        off: (n,), written: how far they are off.
    """
    n, d, p = u.shape[0], u.shape[1], images.shape[1] - QUARTERS
    directions, middle, n_tiles = maker.directions, maker.middle, -(-p // TILE)
    words, zeros = np.zeros((ROWS, TOGETHER), np.float32), np.zeros(ROWS, np.float32)
    rows = KeyTerms(words, zeros, np.ones(ROWS, np.float32), zeros, zeros)
    keys, masks = np.empty(ROWS * TILE, np.float32), np.empty(ROWS, np.uint64)
    y, square = np.empty((ROWS, n_tiles * TILE)), np.empty(ROWS)
    for row in range(0, n, ROWS):
        some = min(ROWS, n - row)
        y[:], square[:] = 0.0, 0.0
        for first in range(0, d, TOGETHER):
            if first + TOGETHER > d:
                words[:] = np.float32(0.0)
            for r in range(some):
                square[r] += _take(u, row + r, middle, first, min(TOGETHER, d - first), words, r)
            for tile in range(n_tiles):
                score_tile(directions, first // TOGETHER * n_tiles + tile, rows, 0, zeros, keys, 0, TILE, masks)
                for r in range(some):
                    for q in range(np.uint64(TILE)):
                        y[np.uint64(r), np.uint64(tile * TILE) + q] += np.float64(keys[np.uint64(r * TILE) + q])
        for r in range(some):
            inside, i = 0.0, row + r
            for q in range(p):
                images[i, q] = np.float32(y[r, q])
                inside += y[r, q] * y[r, q]
            length, rest = np.sqrt(square[r]) * UP, np.sqrt(max(0.0, square[r] - inside))
            images[i, p:] = np.float32(rest) * np.float32(0.5)
            beyond = maker.lost_of_squares * length * length
            of_rest = np.sqrt(beyond) if rest * rest <= beyond else beyond / rest
            off[i] = (maker.lost * length + of_rest) * UP + 2.0**-100
