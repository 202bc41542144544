"""Numba kernels of the dense CPU screen: scan a tile of scores, keep what may be among the k best.

Each row owns a buffer of (key, centre) pairs and a threshold. A tile is compared with the thresholds 64
scores at a time: one vector comparison gives a 64-bit mask, and only its set bits are looked at. When a
buffer fills, the k-th best *lower* bound in it becomes the new threshold and what lies below is dropped
(`compact`).

Invariant, which the certificate rests on: every centre seen so far that is not in the buffer of row i has
a proven upper bound of its score at most `limit[i]`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from janelia_core.ml._knn.screens.dense.lists import compact, kth_rank, rank_below
from janelia_core.ml._runtime.jit import jit
from janelia_core.ml._simd.bits import LANES, first_bit, float_of_rank, rank_of_float
from janelia_core.ml._simd.dot_tiles import ROWS, TILE, Rows, Tiles, reaching, score_tile

_KEPT_SCORES = 1 << 15  # of the first tiles at a time
BETWEEN = 32
"""Entries between two compactions, and k / 4 more: the threshold is fresh, and each costs a tenth of a microsecond."""


class Shortlist(NamedTuple):
    """What a block of r rows remembers between tiles.

    Fields:
        start: (r,) int32 for int8, else float32; what sums start from.
        alpha: (r,) float32; what a unit of the row's sums stands for.
        lift: (r,) float32; at least what `start` adds to keys.
        reach: (r,) float32; a_i of `dense.screen`: the error of score (i, j) is at most 2 a_i e_j + g_j + lift_i.
        threshold: (r,) float32; a score whose key is below it need not be looked at.
        limit: (r,) float64; every centre seen and not kept has a score of at most this.
        exact: (r,) bool; the keys of this row are its scores, without error.
        count: (r,) int64; entries in the row's buffer.
        full: (r,) int64; how many entries make it time to compact the buffer.
        keys: (r, capacity) float32; scores as the product gave them.
        ids: (r, capacity) int32; packed positions of their centres.
        lows: (r * capacity + LANES,) int32; ranks of lower bounds of their scores (`bits.rank_of_float`).
    """

    start: Any
    alpha: Any
    lift: Any
    reach: Any
    threshold: Any
    limit: Any
    exact: Any
    count: Any
    full: Any
    keys: Any
    ids: Any
    lows: Any


@jit
def _first_thresholds(
    fresh: Any, seen: int, groups: int, start: int, stop: int, k: int, error: Any, gap: Any, rows: Any
) -> None:
    """Raises thresholds to a lower bound of k scores among those seen: the k-th best of group maxima.

    Args:
        fresh: float32, `seen` keys of each of the rows start .. stop - 1, one row after the other.
        seen: See fresh.
        groups: Centres that are as far apart make a group, k groups at least; divides seen.
        start: See fresh.
        stop: See fresh.
        k: How many centres are wanted.
        error: The largest e_j among the centres seen.
        gap: The largest g_j.
        rows: As for `scan`.
    """
    best, ranks = np.empty(groups, np.float32), np.empty(groups + LANES, np.int32)
    threshold, limit, reach, lift = rows.threshold, rows.limit, rows.reach, rows.lift
    for i in range(start, stop):
        best[:] = -np.inf
        for first in range(np.uint64((i - start) * seen), np.uint64((i - start + 1) * seen), np.uint64(groups)):
            for q in range(np.uint64(groups)):
                key, most = fresh[first + q], best[q]
                best[q] = key if key > most else most
        for q in range(groups):
            ranks[q] = rank_of_float(best[q])
        kth = float_of_rank(kth_rank(ranks, 0, groups, k, rank_of_float(threshold[i]), False))
        least = float_of_rank(rank_below(kth, np.float32(2.0) * reach[i], error, gap, lift[i]))
        threshold[i] = max(threshold[i], least)
        limit[i] = max(limit[i], float(least))


@jit
def scan(
    ctrs: Any,
    parameters: Any,
    first: int,
    n_tiles: int,
    sample: int,
    groups: int,
    points: Any,
    n_words: int,
    k: int,
    cap: int,
    rows: Any,
    errs: Any,
) -> None:
    """Keeps what may matter of the scores of all rows with some tiles of centres.

    Half of all that would be listed without thresholds would be so in the first sixteenth of the centres. So the scores
    of a few rows with a first sample of tiles are made and kept, set thresholds, and only then are listed.

    Args:
        ctrs: Words of the centres, tile after tile (`dot_tiles`).
        parameters: (n_tiles * PARAMETERS * TILE,) float32, their beta, e and h.
        first: Packed position of the first centre.
        n_tiles: How many tiles there are.
        sample: How many of them set first thresholds; 0 but in the first scan of these rows.
        groups: Centres of the sample that are as far apart make a group, k groups at least; divides sample * TILE.
        points: Words of the rows.
        n_words: Words of a point.
        k: How many centres are wanted; cap: how many a compacted buffer may hold, k <= cap < capacity.
        cap: See k.
        rows: Shortlist of the rows, updated; their number is a multiple of ROWS.
        errs: (n_packed, 2) float32, (e_j, g_j) of each packed centre.
    """
    # Held in locals: reading a field of a tuple of arrays counts references, which costs more than a hit.
    threshold, limit, count, exact = rows.threshold, rows.limit, rows.count, rows.exact
    start, alpha, reach, lift = rows.start, rows.alpha, rows.reach, rows.lift
    capacity, each = rows.keys.shape[1], BETWEEN + k // 4
    keys, ids, lows = rows.keys.reshape(-1), rows.ids.reshape(-1), rows.lows
    full = rows.full
    tiles, of_rows = Tiles(ctrs, parameters), Rows(points, start, alpha, reach, threshold)
    n, seen = count.shape[0], sample * TILE
    at_once = min(n, max(1, _KEPT_SCORES // seen // ROWS) * ROWS) if sample else n
    work, masks = np.empty(capacity + LANES, np.int32), np.empty(ROWS, np.uint64)
    fresh = np.empty(max(ROWS * TILE, at_once * seen), np.float32)
    passes = -(-n // at_once) if sample else 0
    error = gap = np.float32(0.0)
    for c in range(seen):
        error, gap = max(error, errs[c, 0]), max(gap, errs[c, 1])
    for this in range(passes + 1):
        sampling = this < passes
        some, stop, begin, end, stride = 0, n, sample, n_tiles, TILE
        if sampling:
            some, stop, begin, end, stride = this * at_once, min((this + 1) * at_once, n), 0, sample, seen
            for tile in range(sample):
                for row in range(some, stop, ROWS):
                    place = (row - some) * seen + tile * TILE
                    score_tile(tiles, tile, of_rows, row, n_words, fresh, place, seen, masks)
            _first_thresholds(fresh, seen, groups, some, stop, k, error, gap, rows)
        for tile in range(begin, end):
            for row in range(some, stop, ROWS):
                any_hit: Any = np.uint64(0)
                place = 0
                if sampling:
                    place = (row - some) * seen + tile * TILE
                    for r in range(ROWS):
                        masks[r] = reaching(fresh, place + r * stride, threshold[row + r])
                        any_hit |= masks[r]
                else:
                    any_hit = score_tile(tiles, tile, of_rows, row, n_words, fresh, 0, TILE, masks)
                if any_hit == 0:
                    continue
                for r in range(ROWS):
                    mask = masks[r]
                    if mask == 0:
                        continue
                    i, own = row + r, place + r * stride
                    base, m, least, most = i * capacity, count[i], threshold[i], full[i]
                    twice, more = np.float32(2.0) * reach[i], lift[i]
                    while mask != 0:
                        q = first_bit(mask)
                        mask &= mask - np.uint64(1)
                        key = fresh[np.uint64(own + q)]
                        if key < least:
                            continue
                        j, slot = np.uint64(first + tile * TILE + q), np.uint64(base + m)
                        keys[slot] = key
                        ids[slot] = j
                        lows[slot] = rank_below(key, twice, errs[j, 0], errs[j, 1], more)
                        m += 1
                        if m == most:
                            m, least, gone = compact(keys, ids, lows, base, m, k, cap, exact[i], least, work)
                            limit[i] = max(limit[i], float(gone))
                            most = min(capacity, m + each)
                    count[i], threshold[i], full[i] = m, least, most


@jit
def finish(k: int, cap: int, rows: Any) -> int:
    """Compacts every row's buffer a last time, moves its k best keys to the front; returns the longest count."""
    capacity = rows.keys.shape[1]
    work = np.empty(capacity + LANES, np.int32)
    threshold, limit, count, exact = rows.threshold, rows.limit, rows.count, rows.exact
    keys, ids, lows = rows.keys.reshape(-1), rows.ids.reshape(-1), rows.lows
    longest = 0
    for i in range(count.shape[0]):
        if count[i] >= k:
            base = i * capacity
            n, _, gone = compact(keys, ids, lows, base, count[i], k, cap, exact[i], threshold[i], work)
            count[i], limit[i] = n, max(limit[i], float(gone))
            for q in range(n):
                work[q] = rank_of_float(keys[base + q])
            kth = float_of_rank(kth_rank(work, 0, n, k, rank_of_float(gone), False))
            front = base
            for q in range(base, base + n):
                if keys[q] >= kth and front < base + k:
                    keys[q], keys[front] = keys[front], keys[q]
                    ids[q], ids[front] = ids[front], ids[q]
                    front += 1
        longest = max(longest, count[i])
    return longest
