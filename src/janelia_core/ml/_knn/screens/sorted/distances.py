"""Numba kernel of the sorted screen: squared distances of a few rows and all centres, in float64 or in float32."""

from __future__ import annotations

import numpy as np

from janelia_core.ml._runtime.arrays import Reals
from janelia_core.ml._runtime.jit import inlined, jit_with

TILE = 256
"""Centres that lie together: of each coordinate so many values, one behind the other."""
_COLUMNS = 16  # coordinates at a time, a multiple of four


@inlined
def _add_four(x: Reals, i: int, q: int, tiles: Reals, tile: int, far: Reals) -> None:
    """Adds four coordinates, from q on, to the distances of rows i and i + 1 with a tile of centres."""
    real, first = far.dtype.type, tile * np.uint64(TILE)
    one, two, three, after = np.uint64(1), np.uint64(2), np.uint64(3), i + np.uint64(1)
    a0, a1, a2, a3 = x[i, q], x[i, q + one], x[i, q + two], x[i, q + three]
    b0, b1, b2, b3 = x[after, q], x[after, q + one], x[after, q + two], x[after, q + three]
    for t in range(np.uint64(TILE)):
        c0, c1 = real(tiles[tile, q, t]), real(tiles[tile, q + one, t])
        c2, c3 = real(tiles[tile, q + two, t]), real(tiles[tile, q + three, t])
        u0, u1, u2, u3 = a0 - c0, a1 - c1, a2 - c2, a3 - c3
        v0, v1, v2, v3 = b0 - c0, b1 - c1, b2 - c2, b3 - c3
        far[i, first + t] = far[i, first + t] + u0 * u0 + u1 * u1 + u2 * u2 + u3 * u3
        far[after, first + t] = far[after, first + t] + v0 * v0 + v1 * v1 + v2 * v2 + v3 * v3


@inlined
def _add_one(x: Reals, i: int, q: int, tiles: Reals, tile: int, far: Reals) -> None:
    """Adds coordinate q likewise."""
    real, first, after = far.dtype.type, tile * np.uint64(TILE), i + np.uint64(1)
    a, b = x[i, q], x[after, q]
    for t in range(np.uint64(TILE)):
        c = real(tiles[tile, q, t])
        far[i, first + t] += (a - c) * (a - c)
        far[after, first + t] += (b - c) * (b - c)


@jit_with(fastmath={"contract"})
def fill_distances(x: Reals, tiles: Reals, far: Reals) -> None:
    """Writes the squared distances of all rows with all centres, summed in any order, fused or not.

    Args:
        x: (r, d) rows of the type of far, r even.
        tiles: (number, d, TILE) centres.
        far: (r, number * TILE), written.
    """
    n, d, r = tiles.shape[0], tiles.shape[1], x.shape[0]
    whole = d - d % 4
    for tile in range(np.uint64(n)):
        first = tile * np.uint64(TILE)
        for i in range(np.uint64(r)):
            for t in range(np.uint64(TILE)):
                far[i, first + t] = 0.0
        for start in range(0, d, _COLUMNS):  # these stay in the nearest cache for all rows
            stop = min(start + _COLUMNS, d)
            fours = min(stop, whole)
            for i in range(np.uint64(0), np.uint64(r), np.uint64(2)):
                for q in range(np.uint64(start), np.uint64(fours), np.uint64(4)):
                    _add_four(x, i, q, tiles, tile, far)
                for q in range(np.uint64(fours), np.uint64(stop)):
                    _add_one(x, i, q, tiles, tile, far)
