"""Numba pieces of the dense screen's lists: the k-th best of many, and what a full list can do without."""

from __future__ import annotations

from typing import Any

import numpy as np

from janelia_core.ml._runtime.jit import jit, jit_with
from janelia_core.ml._simd.bits import float32_above, float_of_rank, largest, rank_of_float, reached_by

_inlined = jit_with(forceinline=True)  # calls count references to the arrays that they are given


@_inlined
def kth_rank(ranks: Any, start: int, n: int, k: int, low: Any, exactly: bool) -> Any:
    """A value that at least k of n ranks reach: the k-th largest, or else one that exactly k reach.

    Bisection over the 2^32 ranks: counting is one vector instruction for many entries, where a quickselect
    pays a mispredicted branch for every other entry (10 times slower on 68 entries).

    Args:
        ranks: int32, of which ranks[start : start + n] count.
        start: See ranks.
        n: At least k.
        k: See above.
        low: A guess: where k ranks reach it, the search starts there.
        exactly: The k-th largest is wanted.
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
def rank_below(key: Any, twice: Any, e: Any, g: Any, more: Any) -> Any:
    """The rank of a float32 at most key - (twice e + g + more), and close to it; float32, >= 0 but for key."""
    # 1 + 2^-21 outweighs the three roundings of the sum and its own, 2^-22 and 2^-120 those of what follows, where
    # additions that are fused only remove some.
    error = (twice * e + g + more) * np.float32(1.0 + 2.0**-21)
    low = key - error
    return rank_of_float(np.float32(low - np.float32(2.0**-22) * abs(low) - np.float32(2.0**-120)))


@_inlined
def compact(
    keys: Any, ids: Any, lows: Any, start: int, n: int, k: int, cap: int, exact: bool, least: Any, work: Any
) -> Any:
    """Drops what cannot be among the k best of a row's n >= k entries, and what is more than cap.

    Args:
        keys: Flat, the row's from `start` on.
        ids: Likewise.
        lows: Likewise.
        start: See keys.
        n: How many.
        k: Centres wanted.
        cap: How many may stay.
        exact: Keys are exact: the first k by (score descending, centre ascending) stay.
        least: The threshold so far.
        work: (capacity,) int32.

    Returns:
        How many stay, in the order they came; the new threshold: later centres with lower keys need not be looked at;
        and the limit: a bound of the scores of all that went.
    """
    if exact:
        return _compact_exact(keys, ids, start, n, k, least, work)
    threshold = float_of_rank(kth_rank(lows, start, n, k, rank_of_float(least), False))
    limit = threshold
    spare = 0  # how many entries just below the threshold may stay
    if n > cap:
        for q in range(n):
            work[q] = rank_of_float(keys[start + q])
        crowd = float_of_rank(kth_rank(work, 0, n, cap + 1, rank_of_float(threshold), True)) + np.float32(0.0)  # no -0
        if crowd >= threshold:  # too many to keep: what goes is accounted for in `limit`
            threshold, limit = float32_above(crowd), crowd
            spare = cap - reached_by(work, 0, n, rank_of_float(threshold))
    kept = np.uint64(start)  # no index from the end: Numba need not ask
    for q in range(np.uint64(start), np.uint64(start + n)):
        key, j, low = keys[q], ids[q], lows[q]
        spared = spare > 0 and key == limit
        spare -= spared
        keys[kept] = key
        ids[kept] = j
        lows[kept] = low
        kept += np.uint64(spared | (key >= threshold))
    return np.int64(kept) - start, max(threshold, least), limit


@_inlined
def _compact_exact(keys: Any, ids: Any, start: int, n: int, k: int, least: Any, work: Any) -> Any:
    """Keeps exactly the first k entries by (score descending, centre ascending).

    Tiles come in ascending order of centres and this filter is stable, so the buffer's order is that of the
    centres; for the same reason a later score equal to the k-th best loses, and the threshold lies one ulp
    above.
    """
    for q in range(n):
        work[q] = rank_of_float(keys[start + q])
    kth = float_of_rank(kth_rank(work, 0, n, k, rank_of_float(least), True))
    ties = k
    for q in range(start, start + n):
        ties -= keys[q] > kth
    kept = np.uint64(start)
    for q in range(np.uint64(start), np.uint64(start + n)):
        key = keys[q]
        tied = key == kth and ties > 0
        ties -= tied
        keys[kept] = key
        ids[kept] = ids[q]
        kept += np.uint64(tied | (key > kth))
    return np.int64(kept) - start, float32_above(kth), kth
