"""Numba kernels of verification: float64 distances of listed centres, by differences, and their order.

D is summed as (x - c)^2 term by term, never expanded. Each term carries at most three roundings of 2^-53
(none in the difference of float32 values that lie within 29 binades) and each sum of d terms, whatever its
order, d - 1 more: the relative error is at most (d + 2) 2^-53, see bounds.py. Several accumulators only
change that order. Sums of magnitudes and the largest of these carry fewer roundings.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from janelia_core.ml._knn.metrics.metric import Bound
from janelia_core.ml._knn.settle.kernels import settle_run
from janelia_core.ml._runtime.arrays import F64, I32, I64, Reals
from janelia_core.ml._runtime.jit import inlined, jit
from janelia_core.ml._simd.bits import LANES, reached_by
from janelia_core.ml._simd.gaps import Squares, Way, are_squares
from janelia_core.ml._simd.row_sums import distance, prefetch

_LONGEST = 64  # centres that rounding cannot tell apart, of a row: more are settled in bulk
Scratch = tuple[F64, I64, F64, I64]
"""Keys and row numbers of a list (w,), and as many to spare."""
RUN = 256
"""Pairs sorted by counting: beyond, merging takes less."""


class Lists(NamedTuple):
    """Centres listed for each of r rows.

    Attributes:
        x: (r, d) rows, C order.
        ctrs: (n_ctrs, d) centres, likewise.
        listed: (r, w) int64 row numbers of centres, -1 for an empty slot, without duplicates.
        at_least: (r, w) lower bounds of true distances, or nothing: a centre whose bound is beyond the true distances
            of the first k listed is left out.
        way: What gaps between coordinates make.
    """

    x: Reals
    ctrs: Reals
    listed: I64
    at_least: F64
    way: Way = Squares()


@jit
def precedes(far: float, j: int, other: float, other_j: int) -> bool:
    """Whether (far, j) comes before (other, other_j): finite < inf < NaN, ties by index."""
    if far < other:
        return True
    if far == other or (np.isnan(far) and np.isnan(other)):
        return j < other_j
    return bool(np.isnan(other))


@jit
def _sort_run(keys: F64, ids: I64, heads: I32, start: int, stop: int, out_keys: F64, out_ids: I64) -> None:
    """Sorts a run into the out arrays: a pair's place is the number of keys before it, counted by their first halves.

    Few of them are alike; those come as they were, and change places afterwards.
    """
    n = stop - start
    taken = np.zeros(n, np.int64)
    for i in range(n):
        before = n - reached_by(heads, start, n, heads[start + i])
        place = start + before + taken[before]
        taken[before] += 1
        out_keys[place], out_ids[place] = keys[start + i], ids[start + i]
    for i in range(start + 1, stop):
        far, j, place = out_keys[i], out_ids[i], i
        while place > start and precedes(far, j, out_keys[place - 1], out_ids[place - 1]):
            out_keys[place], out_ids[place] = out_keys[place - 1], out_ids[place - 1]
            place -= 1
        out_keys[place], out_ids[place] = far, j


@jit
def sort(keys: F64, ids: I64, n: int, spare_keys: F64, spare_ids: I64) -> bool:
    """Sorts n pairs by (key >= +0, id), NaN last; returns whether they ended in the spare arrays.

    Runs of RUN are sorted by counting, which takes no branch that a processor could guess wrong, and then merged.
    """
    heads = np.empty(n + LANES, np.int32)
    for q in range(n):
        if np.isnan(keys[q]):
            keys[q] = np.nan  # the one with a positive sign, whose bits are above all others
    bits = keys.view(np.int64)
    for q in range(n):
        heads[q] = np.int32(bits[q] >> 32)
    for start in range(0, n, RUN):
        _sort_run(keys, ids, heads, start, min(start + RUN, n), spare_keys, spare_ids)
    run, swapped = RUN, True
    keys, spare_keys, ids, spare_ids = spare_keys, keys, spare_ids, ids
    while run < n:
        for start in range(0, n, 2 * run):
            middle, stop = min(start + run, n), min(start + 2 * run, n)
            left, right = start, middle
            for place in range(start, stop):
                takes_left = right == stop or (
                    left < middle and precedes(keys[left], ids[left], keys[right], ids[right])
                )
                source = left if takes_left else right
                spare_keys[place], spare_ids[place] = keys[source], ids[source]
                left += takes_left
                right += not takes_left
        keys, spare_keys, ids, spare_ids = spare_keys, keys, spare_ids, ids
        run, swapped = 2 * run, not swapped
    return swapped


@inlined
def _measured(lists: Lists, i: int, k: int, error: Bound, scratch: Scratch) -> tuple[int, bool]:
    """Sorts row i's listed centres by (distance, index), but for those that at_least leaves out.

    Returns:
        How many, and whether they are in the spare arrays of the scratch.
    """
    (x, ctrs, listed, at_least, way), (keys, ids, spare_keys, spare_ids) = lists, scratch
    width, bounded = listed.shape[1], at_least.shape[0] > 0
    first, n, farthest = min(k, width) if bounded else width, 0, 0.0
    for slot in range(first):
        if listed[i, slot] >= 0:
            ids[n] = listed[i, slot]
            n += 1
    for slot in range(n):
        if slot + 1 < n:
            prefetch(ctrs, ids[slot + 1])
        keys[slot] = distance(way, x, i, ctrs, ids[slot])
        farthest = max(farthest, keys[slot])
    # A NaN or infinite distance bounds nothing.
    radius = farthest * (1.0 + error[0]) + error[1] if n == k and np.isfinite(farthest) else np.inf
    some = n
    for slot in range(first, width):
        if listed[i, slot] >= 0 and at_least[i, slot] <= radius:
            ids[n] = listed[i, slot]
            n += 1
    for slot in range(some, n):
        if slot + 1 < n:
            prefetch(ctrs, ids[slot + 1])
        keys[slot] = distance(way, x, i, ctrs, ids[slot])
    return n, sort(keys, ids, n, spare_keys, spare_ids)


@jit
def verify(lists: Lists, k: int, error: Bound, distances: F64, indices: I64) -> int:
    """Fills each row with its listed centres, by (distance, index); returns the length of the longest list.

    Args:
        lists: Of each row.
        k: How many may leave out others.
        error: `bounds.DistanceBound`: (relative, absolute) of a distance.
        distances: (r, w) float64, written; NaN where the list is shorter.
        indices: (r, w) int64, written; -1 where the list is shorter.
    """
    rows, width = lists.listed.shape
    keys, spare_keys = np.empty(width), np.empty(width)
    ids, spare_ids = np.empty(width, np.int64), np.empty(width, np.int64)
    longest = 0
    for i in range(rows):
        n, swapped = _measured(lists, i, k, error, (keys, ids, spare_keys, spare_ids))
        for slot in range(n):
            distances[i, slot] = spare_keys[slot] if swapped else keys[slot]
            indices[i, slot] = spare_ids[slot] if swapped else ids[slot]
        for slot in range(n, width):
            distances[i, slot] = np.nan
            indices[i, slot] = -1
        longest = max(longest, n)
    return longest


@jit
def identical(ctrs: Reals, one: int, other: int) -> bool:
    differing = 0
    for q in range(ctrs.shape[1]):
        differing += ctrs[one, q] != ctrs[other, q]
    return differing == 0


@jit
def answer(lists: Lists, excluded: F64, k: int, error: Bound, out: I64, doubtful: I64) -> int:
    """Answers each row whose float64 distances prove certificate and order; returns how many are in doubt.

    Args:
        lists: Of each row.
        excluded: (r,) float64, `Candidates.excluded`.
        k: How many centres are wanted.
        error: `bounds.DistanceBound`: (relative, absolute) of a distance, zeros where distances are exact.
        out: (r, k) int64, written for rows without doubt, nearest first.
        doubtful: (r,) int64, of which the first are written: rows in doubt, ascending.
    """
    x, ctrs, squares = lists.x, lists.ctrs, are_squares(lists.way)
    width, (relative, absolute), failed = lists.listed.shape[1], error, 0
    keys, spare_keys = np.empty(width), np.empty(width)
    ids, spare_ids = np.empty(width, np.int64), np.empty(width, np.int64)
    exact, scratch = relative == 0.0 and absolute == 0.0, np.empty((2, _LONGEST))
    for i in range(x.shape[0]):
        n, swapped = _measured(lists, i, k, error, (keys, ids, spare_keys, spare_ids))
        if swapped:
            for slot in range(n):
                keys[slot], ids[slot] = spare_keys[slot], spare_ids[slot]
        proven = n >= k and np.isfinite(keys[k - 1])
        proven = proven and (excluded[i] == np.inf or keys[k - 1] * (1.0 + relative) + absolute < excluded[i])
        # Equal distances come by index: the order of what is exact. Others that overlap, in a run that may go on beyond
        # the first k, are looked at together.
        first = 0
        while proven and not exact and first < k:
            stop, alike = first + 1, True
            while stop < n and keys[stop] * (1.0 - relative) - absolute <= keys[stop - 1] * (1.0 + relative) + absolute:
                alike = alike and identical(ctrs, ids[first], ids[stop])
                stop += 1
            if not alike:
                proven = squares and stop - first <= _LONGEST and settle_run(x, i, ctrs, ids, first, stop, scratch)
            first = stop
        if proven:
            for slot in range(k):
                out[i, slot] = ids[slot]
        else:
            doubtful[failed] = i
            failed += 1
    return failed
