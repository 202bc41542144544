"""Numba pieces of the dense screen's lists: the k-th best of many, and what a full list can do without."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from janelia_core.ml._runtime.arrays import B8, F32, F64, I32, I64
from janelia_core.ml._runtime.jit import inlined, jit
from janelia_core.ml._simd.bits import LANES, float32_above, float_of_rank, largest, rank_of_float, reached_by

BETWEEN = 32
"""Entries between two compactions, and k / 4 more: the threshold is fresh, and each costs a tenth of a microsecond."""


class Lists(NamedTuple):
    """What a block of n rows remembers between tiles: a list of (key, centre) each, and what need not enter it.

    Fields:
        k: How many centres are wanted.
        cap: How many entries a compacted list may hold, k <= cap < capacity.
        length: (n,) int64; entries in the row's list.
        full: (n,) int64; how many entries make it time to compact the list.
        threshold: (n,) float32; a score whose key is below it need not be looked at.
        limit: (n,) float64; every centre seen and not listed has a score of at most this.
        exact: (n,) bool; the keys of this row are its scores, without error.
        keys: (n, capacity) float32; scores as the product gave them.
        ids: (n, capacity) int32; packed positions of their centres.
        lows: (n * capacity + LANES,) int32; ranks of lower bounds of their scores (`bits.rank_of_float`).
    """

    k: int
    cap: int
    length: I64
    full: I64
    threshold: F32
    limit: F64
    exact: B8
    keys: F32
    ids: I32
    lows: I32


def empty_lists(n: int, k: int, cap: int, capacity: int) -> Lists:
    """Return lists without entries."""
    return Lists(
        k=k,
        cap=cap,
        length=np.zeros(n, np.int64),
        full=np.full(n, min(capacity, k + BETWEEN + k // 4)),
        threshold=np.full(n, np.finfo(np.float32).min),
        limit=np.full(n, -np.inf),
        exact=np.zeros(n, np.bool_),
        keys=np.empty((n, capacity), np.float32),
        ids=np.empty((n, capacity), np.int32),
        lows=np.empty(n * capacity + LANES, np.int32),
    )


@inlined
def kth_rank(ranks: I32, start: int, n: int, k: int, low: np.int32, exactly: bool) -> np.int32:
    """A value that at least k of n ranks reach: the k-th largest, or else one that exactly k reach.

    Of ranks[start : start + n], n >= k; exactly: the k-th largest is wanted. Where k ranks reach `low`, a guess, the
    search starts there. Bisection over the 2^32 ranks: counting is one vector instruction for many entries, where a
    quickselect pays a mispredicted branch for every other entry (10 times slower on 68 entries).
    """
    least = np.int64(low)
    if reached_by(ranks, start, n, low) < k:
        least = np.int64(-(2**31))
    most = np.int64(largest(ranks, start, n)) + 1  # reached by none
    while most - least > 1:
        middle = least + (most - least) // 2
        reached = reached_by(ranks, start, n, np.int32(middle))
        if reached >= k:
            least = middle
            if reached == k and not exactly:
                break
        else:
            most = middle
    return np.int32(least)


@jit
def rank_below(key: np.float32, twice: np.float32, e: np.float32, g: np.float32, more: np.float32) -> np.int32:
    """The rank of a float32 at most key - (twice e + g + more), and close to it; all >= 0 but for key."""
    # 1 + 2^-21 outweighs the three roundings of the sum and its own, 2^-22 and 2^-120 those of what follows, where
    # additions that are fused only remove some.
    error = (twice * e + g + more) * np.float32(1.0 + 2.0**-21)
    low = key - error
    rank: np.int32 = rank_of_float(np.float32(low - np.float32(2.0**-22) * abs(low) - np.float32(2.0**-120)))
    return rank


@inlined
def _rank_keys(keys: F32, i: int, n: int, ranks: I32) -> None:
    """Writes the ranks of the first n keys of row i."""
    row = np.uint64(i)  # no index from the end: Numba need not ask
    for q in range(np.uint64(n)):
        ranks[q] = rank_of_float(keys[row, q])


@jit
def compact(lists: Lists, i: int, n: int, least: np.float32, work: I32) -> tuple[np.int64, np.float32, np.float32]:
    """Drops what cannot be among the k best of the n >= k entries of row i, and what is more than cap.

    Where keys are exact, the first k by (score descending, centre ascending) stay. Only entries are written, and
    work (capacity + LANES,); least is the threshold so far.

    Returns:
        How many stay, in the order they came; the new threshold: later centres with lower keys need not be looked at;
        and the limit: a bound of the scores of all that went.
    """
    k, cap, keys, ids, lows = lists.k, lists.cap, lists.keys, lists.ids, lists.lows
    if lists.exact[i]:
        return _compact_exact(keys, ids, i, n, k, least, work)
    first = i * keys.shape[1]
    threshold = float_of_rank(kth_rank(lows, first, n, k, rank_of_float(least), False))
    limit = threshold
    spare = 0  # how many entries just below the threshold may stay
    if n > cap:
        _rank_keys(keys, i, n, work)
        crowd = float_of_rank(kth_rank(work, 0, n, cap + 1, rank_of_float(threshold), True)) + np.float32(0.0)  # no -0
        if crowd >= threshold:  # too many to keep: what goes is accounted for in `limit`
            threshold, limit = float32_above(crowd), crowd
            spare = cap - reached_by(work, 0, n, rank_of_float(threshold))
    row, start, kept = np.uint64(i), np.uint64(first), np.uint64(0)
    for q in range(np.uint64(n)):
        key, j, low = keys[row, q], ids[row, q], lows[start + q]
        spared = spare > 0 and key == limit
        spare -= spared
        keys[row, kept] = key
        ids[row, kept] = j
        lows[start + kept] = low
        kept += np.uint64(spared | (key >= threshold))
    return np.int64(kept), max(threshold, least), limit


@inlined
def _compact_exact(
    keys: F32, ids: I32, i: int, n: int, k: int, least: np.float32, work: I32
) -> tuple[np.int64, np.float32, np.float32]:
    """Keeps exactly the first k entries by (score descending, centre ascending).

    Tiles come in ascending order of centres and this filter is stable, so the list's order is that of the centres; for
    the same reason a later score equal to the k-th best loses, and the threshold lies one ulp above.
    """
    _rank_keys(keys, i, n, work)
    kth = float_of_rank(kth_rank(work, 0, n, k, rank_of_float(least), True))
    row, kept, ties = np.uint64(i), np.uint64(0), k
    for q in range(np.uint64(n)):
        ties -= keys[row, q] > kth
    for q in range(np.uint64(n)):
        key = keys[row, q]
        tied = key == kth and ties > 0
        ties -= tied
        keys[row, kept] = key
        ids[row, kept] = ids[row, q]
        kept += np.uint64(tied | (key > kth))
    return np.int64(kept), float32_above(kth), kth


@jit
def finish(lists: Lists) -> int:
    """Compacts every list a last time, moves its k best keys to the front; returns the longest count."""
    keys, ids, length, limit, k = lists.keys, lists.ids, lists.length, lists.limit, lists.k
    work = np.empty(keys.shape[1] + LANES, np.int32)
    longest = 0
    for i in range(length.shape[0]):
        if length[i] >= k:
            length[i], _, gone = compact(lists, i, length[i], lists.threshold[i], work)
            n, limit[i] = length[i], max(limit[i], float(gone))
            _rank_keys(keys, i, n, work)
            kth = float_of_rank(kth_rank(work, 0, n, k, rank_of_float(gone), False))
            front = 0
            for q in range(n):
                if keys[i, q] >= kth and front < k:
                    keys[i, q], keys[i, front] = keys[i, front], keys[i, q]
                    ids[i, q], ids[i, front] = ids[i, front], ids[i, q]
                    front += 1
        longest = max(longest, length[i])
    return longest
