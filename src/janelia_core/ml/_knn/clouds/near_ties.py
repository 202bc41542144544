"""A Numba kernel for the rows of clouds that `search_clouds` left open: longer lists, and near-ties settled.

Neighbours in a list whose intervals overlap form runs. Copies of one centre tie, and stand by number already. Other
runs are put in order by the differences of their distances, in double-double (`settle_run`). A run that reaches the
end of a list may go on behind it, so that a longer list is needed; but where all of the list are copies of the row
itself, none is nearer, and those behind have higher numbers.
"""

from __future__ import annotations

import numpy as np

from janelia_core.ml._knn.clouds.kernels import OPEN, bits_of_numbers, hold, spread
from janelia_core.ml._knn.settle.kernels import settle_run
from janelia_core.ml._runtime.arrays import F64, I64, Reals
from janelia_core.ml._runtime.jit import jit
from janelia_core.ml._simd.lane_lists import FAR, LANES, list_nearest

LONGEST_RUN = 64
"""Centres that rounding cannot tell apart: who meets more takes the general way."""
_BEYOND = 8  # slots of the first list beyond k


@jit
def settle_clouds(
    x: Reals,
    ctrs: Reals,
    groups: I64,
    but_self: bool,
    relative: float,
    absolute: float,
    out: I64,
    room: Reals,
    lists: F64,
) -> int:
    """Answers open rows of groups, as `search_clouds` does; returns in how many groups some are left open.

    The last column of groups says in which there are any, before and after. Lists grow up to what `lists` holds.
    """
    d, left, longest = x.shape[1], 0, lists.shape[0] // (2 * LANES)
    lanes = 2 * LANES if room.itemsize == 4 else LANES
    far, ids, runs = np.empty(longest), np.empty(longest, np.int64), np.empty((2, LONGEST_RUN))
    own, chosen = np.full(lanes, -1), np.empty(lanes, np.int64)
    for g in range(groups.shape[0]):
        if groups[g, 5] == 0:
            continue
        first, stop, first_ctr, last_ctr = groups[g, 0], groups[g, 1], groups[g, 2], groups[g, 3]
        m, low, i, answered = last_ctr - first_ctr, bits_of_numbers(last_ctr - first_ctr), first, 0
        hold(ctrs, first_ctr, last_ctr, room[lanes * d :])
        off = relative if lanes > LANES else relative + (low + 1) * 2.0**-51
        while i < stop:
            n = 0
            while i < stop and n < lanes:
                if out[i, 0] == OPEN:
                    chosen[n] = i
                    n += 1
                i += 1
            for lane in range(lanes if n > 0 else 0):
                row = chosen[min(lane, n - 1)]
                spread(x, row, lane, lanes, room)
                own[lane] = row - first if but_self else -1
            available, slots, some = m - but_self, 0, n
            there = min(out.shape[1], available)
            while some > 0 and slots < min(available, longest):
                slots = min(available, longest, max(4 * slots, there + _BEYOND))
                list_nearest(room, own, room[lanes * d :], d, m, low, lists, slots)
                for lane in range(n):
                    row = chosen[lane]
                    if out[row, 0] == OPEN:
                        take(lists, lanes, lane, slots, first_ctr, low, far, ids)
                        if settle_row(x, row, ctrs, far, ids, there, slots, slots == available, (off, absolute), runs):
                            for p in range(there):
                                out[row, p] = ids[p] - first_ctr + groups[g, 4]
                            answered, some = answered + 1, some - 1
        groups[g, 5] -= answered
        left += groups[g, 5] > 0
    return left


@jit
def take(lists: F64, lanes: int, lane: int, slots: int, first_ctr: int, low: int, far: F64, ids: I64) -> None:
    """Takes the list of one row out of those of all: what keys keep, and the row numbers of the centres."""
    keys, kept = lists.view(np.int64), far.view(np.int64)
    for slot in range(slots):
        key = keys[slot * lanes + lane]
        kept[slot], ids[slot] = key & ~low, first_ctr + (key & low)


@jit
def settle_row(
    x: Reals,
    i: int,
    ctrs: Reals,
    far: F64,
    ids: I64,
    k: int,
    slots: int,
    is_all: bool,
    off: tuple[float, float],
    runs: F64,
) -> bool:
    """Puts the first k of a list of row i into the exact order; returns whether that is done.

    Args:
        x: (n, d) rows, C order.
        i: The row.
        ctrs: (n_ctrs, d) centres, likewise.
        far: (slots,) or more, ascending.
        ids: Row numbers of ctrs, which are sorted.
        k: How many are wanted, at most slots.
        slots: Length of the list.
        is_all: The list holds all centres of the group that the row may meet.
        off: Relative and absolute error of far.
        runs: (2, LONGEST_RUN) float64, scratch.
    """
    first, (relative, absolute) = 0, off
    while far[k - 1] < FAR and first < k:
        stop, alike = first + 1, True
        while stop < slots and far[stop] * (1.0 - relative) - absolute <= far[stop - 1] * (1.0 + relative) + absolute:
            alike = alike and are_same(ctrs, ids[first], ctrs, ids[stop])
            stop += 1
        if stop == slots and not is_all:
            return first == 0 and alike and are_same(x, i, ctrs, ids[0])
        if not alike and not (stop - first <= LONGEST_RUN and settle_run(x, i, ctrs, ids, first, stop, runs)):
            return False
        first = stop
    return first >= k


@jit
def are_same(a: Reals, i: int, b: Reals, j: int) -> bool:
    """Whether row i of a and row j of b are equal."""
    differing = 0
    for q in range(a.shape[1]):
        differing += a[i, q] != b[j, q]
    return differing == 0
