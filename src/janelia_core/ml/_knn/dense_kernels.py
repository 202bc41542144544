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

from janelia_core.ml._jit import jit
from janelia_core.ml._knn.float_bits import (
    LANES,
    bits_of_float,
    first_bit,
    float32_above,
    float32_below,
    float_of_bits,
    float_of_rank,
    mask_ge,
    mask_le,
    rank_of_float,
)


@jit
def kth_rank(ranks: Any, k: int, exactly: bool) -> Any:
    """A value that at least k of the int32 ranks reach: the k-th largest, or else one that exactly k reach.

    Bisection over the 2^32 ranks: counting is one vector instruction for eight entries, where a quickselect
    pays a mispredicted branch for every other entry (10 times slower on 68 entries).
    """
    low, high = np.int64(ranks.min()), np.int64(ranks.max()) + 1  # low is reached by all, high by none
    while high - low > 1:
        middle = low + (high - low) // 2
        bound, reached = np.int32(middle), np.int32(0)
        for q in range(ranks.shape[0]):
            reached += np.int32(ranks[q] >= bound)
        if reached >= k:
            low = middle
            if reached == k and not exactly:
                break
        else:
            high = middle
    return np.int32(low)


class Shortlist(NamedTuple):
    """What a block of r rows remembers between tiles.

    Fields:
        threshold: (r,) float32; a score whose key is below it need not be looked at.
        limit: (r,) float64; every centre seen and not kept has a score of at most this.
        reach: (r,) float64; a_i of screen_dense: the error of score (i, j) is at most 2 a_i e_j + g_j.
        exact: (r,) bool; the keys of this row are its scores, without error.
        count: (r,) int64; entries in the row's buffer.
        keys: (r, capacity) float32; scores as the product gave them.
        ids: (r, capacity) int32; packed positions of their centres.
    """

    threshold: Any
    limit: Any
    reach: Any
    exact: Any
    count: Any
    keys: Any
    ids: Any


@jit
def threshold_below(limit: float, store: float) -> Any:
    """A float32 t such that key < t implies key + store |key| <= limit.

    For limit < 0 this needs t <= limit (1 + s) with s >= store / (1 - store); `store` is at most 2^-8.
    """
    low = limit - store * (1.0 + 4.0 * store) * abs(limit)
    return float32_below(low - 2.0**-49 * abs(low))


@jit
def compact(i: int, k: int, cap: int, store: float, rows: Any, errs: Any, work: Any) -> None:
    """Raises row i's threshold to its k-th best lower bound; keeps at most cap entries that reach it."""
    n, keys, ids = rows.count[i], rows.keys[i], rows.ids[i]
    if n < k:
        return
    if rows.exact[i]:
        compact_exact(i, k, rows, work)
        return
    reach = 2.0 * rows.reach[i]
    for q in range(n):
        key = float(keys[q])
        err = reach * errs[ids[q], 0] + errs[ids[q], 1]
        # 2^-49 outweighs the roundings of this line and the one above, each at most 2^-53 of |key| or err;
        # 2^-23 and 2^-120 the rounding to float32, without a branch.
        low = key - ((store + 2.0**-49) * abs(key) + (1.0 + 2.0**-49) * err)
        work[q] = rank_of_float(np.float32(low - 2.0**-23 * abs(low) - 2.0**-120))
    limit = float(float_of_rank(kth_rank(work[:n], k, False)))
    threshold = threshold_below(limit, store)
    crowd = threshold
    spare = 0  # how many entries just below the threshold may stay
    if n > cap:
        for q in range(n):
            work[q] = rank_of_float(keys[q])
        crowd = float_of_rank(kth_rank(work[:n], cap + 1, True))
        if crowd >= threshold:  # too many to keep: what goes is accounted for in `limit`
            threshold = float32_above(crowd)
            limit = max(limit, float(crowd) + (store + 2.0**-49) * abs(float(crowd)))
            spare = cap
            for q in range(n):
                spare -= keys[q] >= threshold
    rows.threshold[i] = max(rows.threshold[i], threshold)
    rows.limit[i] = max(rows.limit[i], limit)
    kept = 0
    for q in range(n):
        key32, j = keys[q], ids[q]
        stays = key32 >= threshold
        if spare > 0 and not stays and key32 == crowd:
            spare -= 1
            stays = True
        keys[kept] = key32
        ids[kept] = j
        kept += stays
    rows.count[i] = kept


@jit
def compact_exact(i: int, k: int, rows: Any, work: Any) -> None:
    """Keeps exactly the first k of row i's buffer by (score descending, centre ascending).

    Tiles come in ascending order of centres and this filter is stable, so the buffer's order is that of the
    centres; for the same reason a later score equal to the k-th best loses, and the threshold lies one ulp
    above.
    """
    n, keys, ids = rows.count[i], rows.keys[i], rows.ids[i]
    for q in range(n):
        work[q] = rank_of_float(keys[q])
    kth = float_of_rank(kth_rank(work[:n], k, True))
    ties = k
    for q in range(n):
        if keys[q] > kth:
            ties -= 1
    kept = 0
    for q in range(n):
        tied = keys[q] == kth and ties > 0
        if tied:
            ties -= 1
        if tied or keys[q] > kth:
            keys[kept] = keys[q]
            ids[kept] = ids[q]
            kept += 1
    rows.count[i] = kept
    rows.threshold[i] = float32_above(kth)


@jit
def scan_float32(tile: Any, width: int, first: int, k: int, cap: int, rows: Any, errs: Any) -> None:
    """Keeps what may matter of a tile of scores.

    Args:
        tile: (r * width,) float32 scores, row after row; width is a multiple of LANES.
        width: Columns of the tile.
        first: Packed position of the tile's first centre.
        k: How many centres are wanted; cap: how many a compacted buffer may hold, k <= cap < capacity.
        cap: See k.
        rows: Shortlist of the r rows, updated.
        errs: (n_packed, 2) float32, (e_j, g_j) of each packed centre.
    """
    work = np.empty(rows.keys.shape[1], np.int32)
    # Held in locals: reading a field of a tuple of arrays counts references, which costs more than a hit.
    threshold, count, keys, ids = rows.threshold, rows.count, rows.keys, rows.ids
    full = keys.shape[1]
    for i in range(count.shape[0]):
        least = threshold[i]
        n = count[i]
        for start in range(0, width, LANES):
            base = i * width + start
            mask = mask_ge(tile, base, least)
            while mask != 0:
                q = first_bit(mask)
                mask &= mask - np.uint64(1)
                key = tile[base + q]
                if key >= least:
                    keys[i, n] = key
                    ids[i, n] = first + start + q
                    n += 1
                    if n == full:
                        count[i] = n
                        compact(i, k, cap, 0.0, rows, errs, work)
                        n, least = count[i], threshold[i]
        count[i] = n


@jit
def scan_bfloat16(tile: Any, width: int, first: int, k: int, cap: int, rows: Any, errs: Any) -> None:
    """scan_float32 for a tile of bfloat16 bit patterns, (r * width,) uint16.

    As unsigned integers the patterns of numbers >= +0 ascend through 0..0x7fff and those of numbers <= -0
    descend in value through 0x8000..0xffff. So `score >= t` is `signed pattern >= t's` for t > 0 and
    `unsigned pattern <= t's` for t <= -0.
    """
    store = 2.0**-8
    work = np.empty(rows.keys.shape[1], np.int32)
    signed = tile.view(np.int16)
    threshold, count, keys, ids = rows.threshold, rows.count, rows.keys, rows.ids
    full = keys.shape[1]
    for i in range(count.shape[0]):
        least = threshold[i]
        n = count[i]
        for start in range(0, width, LANES):
            base = i * width + start
            # Cut to bfloat16 towards -inf. -0 stands for 0, so that a score of -0 passes a threshold of 0.
            bits = bits_of_float(least)
            if least > 0:
                mask = mask_ge(signed, base, np.int16(bits >> np.uint32(16)))
            else:
                up = (bits | np.uint32(0x80000000)) + np.uint32(0xFFFF)
                mask = mask_le(tile, base, np.uint16(up >> np.uint32(16)))
            while mask != 0:
                q = first_bit(mask)
                mask &= mask - np.uint64(1)
                key = float_of_bits(np.uint32(tile[base + q]) << np.uint32(16))
                if key >= least:
                    keys[i, n] = key
                    ids[i, n] = first + start + q
                    n += 1
                    if n == full:
                        count[i] = n
                        compact(i, k, cap, store, rows, errs, work)
                        n, least = count[i], threshold[i]
        count[i] = n


@jit
def finish(k: int, cap: int, store: float, rows: Any, errs: Any) -> int:
    """Compacts every row's buffer a last time; returns the longest count."""
    work = np.empty(rows.keys.shape[1], np.int32)
    longest = 0
    for i in range(rows.count.shape[0]):
        compact(i, k, cap, store, rows, errs, work)
        longest = max(longest, rows.count[i])
    return longest
