"""Numba kernel of the sorted screen: all distances of a few rows, sorted, proven and written."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from janelia_core.ml._knn.screens.output import Output
from janelia_core.ml._knn.screens.sorted.distances import TILE, fill_distances
from janelia_core.ml._knn.screens.sorted.entries import (
    COUNTERS,
    bits_for,
    pack_by_magnitude,
    pack_evenly,
    scale_for,
    sort_entries,
)
from janelia_core.ml._knn.screens.sorted.runs import Listed, Room, are_apart, by_distance, room_for_runs, settle_runs
from janelia_core.ml._knn.screens.sorted.select import SAMPLE, limit_of, listed
from janelia_core.ml._runtime.arrays import F64, I32, I64, U64, Reals
from janelia_core.ml._runtime.jit import inlined, jit
from janelia_core.ml._simd.bits import LANES, double_of_bits, float_of_bits
from janelia_core.ml._simd.row_sums import squared_distance

TOGETHER, WRITTEN = 8, 32  # rows that share a pass over the centres, and that are written together


class Ground(NamedTuple):
    """The centres.

    Attributes:
        tiles: (number, d, TILE) of all of them.
        n: How many.
        stored: (n_ctrs, d) as stored, in C order; read only where keys are float32.
        numbers: (n,) what they are called there; empty: by their positions.
    """

    tiles: Reals
    n: int
    stored: Reals
    numbers: I64


class Wanted(NamedTuple):
    """What is asked of each row.

    Attributes:
        k: How many neighbours.
        all_listed: Every centre is sorted, none is left out before.
        spare: Centres listed beyond k.
        error: `bounds.DistanceBound`: (relative, absolute) of a float64 distance.
        of_keys: The same of a key: D is at least (key - absolute) (1 - relative).
    """

    k: int
    all_listed: bool
    spare: int
    error: tuple[float, float]
    of_keys: tuple[float, float]


class Scratch(NamedTuple):
    """What a row of n centres needs on its way.

    Attributes:
        far: (n,) float64, distances of what is listed.
        far_bits: The same, as bits.
        ids: (n + 1,) int32, which centres these are, ascending.
        entries: (n,), see `entries`.
        spare: (n,).
        counts: (COUNTERS,).
        ranks: (2 * SAMPLE + LANES,).
        runs: For near-ties.
    """

    far: F64
    far_bits: I64
    ids: I32
    entries: U64
    spare: U64
    counts: I32
    ranks: I32
    runs: Room


@jit
def _list(
    x: F64, i: int, keys: Reals, bits: Reals, row: int, ground: Ground, wanted: Wanted, scratch: Scratch
) -> tuple[int, float]:
    """Lists the centres of row i that may be among its first k, with their distances.

    Returns:
        How many, and what the true distances of all others are at least.
    """
    ids, far, n, floor = scratch.ids, scratch.far, ground.n, np.inf
    if wanted.all_listed:
        for t in range(np.uint64(n)):
            ids[t] = np.int32(t)
    else:
        limit = limit_of(bits, row, n, wanted.k, wanted.spare, scratch.ranks)
        some = listed(bits, row, n, limit, ids)
        if some < wanted.k + wanted.spare // 2:  # the sample was unlucky
            limit = limit_of(bits, row, n, wanted.k, wanted.spare + wanted.k // 4 + n // 16, scratch.ranks)
            some = listed(bits, row, n, limit, ids)
        if some < n:
            n, (relative, absolute) = some, wanted.of_keys
            last = double_of_bits(limit) if keys.itemsize == 8 else np.float64(float_of_bits(np.uint32(limit)))
            floor = (last - absolute) * (1.0 - relative)
    if keys.itemsize == 8:
        for slot in range(np.uint64(n)):
            far[slot] = keys[np.uint64(row), np.uint64(ids[slot])]
    else:
        stored, numbers = ground.stored, ground.numbers
        named = len(numbers) > 0
        for slot in range(n):
            j = int(numbers[ids[slot]] if named else ids[slot])
            far[slot] = squared_distance(x, i, stored, j)
    return n, floor


@jit
def _gap_of(least: float, most: float, scale: float, bits: int, error: tuple[float, float]) -> np.uint64:
    """How far entries must lie apart for true distances to be in their order."""
    wide = 2.0 * (error[0] * most + error[1]) + 2.0**-52 * (most - least)
    units = wide * scale * (1.0 + 2.0**-40) + 2.0
    if scale == 0.0 or not units < 2.0**40:
        return np.uint64(2**63)
    return (np.uint64(units) + np.uint64(2)) << np.uint64(bits)


@jit
def _sort(x: F64, i: int, tiles: Reals, n: int, floor: float, wanted: Wanted, scratch: Scratch) -> bool:
    """Sorts what row i has listed, n centres; returns whether the first k are proven, as slots or with all bits."""
    far, far_bits, entries, k = scratch.far, scratch.far_bits, scratch.entries, wanted.k
    low, high = far_bits[0], far_bits[0]
    for slot in range(np.uint64(n)):
        low, high = min(low, far_bits[slot]), max(high, far_bits[slot])
    least, most = double_of_bits(low), double_of_bits(high)
    if n < k or low < 0 or not most < np.inf:  # NaN is negative, or above inf
        return False
    bits = bits_for(n)
    mask, scale = np.uint64((1 << bits) - 1), scale_for(least, most, bits)
    pack_evenly(far, n, least, scale, bits, entries)
    sort_entries(entries, n, scratch.spare, scratch.counts)
    relative, absolute = wanted.error
    if are_apart(entries, min(k + 1, n), _gap_of(least, most, scale, bits, wanted.error)):
        return bool(far[entries[k - 1] & mask] * (1.0 + relative) + absolute < floor)
    if not by_distance(entries, n, mask, far):
        pack_by_magnitude(far_bits, n, low, high, bits, entries)
        sort_entries(entries, n, scratch.spare, scratch.counts)
        if not by_distance(entries, n, mask, far):
            return False
    found = Listed(far, scratch.ids, tiles)
    return settle_runs(x, i, found, entries, n, k, wanted.error, scratch.runs) < floor


@jit
def _take(entries: U64, ids: I32, n: int, wanted: Wanted, numbers: I64, mine: int, out: I64, row: int) -> None:
    """Writes the numbers of the first k, without a row's own (or the last, where that is not there): mine, or -1."""
    k, named, mask = wanted.k, len(numbers) > 0, np.uint64((1 << bits_for(n)) - 1)
    width, place = k - (mine >= 0), 0
    for q in range(np.uint64(k)):
        j = np.int64(ids[entries[q] & mask])
        number = numbers[j] if named else j
        if number != mine and place < width:
            out[row, place] = number
            place += 1


@inlined
def _write(found: I64, columns: I64, n: int, width: int, memory: I64, strides: tuple[int, int]) -> None:
    """Writes n rows as columns, the same place of all of them together: these lie in a line of cache."""
    along, across = np.uint64(strides[0]), np.uint64(strides[1])
    for place in range(np.uint64(width)):
        for row in range(np.uint64(n)):
            memory[place * along + np.uint64(columns[row]) * across] = found[row, place]


@jit
def answer_rows(
    x: F64, keyed: Reals, keys: Reals, bits: Reals, ground: Ground, wanted: Wanted, output: Output, doubtful: I64
) -> int:
    """Answers rows whose distances prove the first k and their order; returns how many are left in doubt.

    Args:
        x: (r, d) float64 rows.
        keyed: The same, of the type of keys: float32, where these leave out most centres before float64 decides.
        keys: (TOGETHER, number * TILE) of that type, scratch.
        bits: The same, as integers.
        ground: The centres.
        wanted: What is asked.
        output: Where answers go.
        doubtful: (r,), of which the first are written: rows in doubt, ascending.
    """
    memory, strides, columns, own = output
    tiles, numbers, r, failed = ground.tiles, ground.numbers, x.shape[0], 0
    size, width = tiles.shape[0] * TILE, wanted.k - (len(own) > 0)
    some = np.zeros((TOGETHER, x.shape[1]), keyed.dtype)
    far = np.empty(size)
    scratch = Scratch(
        far,
        far.view(np.int64),
        np.empty(size + 1, np.int32),
        np.empty(size, np.uint64),
        np.empty(size, np.uint64),
        np.empty(COUNTERS, np.int32),
        np.empty(2 * SAMPLE + LANES, np.int32),
        room_for_runs(x.shape[1]),
    )
    found, goes, waiting = np.empty((WRITTEN, wanted.k), np.int64), np.empty(WRITTEN, np.int64), 0
    for first in range(0, r, TOGETHER):
        here = min(TOGETHER, r - first)
        some[:here] = keyed[first : first + here]
        fill_distances(some[: here + here % 2], tiles, keys)
        for row in range(here):
            i = first + row
            n, floor = _list(x, i, keys, bits, row, ground, wanted, scratch)
            if _sort(x, i, tiles, n, floor, wanted, scratch):
                mine = own[i] if len(own) else -1
                _take(scratch.entries, scratch.ids, n, wanted, numbers, mine, found, waiting)
                goes[waiting] = columns[i]
                waiting += 1
            else:
                doubtful[failed] = i
                failed += 1
        if waiting > WRITTEN - TOGETHER or first + here == r:
            _write(found, goes, waiting, width, memory, strides)
            waiting = 0
    return failed
