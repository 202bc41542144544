"""Numba kernels of the sorted screen: distances and slots as entries of one integer each, and their sort.

An entry is  u << bits | slot, below 2^62, so that entries are in the order of (u, slot). u rises with the distance:

    u = floor((far - least) * scale), scale a power of two     where that tells most of them apart
    u = (bits of far - bits of least) >> drop                  where they are of many magnitudes
"""

from __future__ import annotations

import math

import numpy as np

from janelia_core.ml._runtime.arrays import F64, I32, I64, U64
from janelia_core.ml._runtime.jit import inlined, jit

COUNTERS = 1 << 13
_WIDEST = 12  # bits of a digit: of two digits the counters stay in the nearest cache
_MANY, _SMALL = 4096, 32
_PATIENCE = 8  # places that an entry moves on average before a sort by all digits takes less
_LEAST_RANGE, _LARGEST_RANGE = 2.0**-900, 2.0**1000


@jit
def bits_for(n: int) -> int:
    """How many bits the slots 0 .. n - 1 take."""
    bits = 1
    while n > 1 << bits:
        bits += 1
    return bits


@jit
def scale_for(least: float, most: float, bits: int) -> float:
    """A power of two that takes most - least below 2^(62 - bits), or 0 where the range is extreme."""
    span = most - least
    return math.ldexp(1.0, 62 - bits - math.frexp(span)[1]) if _LEAST_RANGE < span < _LARGEST_RANGE else 0.0


@jit
def pack_evenly(far: F64, n: int, least: float, scale: float, bits: int, entries: U64) -> None:
    """Writes entries of n distances, with a scale.

    A span that was rounded up to a power of two has a larger exponent; so u is below 2^(62 - bits).
    """
    shift = np.uint64(bits)
    for slot in range(np.uint64(n)):
        entries[slot] = np.uint64(np.int64((far[slot] - least) * scale)) << shift | slot


@jit
def pack_by_magnitude(far_bits: I64, n: int, least: int, most: int, bits: int, entries: U64) -> None:
    """Writes entries of n distances, given as the bits of these; least and most are among them."""
    drop = max(0, bits_for(most - least + 1) + bits - 62)
    shift, away = np.uint64(bits), np.uint64(drop)
    for slot in range(np.uint64(n)):
        entries[slot] = np.uint64(far_bits[slot] - least) >> away << shift | slot


@inlined
def _scatter(entries: U64, n: int, shift: np.uint64, mask: np.uint64, counts: I32, out: U64) -> None:
    """Sorts n entries by a digit, of which counts tells how many have each; those with the same come as they were."""
    place = np.int32(0)
    for digit in range(mask + np.uint64(1)):
        here = counts[digit]
        counts[digit] = place
        place += here
    for q in range(np.uint64(n)):
        entry = entries[q]
        digit = (entry >> shift) & mask
        out[np.uint64(counts[digit])] = entry
        counts[digit] += np.int32(1)


@jit
def _sort_by_all_digits(entries: U64, n: int, spare: U64, counts: I32) -> None:
    mask = np.uint64(255)
    for digit in range(8):
        shift = np.uint64(8 * digit)
        source, target = (entries, spare) if digit % 2 == 0 else (spare, entries)
        counts[:256] = 0
        for q in range(np.uint64(n)):
            counts[(source[q] >> shift) & mask] += np.int32(1)
        _scatter(source, n, shift, mask, counts, target)


@jit
def sort_entries(entries: U64, n: int, spare: U64, counts: I32) -> None:
    """Sorts n entries.

    Two digits put them nearly in order, of so many bits that few have both alike; then each moves down to its place.
    Where that takes long, since distances crowd in a small part of their range, they are sorted by all digits.

    Args:
        entries: (at least n,), sorted.
        n: How many.
        spare: (at least n,), scratch.
        counts: (COUNTERS,), scratch.
    """
    if n > _SMALL:
        width = _WIDEST if n > _MANY else min(_WIDEST - 1, bits_for(n))
        mask = np.uint64((1 << width) - 1)
        high, low = np.uint64(62 - width), np.uint64(62 - 2 * width)
        counts[: 2 << width] = 0
        first, second = counts[: 1 << width], counts[1 << width : 2 << width]
        for q in range(np.uint64(n)):
            first[(entries[q] >> low) & mask] += np.int32(1)
            second[(entries[q] >> high) & mask] += np.int32(1)
        _scatter(entries, n, low, mask, first, spare)
        _scatter(spare, n, high, mask, second, entries)
    moves, most = 0, _PATIENCE * n + COUNTERS
    for q in range(1, n):
        entry, place = entries[q], q
        if entries[q - 1] > entry:
            while place > 0 and entries[place - 1] > entry:
                entries[place] = entries[place - 1]
                place -= 1
            entries[place] = entry
            moves += q - place
            if moves > most:
                _sort_by_all_digits(entries, n, spare, counts)
                break
