"""Numba kernels: rows pass the cells that they need, and of these the tiles that they need.

Names and equations are those of `dense.cells.screen`; lists are those of `dense.lists`, of keys K and their lower
bounds, both of -D/2.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from janelia_core.ml._knn.screens.dense.lists import BETWEEN, Lists, compact, rank_below
from janelia_core.ml._knn.screens.dense.rounding import Places, Rounding, Sums, round_points
from janelia_core.ml._knn.screens.dense.row_bounds import KeyTerms, RowConstants, bound_rows, point_bounds
from janelia_core.ml._knn.screens.dense.scan import Tiles
from janelia_core.ml._runtime.arrays import B8, F32, F64, I64, U32, U64, Reals
from janelia_core.ml._runtime.jit import inlined, jit
from janelia_core.ml._simd.bits import LANES, first_bit, float_of_rank, rank_of_float
from janelia_core.ml._simd.dot_tiles import ROWS, TILE, score_tile

_LEAST = np.float32(np.finfo(np.float32).min)
_LOOSE = 1.0 + 2.0**-40  # outweighs a few float64 roundings


class Cells(NamedTuple):
    """Centres in cells, as `CellCentres` holds them.

    Fields:
        tiles: The packed centres.
        heads: The packed middles of tiles.
        first_tiles: See `CellCentres`, as all that follows.
        first_heads: See above.
        radii: See above.
        shifts: See above.
        lengths: See above.
        scale: See above.
        bits: Of a coordinate.
        asked: See above.
    """

    tiles: Tiles
    heads: Tiles
    first_tiles: I64
    first_heads: I64
    radii: F64
    shifts: F64
    lengths: F64
    scale: float
    bits: int
    asked: RowConstants


class Local(NamedTuple):
    """Rows in the frame of one cell: room for n of them, a multiple of ROWS.

    Fields:
        values: (n, d) as given.
        words: (n, n_words) uint32, the memory of the words in `terms`.
        terms: What their keys are made of.
        sums: (n,), as `round_points` writes them.
        which: (n,); which rows of the block these are.
        least: (n,) float32; a key below it need not be looked at.
        square: (n,); |x'|^2 rounded down.
        upper: (n,); rounded up.
        exact: (n,), of no use here.
        lost: (n,); beyond what the format holds.
        needs: (n / ROWS,) uint64; bit t: some of ROWS rows need tile t.
        done: (n / ROWS,) uint64; bit t: they have seen it.
    """

    values: Reals
    words: U32
    terms: KeyTerms
    sums: Sums
    which: I64
    least: F32
    square: F64
    upper: F64
    exact: B8
    lost: B8
    needs: U64
    done: U64


@jit
def scan(cells: Cells, x: Reals, visits: I64, ceilings: F64, local: Local, lists: Lists, lost: B8) -> None:
    """Lists what may matter to all rows.

    Args:
        cells: The centres.
        x: (r, d) finite rows.
        visits: (g,) all cells, in the order in which they are visited.
        ceilings: (r, g); no centre of a cell has -D/2 above it.
        local: Room.
        lists: Of the rows.
        lost: (r,), written where rows are beyond what the format holds.
    """
    # Held in locals: reading a field of a tuple of arrays, or handing one on, counts references.
    fresh, masks, tiles, terms = np.empty(ROWS * TILE, np.float32), np.empty(ROWS, np.uint64), cells.tiles, local.terms
    errs, reach, lift, needs, which = tiles.errs, terms.reach, terms.lift, local.needs, local.which
    floor, square, upper = local.least, local.square, local.upper
    length, full, threshold, limit = lists.length, lists.full, lists.threshold, lists.limit
    keys, ids, lows, capacity, each = lists.keys, lists.ids, lists.lows, lists.keys.shape[1], BETWEEN + lists.k // 4
    work, first_tiles, first_heads = np.empty(capacity + LANES, np.int32), cells.first_tiles, cells.first_heads
    for visit in range(visits.shape[0]):
        g = visits[visit]
        n = _enter(cells, x, g, ceilings, local, lists, lost)
        for head in range(first_heads[g], first_heads[g + 1] if n else 0):
            begin = first_tiles[g] + (head - first_heads[g]) * TILE
            end = min(begin + TILE, first_tiles[g + 1])
            for turn in range(2):
                if not _note_needs(cells, head, begin, end, n, turn == 0, local, lists):
                    continue
                for tile in range(begin, end):
                    bit = np.uint64(1) << np.uint64(tile - begin)
                    for row in range(0, n, ROWS):
                        if needs[row // ROWS] & bit == 0:
                            continue
                        if score_tile(tiles, tile, terms, row, floor, fresh, 0, TILE, masks) == 0:
                            continue
                        for r in range(ROWS):
                            mask, p = masks[r], row + r
                            if mask == 0:
                                continue
                            i = which[p]
                            m, least, most, half, above = length[i], floor[p], full[i], square[p] / 2.0, upper[p] / 2.0
                            twice, more = np.float32(2.0) * reach[p], lift[p]
                            while mask != 0:
                                q = first_bit(mask)
                                mask &= mask - np.uint64(1)
                                key = fresh[np.uint64(r * TILE + q)]
                                if key < least:
                                    continue
                                j = np.uint64(tile * TILE + q)
                                low = np.float64(float_of_rank(rank_below(key, twice, errs[j, 0], errs[j, 1], more)))
                                keys[np.uint64(i), np.uint64(m)] = _outward(np.float64(key), half, 1.0)
                                ids[np.uint64(i), np.uint64(m)] = j
                                lows[np.uint64(i * capacity + m)] = rank_of_float(_outward(low, above, -1.0))
                                m += 1
                                if m == most:
                                    m, threshold[i], gone = compact(lists, i, m, threshold[i], work)
                                    limit[i] = max(limit[i], float(gone), np.float64(threshold[i]))
                                    most, least = min(capacity, m + each), _local_least(threshold[i], square[p])
                            length[i], floor[p], full[i] = m, least, most


@inlined
def _enter(cells: Cells, x: Reals, g: int, ceilings: F64, local: Local, lists: Lists, lost: B8) -> int:
    """Takes the rows that need a cell into its frame; returns how many."""
    which, least, values, square, upper = local.which, local.least, local.values, local.square, local.upper
    threshold, limit, sums = lists.threshold, lists.limit, local.sums
    n = 0
    for i in range(x.shape[0]):
        if ceilings[i, g] < threshold[i]:
            limit[i] = max(limit[i], np.float64(threshold[i]))
            continue
        which[n] = i
        for q in range(x.shape[1]):
            values[n, q] = x[i, q]
        n += 1
    if n == 0:
        return 0
    padded = (n + ROWS - 1) // ROWS * ROWS
    how = Rounding(cells.shifts[g], cells.lengths[g], cells.scale, False, cells.bits, 1, 0)
    round_points(values[:n], Places(0, 1, 0, padded, 1), how, local.words, local.terms.alpha, sums)
    bound_rows(sums[:n], cells.asked, local.terms, local.exact, square, local.lost)
    for p in range(n):
        i = which[p]
        lost[i] |= local.lost[p]
        _, _, of_point, error, _ = point_bounds(sums, p, cells.asked.d, cells.asked.relative_error)
        upper[p] = (of_point + error) * _LOOSE
        least[p] = _local_least(threshold[i], square[p])
    for p in range(n, padded):
        least[p] = np.inf
    return n


@inlined
def _local_least(threshold: np.float32, square: float) -> np.float32:
    """A float32 at most threshold + square / 2, and finite."""
    own, half = np.float64(threshold), square / 2.0
    least = own + half - 2.0**-50 * (abs(own) + half)
    return max(_LEAST, np.float32(least - 2.0**-22 * abs(least) - 2.0**-120))


@jit
def _note_needs(cells: Cells, head: int, begin: int, end: int, n: int, first: bool, local: Local, lists: Lists) -> bool:
    """Writes which of the tiles begin .. end - 1 some of each ROWS of n rows need, by the keys of their middles.

    first: Only of rows without a threshold yet, and of each the one most promising tile; after these, of all rows, all
    other tiles that they need. Returns whether there are any.
    """
    heads, terms, floor, which, halves = cells.heads, local.terms, local.least, local.which, local.square
    threshold, limit, radii, needs, done = lists.threshold, lists.limit, cells.radii, local.needs, local.done
    keys, masks = np.empty(ROWS * TILE, np.float32), np.empty(ROWS, np.uint64)
    everything, found, any_fresh = ~np.uint64(0) >> np.uint64(64 - (end - begin)), False, False
    for p in range(n if first else 0):
        any_fresh |= threshold[which[p]] == _LEAST
    if first and not any_fresh:
        done[:] = 0
        return False
    for row in range(0, n, ROWS):
        score_tile(heads, head, terms, row, floor, keys, 0, TILE, masks)
        mask = np.uint64(0)
        for p in range(row, min(row + ROWS, n)):
            i, own, start = which[p], np.uint64(0), (p - row) * TILE
            if threshold[i] == _LEAST:
                best = np.argmax(keys[start : start + end - begin])
                own = np.uint64(1) << np.uint64(best) if first else everything
            elif not first:
                least = np.float64(threshold[i])
                kth, half = np.sqrt(max(0.0, -2.0 * least)) * _LOOSE, halves[p] / 2.0
                for t in range(end - begin):
                    far = radii[begin + t] + kth
                    needed = np.float64(keys[start + t]) >= half - far * far * (0.5 * _LOOSE)
                    own |= np.uint64(needed) << np.uint64(t)
                if own != everything:
                    limit[i] = max(limit[i], least)
            mask |= own
        done[row // ROWS] = mask if first else done[row // ROWS]
        needs[row // ROWS] = mask if first else mask & ~done[row // ROWS]
        found |= needs[row // ROWS] != 0
    return found


@inlined
def _outward(score: float, half: float, sign: float) -> np.float32:
    """A float32 at least score - half for sign 1.0, at most for -1.0."""
    value = score - half + sign * 2.0**-50 * (abs(score) + half)
    return np.float32(value + sign * (2.0**-22 * abs(value) + 2.0**-120))
