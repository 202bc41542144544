"""A Numba kernel that searches many clouds, each by all its distances, several rows at a time (`lane_lists`).

A list holds the k nearest of a row by their keys, and one more. Where the intervals that these stand for are disjoint,
the list is the answer: whatever is not listed has a key, and hence a D^, no smaller than the last one's. Integers that
do not round, and copies of the row itself, tie by number, which is the order of equal keys. Rows of which neither can
be said are left OPEN; those with near-ties are settled by `near_ties`, which few processes need to load.

How far is what a key keeps of D^ from the true D? D^ is within `DistanceBound` if float64. With b bits for numbers a
key of float64 distances lies below D^ by at most 2^(b - 52) D^, or 2^(b - 1074): 2^(b - 51) more in `relative`, and
twice `absolute`, pay for that. Stored values of float32 that float64 subtracts lose nothing, and squares of what is not
0 are 2^-298 or more: nothing underflows, and `absolute` is 0. D^ in float32 obeys the same bound with gamma(d + 2) of
float32, and less than 2^-125 a coordinate for what underflows, flushed or not. Integers: D^ is exact below 2^24 in
float32, as all sums on the way are; below 2^(53 - b) in float64, where the key keeps all of it.
"""

from __future__ import annotations

import numpy as np

from janelia_core.ml._runtime.arrays import F64, I64, Reals
from janelia_core.ml._runtime.jit import jit
from janelia_core.ml._simd.lane_lists import BLOCK, LANES, PART, list_among_many, list_nearest, proven

OPEN = -2
"""Stands for the first neighbour of a row that is not answered."""
MANY = 3 * PART
"""Centres for each slot of a list, from which it pays to look for a limit first."""
_LARGEST, _MOST_COLUMNS = 2.0**20, 1 << 10  # so many whole coordinates up to so much: D stays below 2^53


@jit
def search_clouds(
    x: Reals,
    ctrs: Reals,
    groups: I64,
    but_self: bool,
    relative: float,
    absolute: float,
    out: I64,
    room: Reals,
    far: Reals,
    lists: F64,
) -> int:
    """Searches groups of rows and centres: numbers of centres, plus a group's first column, go to out (n, k).

    Args:
        x: (n, d) rows, C order, float32 or float64.
        ctrs: (n_ctrs, d) centres, likewise.
        groups: (n_groups, 6) int64: first and last rows, first and last centres, first column; and, written, how many
            rows are left open.
        but_self: Row i of a group does not meet its centre i.
        relative: How far D^ can be from D, relative to D^,
        absolute: and beside that.
        out: (n, k) int64, written for the rows of groups: -1 where there are fewer centres.
        room: 2 LANES + BLOCK + the most centres of a group, times d, numbers: float32 for distances in float32.
        far: 2 LANES for each centre and each part of the largest group, and BLOCK more of both, of the type of room.
        lists: 2 LANES for each slot of the longest list, and one more.

    Returns:
        How many groups have open rows.
    """
    d, k, first_ctr, last_ctr, left = x.shape[1], out.shape[1], -1, -1, 0
    narrow, whole, low, cut = room.itemsize == 4, False, 1, 0.0
    lanes = 2 * LANES if narrow else LANES
    rows, held = room[: lanes * d], room[lanes * d :]
    own, ids = np.full(lanes, -1), lists.view(np.int64)
    for g in range(groups.shape[0]):
        first, stop, column = groups[g, 0], groups[g, 1], groups[g, 4]
        if groups[g, 2] != first_ctr or groups[g, 3] != last_ctr:
            first_ctr, last_ctr = groups[g, 2], groups[g, 3]
            hold(ctrs, first_ctr, last_ctr, held)
            whole = is_whole(ctrs, first_ctr, last_ctr)
            low, cut = bits_of_numbers(last_ctr - first_ctr), 0.0
            if not narrow:
                cut = (low + 1) * 2.0**-51
        exact = exact_below(low, narrow) if whole and is_whole(x, first, stop) else 0.0
        available, opened = last_ctr - first_ctr - but_self, 0
        there, slots = max(0, min(k, available)), min(k + 1, available)
        for i in range(first, stop, lanes):
            n, clear = min(lanes, stop - i), -1
            if there > 0:
                for lane in range(lanes):
                    spread(x, i + min(lane, n - 1), lane, lanes, rows)
                    own[lane] = i + lane - first if but_self else -1
                if last_ctr - first_ctr > MANY * slots:
                    list_among_many(rows, own, held, d, last_ctr - first_ctr, low, lists, slots, far)
                else:
                    list_nearest(rows, own, held, d, last_ctr - first_ctr, low, lists, slots)
                clear = 0
                for half in range(0, lanes, LANES):
                    clear |= proven(lists, lanes, half, slots, there, relative + cut, absolute, low, exact) << half
            for lane in range(n):
                for p in range(there):
                    out[i + lane, p] = (ids[p * lanes + lane] & low) + column
                for p in range(there, k):
                    out[i + lane, p] = -1
                if (clear >> lane) & 1 == 0:
                    out[i + lane, 0] = OPEN
                    opened += 1
        groups[g, 5] = opened
        left += opened > 0
    return left


@jit
def bits_of_numbers(m: int) -> int:
    """Returns a number with all the bits set that numbers below m take, one at least."""
    low = 1
    while low < m - 1:
        low = 2 * low + 1
    return low


@jit
def exact_below(low: int, narrow: bool) -> float:
    """Returns below which D^ of integers is D, and a key keeps all of it."""
    return 2.0**24 if narrow else 2.0**53 / (low + 1)


@jit
def spread(x: Reals, i: int, lane: int, lanes: int, rows: Reals) -> None:
    """Writes row i to a lane of rows (d, lanes)."""
    for q in range(x.shape[1]):
        rows[q * lanes + lane] = x[i, q]


@jit
def hold(ctrs: Reals, first: int, stop: int, held: Reals) -> None:
    """Writes centres (m, d), and NaN behind them up to a multiple of BLOCK."""
    d, at = ctrs.shape[1], 0
    for j in range(first, stop):
        for q in range(d):
            held[at] = ctrs[j, q]
            at += 1
    while at % (d * BLOCK) > 0:
        held[at] = np.nan
        at += 1


@jit
def is_whole(values: Reals, first: int, stop: int) -> bool:
    """Whether all squared distances between such rows are integers that float64 holds."""
    if values.shape[1] > _MOST_COLUMNS:
        return False
    for i in range(first, stop):
        for q in range(values.shape[1]):
            value = np.float64(values[i, q])
            if not (np.floor(value) == value and abs(value) <= _LARGEST):
                return False
    return True
