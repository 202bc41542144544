"""Numba kernel of the sieve: images pass in tiles, and whose image is near enough is scored over all columns.

Names and equations are those of `dense.sieve.screen`; lists are those of `dense.lists`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from janelia_core.ml._knn.screens.dense.lists import Lists, compact, kth_rank, rank_below
from janelia_core.ml._knn.screens.dense.row_bounds import KeyTerms
from janelia_core.ml._knn.screens.dense.scan import Tiles
from janelia_core.ml._runtime.arrays import F32, F64, I64, U32
from janelia_core.ml._runtime.jit import inlined, jit
from janelia_core.ml._simd.bits import LANES, first_bit, float_of_rank, rank_of_float
from janelia_core.ml._simd.byte_rows import byte_product
from janelia_core.ml._simd.dot_tiles import PARAMETERS, ROWS, TILE, reaching, score_tile

BETWEEN = 4
"""Entries between two compactions, and k / 4 more: few, for each lower threshold spares many scores."""
TOLD = 2
"""Times k centres, those with the nearest images of some tiles, that tell a first threshold."""
_LOWEST = np.float32(np.finfo(np.float32).min)  # where there is no centre keys are -inf
_LEAST = np.float64(_LOWEST)


class Whole(NamedTuple):
    """Centres over all columns, each in one piece.

    Fields:
        words: (places * width,) uint32.
        parameters: (places * PARAMETERS,) float32, tile by tile.
        errs: (places, 2) float32, (e_j, g_j).
        width: Words of a centre.
    """

    words: U32
    parameters: F32
    errs: F32
    width: int


class Mesh(NamedTuple):
    """What turns a limit of distances into one of image keys.

    Fields:
        upper: (n,) |x|^2 rounded up, over all columns; inf where no score tells anything.
        square: (n,) |q^|^2 of images rounded down; -inf where no key of images does.
        off: (n,) e_x + e_c.
        unit: A distance over all columns, in its frame, over that of stored values, and over 1 - eta.
        scale: A squared distance of images, in their frame, over that of stored values.
    """

    upper: F64
    square: F64
    off: F64
    unit: float
    scale: float


@inlined
def floor_of(mesh: Mesh, i: int, threshold: np.float32) -> np.float32:
    """What image keys reach of all centres whose score reaches a threshold, rounded down."""
    score, upper, square = np.float64(threshold), mesh.upper[i], mesh.square[i]
    if upper == np.inf:
        return np.float32(np.inf)
    distance = max(0.0, upper - 2.0 * score + 2.0**-50 * (upper + 2.0 * abs(score)))
    root = np.sqrt(distance * mesh.unit) * (1.0 + 2.0**-50) + mesh.off[i]
    limit = root * root * (1.0 + 2.0**-49) * mesh.scale
    least = (square - limit) / 2.0 - 2.0**-50 * (abs(square) + limit)
    # 2^-22 and 2^-120 outweigh the rounding to float32. Where there is no centre keys are -inf.
    return np.float32(max(_LEAST, least - 2.0**-22 * abs(least) - 2.0**-120))


@inlined
def _key(words: U32, width: int, parameters: F32, j: np.uint64, points: I64, rows: KeyTerms, i: int) -> np.float32:
    """The key of row i, whose words are points, and centre j over all columns."""
    place = j // np.uint64(TILE) * np.uint64(PARAMETERS * TILE) + j % np.uint64(TILE)
    total = np.float32(byte_product(words, j * np.uint64(width), points, i * width, width) + rows.start[i])
    error, level = parameters[place + np.uint64(TILE)], parameters[place + np.uint64(2 * TILE)]
    key: np.float32 = total * parameters[place] * rows.alpha[i] + (rows.reach[i] * error + level)
    return key


@jit
def raise_thresholds(
    tiles: Tiles, images: KeyTerms, whole: Whole, rows: KeyTerms, begin: I64, seen: int, lists: Lists
) -> None:
    """Raise thresholds to a lower bound of k scores: those of centres with near images in a few tiles.

    Without, a third of all that passes would do so before lists have told good thresholds.

    Args:
        tiles: Images of centres.
        images: Of rows, n of them, a multiple of ROWS.
        whole: The centres.
        rows: The rows.
        begin: (n / ROWS,); the first tile that is looked at for ROWS rows.
        seen: How many tiles are.
        lists: Of the rows.
    """
    # Held in locals: reading a field of a tuple of arrays, or handing one on, counts references.
    n, stride, k = images.words.shape[0], seen * TILE, lists.k
    wanted = min(TOLD * k, stride)
    fresh, masks = np.empty(ROWS * stride, np.float32), np.empty(ROWS, np.uint64)
    ranks, lows = np.empty(stride + LANES, np.int32), np.empty(wanted + LANES, np.int32)
    words, parameters, errs, width = whole.words, whole.parameters, whole.errs, whole.width
    points, threshold, limit, lowest = rows.words.reshape(-1), lists.threshold, lists.limit, rank_of_float(_LOWEST)
    for row in range(0, n, ROWS):
        first = begin[row // ROWS]
        for tile in range(seen):
            score_tile(tiles, first + tile, images, row, threshold, fresh, tile * TILE, stride, masks)
        for r in range(ROWS):
            i, own, m, twice = row + r, np.uint64(r * stride), 0, np.float32(2.0) * rows.reach[row + r]
            for q in range(np.uint64(stride)):
                ranks[q] = rank_of_float(fresh[own + q])
            near = max(float_of_rank(kth_rank(ranks, 0, stride, wanted, lowest, False)), _LOWEST)  # a centre's
            for tile in range(seen):
                mask = reaching(fresh, r * stride + tile * TILE, near)
                while mask != 0 and m < wanted:
                    j = np.uint64((first + tile) * TILE + first_bit(mask))
                    mask &= mask - np.uint64(1)
                    key = _key(words, width, parameters, j, points, rows, i)
                    lows[m] = rank_below(key, twice, errs[j, 0], errs[j, 1], rows.lift[i])
                    m += 1
            if m >= k:
                threshold[i] = float_of_rank(kth_rank(lows, 0, m, k, lowest, True))
                limit[i] = np.float64(threshold[i])


@jit
def sieve(tiles: Tiles, images: KeyTerms, mesh: Mesh, whole: Whole, rows: KeyTerms, turns: I64, lists: Lists) -> int:
    """List what may matter to all rows, whose thresholds may have been raised.

    Args:
        tiles: Images of centres.
        images: Of rows, n of them, a multiple of ROWS.
        mesh: Of the rows.
        whole: The centres.
        rows: The rows.
        turns: All tiles, in the order in which they have their turn.
        lists: Of the rows.

    Returns:
        How many pairs passed the first mesh.
    """
    # Held in locals: reading a field of a tuple of arrays, or handing one on, counts references.
    n, passed = images.words.shape[0], 0
    fresh, masks, floor = np.empty(ROWS * TILE, np.float32), np.empty(ROWS, np.uint64), np.empty(n, np.float32)
    words, parameters, errs, width = whole.words, whole.parameters, whole.errs, whole.width
    points, reach, lift = rows.words.reshape(-1), rows.reach, rows.lift
    length, full, threshold, limit = lists.length, lists.full, lists.threshold, lists.limit
    keys, ids, lows, capacity, each = lists.keys, lists.ids, lists.lows, lists.keys.shape[1], BETWEEN + lists.k // 4
    work = np.empty(capacity + LANES, np.int32)
    for i in range(n):
        floor[i] = floor_of(mesh, i, threshold[i])
    for turn in range(turns.shape[0]):
        tile = turns[turn]
        for row in range(0, n, ROWS):
            if score_tile(tiles, tile, images, row, floor, fresh, 0, TILE, masks) == 0:
                continue
            for r in range(ROWS):
                mask, i = masks[r], row + r
                if mask == 0:
                    continue
                m, least, most, twice, more = length[i], threshold[i], full[i], np.float32(2.0) * reach[i], lift[i]
                while mask != 0:
                    q = first_bit(mask)
                    mask &= mask - np.uint64(1)
                    j = np.uint64(tile * TILE + q)
                    passed += 1
                    key = _key(words, width, parameters, j, points, rows, i)
                    if key < least:
                        continue
                    keys[np.uint64(i), np.uint64(m)] = key
                    ids[np.uint64(i), np.uint64(m)] = j
                    lows[np.uint64(i * capacity + m)] = rank_below(key, twice, errs[j, 0], errs[j, 1], more)
                    m += 1
                    if m == most:
                        m, least, gone = compact(lists, i, m, least, work)
                        limit[i] = max(limit[i], np.float64(gone), np.float64(least))
                        most = min(capacity, m + each)
                        floor[i] = floor_of(mesh, i, least)
                length[i], threshold[i], full[i] = m, least, most
    return passed
