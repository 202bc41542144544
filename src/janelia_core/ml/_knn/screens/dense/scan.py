"""Numba kernels of the dense CPU screen: scan a tile of scores, keep what may be among the k best.

Each row owns a list of (key, centre) pairs and a threshold (`Lists`). A tile is compared with the thresholds 64 scores
at a time: one vector comparison gives a 64-bit mask, and only its set bits are looked at. When a list fills, the k-th
best *lower* bound in it becomes the new threshold and what lies below is dropped (`compact`).

Invariant, which the certificate rests on: every centre seen so far that is not in the list of row i has a proven upper
bound of its score at most `limit[i]`.

Under a mask this is said of the centres that a row may have, and of no other is anything kept: hits are a tile's mask
and-ed with its word of allowed centres, and the scores of a sample are made -inf where a row may not have the centre,
before thresholds are made of them. So the k scores that a threshold is a lower bound of, in a sample as in a list, are
those of k allowed centres; and a row that has fewer of them keeps its first threshold and its limit of -inf, and lists
them all.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from janelia_core.ml._knn.data.mask_kernels import Bits
from janelia_core.ml._knn.screens.dense.lists import BETWEEN, Lists, compact, kth_rank, rank_below
from janelia_core.ml._knn.screens.dense.row_bounds import KeyTerms
from janelia_core.ml._runtime.arrays import F32, Reals
from janelia_core.ml._runtime.jit import inlined, jit
from janelia_core.ml._simd.bits import LANES, first_bit, float_of_rank, rank_of_float
from janelia_core.ml._simd.dot_tiles import PARAMETERS, ROWS, TILE, reaching, score_tile

_Worst = tuple[np.float32, np.float32]  # the largest e_j and g_j of some centres
_KEPT_SCORES = 1 << 15  # of the first tiles at a time


class Tiles(NamedTuple):
    """Some tiles of centres, one after the other.

    Fields:
        words: Bits of the centres (`dot_tiles`), whose type tells their format.
        parameters: (n_tiles * PARAMETERS * TILE,) float32, their beta, e and h.
        first: Packed position of the first centre.
        errs: (n_packed, 2) float32, (e_j, g_j) of each packed centre.
    """

    words: Reals
    parameters: F32
    first: int
    errs: F32


@jit
def scan(tiles: Tiles, rows: KeyTerms, lists: Lists, allowed: Bits | None, sample: int, groups: int) -> None:
    """Lists what may matter of the scores of all rows, a multiple of ROWS, with some tiles of centres.

    Half of all that would be listed without thresholds would be so in the first sixteenth of the centres. So the scores
    of a few rows with a first sample of tiles are made and kept, set thresholds, and only then are listed.

    Args:
        tiles: The centres.
        rows: The rows, packed.
        lists: Theirs.
        allowed: (n, n_words) of TILE bits: which centres of each tile a row may have; None: all, and
            Numba leaves out what asks.
        sample: How many of the tiles set first thresholds; 0 but in the first scan of these rows.
        groups: Centres of the sample that are as far apart make a group, k groups at least; divides sample * TILE.
    """
    # Held in locals: reading a field of a tuple of arrays counts references, which costs more than a hit.
    errs, reach, lift, n = tiles.errs, rows.reach, rows.lift, rows.words.shape[0]
    n_tiles, seen = tiles.parameters.shape[0] // (PARAMETERS * TILE), sample * TILE
    length, full, threshold, limit = lists.length, lists.full, lists.threshold, lists.limit
    keys, ids, lows, capacity, each = lists.keys, lists.ids, lists.lows, lists.keys.shape[1], BETWEEN + lists.k // 4
    at_once = min(n, max(1, _KEPT_SCORES // seen // ROWS) * ROWS) if sample else n
    fresh, masks = np.empty(max(ROWS * TILE, at_once * seen), np.float32), np.empty(ROWS, np.uint64)
    work = np.empty(capacity + LANES, np.int32)
    before = tiles.first // TILE
    error = gap = np.float32(0.0)
    for c in range(tiles.first, tiles.first + seen):
        error, gap = max(error, errs[c, 0]), max(gap, errs[c, 1])
    passes = -(-n // at_once) if sample else 0
    for this in range(passes + 1):
        sampling = this < passes
        some, stop, begin, end, stride = 0, n, sample, n_tiles, TILE
        if sampling:
            some, stop, begin, end, stride = this * at_once, min((this + 1) * at_once, n), 0, sample, seen
            for tile in range(sample):
                for row in range(some, stop, ROWS):
                    place = (row - some) * seen + tile * TILE
                    score_tile(tiles, tile, rows, row, threshold, fresh, place, seen, masks)
                    if allowed is not None:
                        _deny(allowed, row, before + tile, fresh, place, seen)
            _raise_thresholds(fresh, seen, groups, some, stop, (error, gap), rows, lists)
        for tile in range(begin, end):
            for row in range(some, stop, ROWS):
                if allowed is not None and not _any_allowed(allowed, row, before + tile):
                    continue
                any_hit = np.uint64(0)
                place = 0
                if sampling:
                    place = (row - some) * seen + tile * TILE
                    for r in range(ROWS):
                        masks[r] = reaching(fresh, place + r * stride, threshold[row + r])
                        any_hit |= masks[r]
                else:
                    any_hit = score_tile(tiles, tile, rows, row, threshold, fresh, 0, TILE, masks)
                if any_hit == 0:
                    continue
                for r in range(ROWS):
                    mask = masks[r]
                    if allowed is not None:
                        mask &= np.uint64(allowed[np.uint64(row + r), np.uint64(before + tile)])
                    if mask == 0:
                        continue
                    i, own = row + r, place + r * stride
                    m, least, most, twice, more = length[i], threshold[i], full[i], np.float32(2.0) * reach[i], lift[i]
                    while mask != 0:
                        q = first_bit(mask)
                        mask &= mask - np.uint64(1)
                        key = fresh[np.uint64(own + q)]
                        if key < least:
                            continue
                        j = np.uint64(tiles.first + tile * TILE + q)
                        keys[np.uint64(i), np.uint64(m)] = key
                        ids[np.uint64(i), np.uint64(m)] = j
                        lows[np.uint64(i * capacity + m)] = rank_below(key, twice, errs[j, 0], errs[j, 1], more)
                        m += 1
                        if m == most:
                            m, least, gone = compact(lists, i, m, least, work)
                            limit[i] = max(limit[i], float(gone))
                            most = min(capacity, m + each)
                    length[i], threshold[i], full[i] = m, least, most


@inlined
def _any_allowed(allowed: Bits, row: int, tile: int) -> bool:
    """Whether any of ROWS rows may have a centre of a tile."""
    word = np.uint64(0)
    for r in range(ROWS):
        word |= np.uint64(allowed[np.uint64(row + r), np.uint64(tile)])
    return bool(word != 0)


@inlined
def _deny(allowed: Bits, row: int, tile: int, fresh: F32, place: int, stride: int) -> None:
    """Makes keys of ROWS rows with a tile -inf where the row may not have the centre; as `score_tile` wrote them."""
    for r in range(ROWS):
        word, first = np.uint64(allowed[np.uint64(row + r), np.uint64(tile)]), np.uint64(place + r * stride)
        for q in range(np.uint64(TILE)):
            key = fresh[first + q]
            fresh[first + q] = key if (word >> q) & np.uint64(1) else np.float32(-np.inf)


@jit
def _raise_thresholds(
    fresh: F32, seen: int, groups: int, start: int, stop: int, most: _Worst, rows: KeyTerms, lists: Lists
) -> None:
    """Raises thresholds to a lower bound of k scores among those seen: the k-th best of group maxima.

    fresh holds `seen` keys of each of the rows start .. stop - 1, one row after the other; most holds the largest e_j
    and g_j among their centres.
    """
    best, ranks = np.empty(groups, np.float32), np.empty(groups + LANES, np.int32)
    threshold, limit, reach, lift = lists.threshold, lists.limit, rows.reach, rows.lift
    for i in range(start, stop):
        best[:] = -np.inf
        for first in range(np.uint64((i - start) * seen), np.uint64((i - start + 1) * seen), np.uint64(groups)):
            for q in range(np.uint64(groups)):
                key, highest = fresh[first + q], best[q]
                best[q] = key if key > highest else highest
        for q in range(groups):
            ranks[q] = rank_of_float(best[q])
        kth = float_of_rank(kth_rank(ranks, 0, groups, lists.k, rank_of_float(threshold[i]), False))
        least = float_of_rank(rank_below(kth, np.float32(2.0) * reach[i], most[0], most[1], lift[i]))
        threshold[i] = max(threshold[i], least)
        limit[i] = max(limit[i], float(least))
