"""Numba kernels of the screen by differences: centres brought into columns, keys of all pairs, and lists of the lowest.

An entry of a list is a key, which is never negative, as bits, and the position of a centre: bits << 32 | position,
ascending by key and position.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from janelia_core.ml._runtime.arrays import F32, I64
from janelia_core.ml._runtime.jit import jit
from janelia_core.ml._simd.bits import LANES, first_bit
from janelia_core.ml._simd.gap_tiles import ROWS, TILE, bring_square, low_totals
from janelia_core.ml._simd.gaps import Way

POSITION = 0xFFFFFFFF


class Lists(NamedTuple):
    """The lowest entries of r rows so far, and some more.

    Fields:
        entries: (r, room) int64, room more than twice the width.
        n: (r,) how many there are.
        limits: (n,) float32 for r rows and some more, whose are -1: a key that is not below need not be listed.
        width: How many are wanted.
    """

    entries: I64
    n: I64
    limits: F32
    width: int


@jit
def bring(ctrs: F32, start: int, stop: int, columns: F32) -> int:
    """Bring centres start .. stop - 1 into columns (tiles, d, TILE), NaN behind the last; return how many tiles."""
    d, n, tiles = ctrs.shape[1], stop - start, (stop - start + TILE - 1) // TILE
    whole, square = n // LANES * LANES, d // LANES * LANES
    for first in range(0, whole, LANES):
        tile, lane = first // TILE, first % TILE
        for q in range(0, square, LANES):
            bring_square(ctrs, start + first, q, columns, tile, lane)
        for q in range(square, d):
            for t in range(LANES):
                columns[tile, q, lane + t] = ctrs[start + first + t, q]
    for place in range(whole, tiles * TILE):
        for q in range(d):
            value = ctrs[start + place, q] if place < n else np.float32(np.nan)
            columns[place // TILE, q, place % TILE] = value
    return tiles


@jit
def scan(way: Way, rows: F32, columns: F32, tiles: int, first: int, lists: Lists) -> None:
    """List the lowest keys of rows (n, d), n a multiple of ROWS, with centres in columns.

    Args:
        way: What gaps make.
        rows: The rows; those beyond the r of the lists have limits of -1.
        columns: (more, d, TILE) centres.
        tiles: How many tiles hold any.
        first: The position of the first centre; positions come in ascending order.
        lists: Of the rows.
    """
    entries, counts, limits, width = lists
    keys, low = np.empty((ROWS, TILE), np.float32), np.empty(ROWS, np.uint64)
    bits, limit_bits, room = keys.view(np.int32), limits.view(np.int32), entries.shape[1]
    for row in range(0, rows.shape[0], ROWS):
        for tile in range(tiles):
            if low_totals(way, rows, row, columns, tile, limits, keys, low) == 0:
                continue
            for r in range(ROWS):
                mask, i = low[r], row + r
                while mask != 0:
                    lane = first_bit(mask)
                    mask &= mask - np.uint64(1)
                    if not keys[r, lane] < limits[i]:  # which may have fallen
                        continue
                    entries[i, counts[i]] = np.int64(bits[r, lane]) << 32 | (first + tile * TILE + lane)
                    counts[i] += 1
                    if counts[i] == room:
                        lowest_first(entries, i, room, width)
                        counts[i], limit_bits[i] = width, entries[i, width - 1] >> 32


@jit
def finish(lists: Lists) -> None:
    """Put the lowest of each list first, ascending, -1 behind the last of a list that is not full."""
    entries, counts, _, width = lists
    for i in range(entries.shape[0]):
        if counts[i] > width:
            lowest_first(entries, i, counts[i], width)
        entries[i, : min(counts[i], width)].sort()
        entries[i, counts[i] : width] = -1


@jit
def lowest_first(entries: I64, i: int, n: int, width: int) -> None:
    """Bring the `width` lowest of the first n entries of a row to its front, the highest of them last (quickselect)."""
    low, high, place = 0, n - 1, width - 1
    while low < high:
        middle = (low + high) // 2
        if entries[i, middle] < entries[i, low]:
            entries[i, middle], entries[i, low] = entries[i, low], entries[i, middle]
        if entries[i, high] < entries[i, low]:
            entries[i, high], entries[i, low] = entries[i, low], entries[i, high]
        if entries[i, high] < entries[i, middle]:
            entries[i, high], entries[i, middle] = entries[i, middle], entries[i, high]
        pivot, left, right = entries[i, middle], low, high
        while left <= right:
            while entries[i, left] < pivot:
                left += 1
            while entries[i, right] > pivot:
                right -= 1
            if left <= right:
                entries[i, left], entries[i, right] = entries[i, right], entries[i, left]
                left, right = left + 1, right - 1
        if place <= right:
            high = right
        elif place >= left:
            low = left
        else:
            return
