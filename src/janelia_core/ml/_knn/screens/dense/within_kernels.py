"""Numba kernels of the dense screen that list all centres whose scores reach a row's threshold.

Names and equations are those of `dense.screen`; the proof is in `dense.within`.
"""

from __future__ import annotations

import numpy as np

from janelia_core.ml._knn.metrics.metric import COSINE, DOT
from janelia_core.ml._knn.screens.dense.row_bounds import KeyTerms
from janelia_core.ml._knn.screens.dense.scan import Tiles
from janelia_core.ml._runtime.arrays import B8, F32, F64, I64
from janelia_core.ml._runtime.jit import jit
from janelia_core.ml._simd.bits import bits_set, first_bit
from janelia_core.ml._simd.dot_tiles import PARAMETERS, ROWS, TILE, score_tile

_LOW = 0xFFFFFFFF
_LEAST = np.finfo(np.float32).min


@jit
def set_thresholds(what: int, limit: F64, square: F64, lost: B8, scale: float, threshold: F32) -> None:
    """Write what the keys of centres reach whose order value is at most limit (r,), rounded down.

    Args:
        what: `Metric.form`.
        limit: (r,), in units of stored values.
        square: (r,) |x|^2 rounded down, in the frame.
        lost: (r,) rows of which no key tells anything.
        scale: Of the frame, a power of two.
        threshold: (n,), written; inf behind the last row.
    """
    r, unit = limit.shape[0], scale * scale
    threshold[r:] = np.inf
    for i in range(r):
        if what == COSINE:
            score, size = (1.0 - limit[i]) * unit, (1.0 + abs(limit[i])) * unit
        elif what == DOT:
            score, size = -limit[i] * unit, abs(limit[i]) * unit
        else:
            score, size = (square[i] - limit[i] * unit) / 2.0, abs(square[i]) + abs(limit[i]) * unit
        least = score - 2.0**-50 * size
        # 2^-22 and 2^-120 outweigh the rounding to float32. Where there is no centre keys are -inf.
        least = np.float64(np.float32(least - 2.0**-22 * abs(least) - 2.0**-120))
        threshold[i] = np.float32(max(least, np.float64(_LEAST))) if not lost[i] else _LEAST


@jit
def list_reaching(
    tiles: Tiles, rows: KeyTerms, threshold: F32, first: int, begin: int, used: int, pairs: I64
) -> tuple[int, int]:
    """List the pairs whose keys reach the row's threshold, tile by tile, as far as there is room.

    Args:
        tiles: The centres.
        rows: The rows, packed, a multiple of ROWS.
        threshold: (n,), theirs; all above -inf.
        first: What the first of the rows is called in pairs.
        begin: The tile to begin with.
        used: How much of pairs has been used.
        pairs: (room,), written: row << 32 | packed position, in any order.

    Returns:
        The first tile for which there was no room, the one behind the last if there was; and how much is used then.
    """
    n, n_tiles, room = rows.words.shape[0], tiles.parameters.shape[0] // (PARAMETERS * TILE), pairs.shape[0]
    keys, masks, start = np.empty(ROWS * TILE, np.float32), np.empty(ROWS, np.uint64), tiles.first
    of_rows, hit = np.empty(n, np.uint64), np.empty(n + 1, np.int64)
    for tile in range(begin, n_tiles):
        for row in range(0, n, ROWS):
            score_tile(tiles, tile, rows, row, threshold, keys, 0, TILE, masks)
            for r in range(ROWS):
                of_rows[np.uint64(row + r)] = masks[np.uint64(r)]
        # Apart from the scores, and without a branch that is a toss-up: few rows have a hit, and most of these one.
        n_hit, total = 0, 0
        for i in range(np.uint64(n)):
            mask = of_rows[i]
            hit[np.uint64(n_hit)] = i
            n_hit += mask != 0
            total += bits_set(mask)
        if used + total > room:
            return tile, used
        for place in range(np.uint64(n_hit)):
            mask = of_rows[np.uint64(hit[place])]
            pair = (first + hit[place]) << 32 | (start + tile * TILE)
            while mask != 0:
                pairs[np.uint64(used)] = pair + first_bit(mask)
                mask &= mask - np.uint64(1)
                used += 1
    return n_tiles, used


@jit
def put_in_rows(pairs: I64, used: int, panel: int, n_panels: int, names: I64, counts: I64, listed: I64) -> None:
    """Write the listed centres row by row.

    Args:
        pairs: As `list_reaching` wrote them.
        used: How many.
        panel: Centres of a panel, and
        n_panels: how many there are, as for `row_bounds.prove`.
        names: What the centres are called; empty: by their positions.
        counts: (r,), written.
        listed: (used,), written.
    """
    counts[:] = 0
    for pair in range(used):
        counts[pairs[pair] >> 32] += 1
    places, total = np.empty(counts.shape[0], np.int64), 0
    for i in range(counts.shape[0]):
        places[i] = total
        total += counts[i]
    for pair in range(used):
        i, packed = pairs[pair] >> 32, np.uint32(pairs[pair] & _LOW)
        centre = np.int64(packed)
        if n_panels > 0:
            centre = packed % np.uint32(panel) * np.int64(n_panels) + packed // np.uint32(panel)
        listed[places[i]] = names[centre] if len(names) else centre
        places[i] += 1
