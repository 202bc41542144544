"""Numba kernels of the line screen: numbers sorted with their positions, and walks outward among them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from janelia_core.ml._knn.arithmetic.compensated import two_sum
from janelia_core.ml._knn.screens.output import Output
from janelia_core.ml._runtime.arrays import F64, I32, I64, U32, U64
from janelia_core.ml._runtime.jit import inlined, jit
from janelia_core.ml._simd.bits import bits_of_double, float_of_bits

WRITTEN = 32
"""Rows whose answers are written together."""
_WIDTH = 11  # bits of a digit


class Line(NamedTuple):
    """Sorted centres.

    Attributes:
        values: (n + 2,) float64, ascending, between -inf and inf.
        positions: (2 n + 4,) int32, their positions among the centres: of equal ones descending; and again, ascending.
        numbers: (n,) what positions are called; empty: as they are.
    """

    values: F64
    positions: I32
    numbers: I64


@inlined
def _by_digit(source: U64, shift: np.uint64, counts: I32, out: U64) -> None:
    """Sorts entries by a digit, of which counts tells how many have each; those with the same come as they were."""
    place = np.int32(0)
    for digit in range(np.uint64(1 << _WIDTH)):
        here = counts[digit]
        counts[digit] = place
        place += here
    for q in range(np.uint64(source.shape[0])):
        entry = source[q]
        digit = (entry >> shift) & np.uint64((1 << _WIDTH) - 1)
        out[np.uint64(counts[digit])] = entry
        counts[digit] += np.int32(1)


@jit
def sort_float32(bits: U32, entries: U64, spare: U64, line: Line) -> None:
    """Writes sorted centres, given the bits of float32 numbers without NaN and -0.

    Entries of a number and a position are sorted by three digits: positions of equal numbers ascend.
    """
    n, mask, width = bits.shape[0], np.uint64((1 << _WIDTH) - 1), np.uint64(_WIDTH)
    low, middle = np.zeros(1 << _WIDTH, np.int32), np.zeros(1 << _WIDTH, np.int32)
    high = np.zeros(1 << _WIDTH, np.int32)
    sign, ones = np.uint64(1 << 31), np.uint64(0xFFFFFFFF)
    for q in range(np.uint64(n)):
        word = np.uint64(bits[q])
        # what orders as the numbers do: all bits of negative ones turned, of others the sign
        rank = ones - word if word >= sign else word + sign
        entries[q] = rank << np.uint64(32) | q
        low[rank & mask] += np.int32(1)
        middle[(rank >> width) & mask] += np.int32(1)
        high[rank >> (width + width)] += np.int32(1)
    first = np.uint64(32)
    _by_digit(entries, first, low, spare)
    _by_digit(spare, first + width, middle, entries)
    _by_digit(entries, first + width + width, high, spare)
    values, rising = line.values, line.positions[n + 2 :]
    for q in range(np.uint64(n)):
        rank = spare[q] >> np.uint64(32)
        word = rank - sign if rank >= sign else ones - rank
        values[q + np.uint64(1)] = np.float64(float_of_bits(np.uint32(word)))
        rising[q + np.uint64(1)] = np.int32(spare[q] & ones)
    _finish(line)


@jit
def fill_line(values: F64, order: I64, line: Line) -> None:
    """Writes sorted centres, given their values by position and the stable order of these."""
    n, sorted_values, rising = order.shape[0], line.values, line.positions[order.shape[0] + 2 :]
    for q in range(n):
        sorted_values[q + 1], rising[q + 1] = values[order[q]] + 0.0, order[q]
    _finish(line)


@jit
def _finish(line: Line) -> None:
    """Writes the ends of sorted centres, and the other order of equal ones."""
    values, n = line.values, line.values.shape[0] - 2
    falling, rising = line.positions[: n + 2], line.positions[n + 2 :]
    values[0], values[n + 1] = -np.inf, np.inf
    rising[0] = rising[n + 1] = falling[0] = falling[n + 1] = -1
    first = 1
    while first <= n:
        stop = first + 1
        while values[stop] == values[first]:
            stop += 1
        for q in range(first, stop):
            falling[q] = rising[first + stop - 1 - q]
        first = stop


@jit
def _find(values: F64, x: F64, first: int, n: int, starts: U64) -> None:
    """Writes for n rows of x which of ascending values, of which the last is inf, is the first that is not below.

    By halves, without a branch to guess, and of all rows together: they wait for memory at the same time.
    """
    size, power, one, begin = np.uint64(values.shape[0]), np.uint64(0), np.uint64(1), np.uint64(first)
    while size >> power > one:
        power += one
    half = one << power  # the first two halves overlap, those after are of 2^power values
    for row in range(np.uint64(n)):
        starts[row] = np.uint64(values[half - one] < x[begin + row]) * (size - half)
    while power > np.uint64(0):
        power -= one
        for row in range(np.uint64(n)):
            start = starts[row]
            starts[row] = start + (np.uint64(values[start + (one << power) - one] < x[begin + row]) << power)
    for row in range(np.uint64(n)):
        starts[row] += np.uint64(values[starts[row]] < x[begin + row])


@jit
def _left_is_nearer(left: float, right: float, x: float, j: int, other: int) -> bool:
    """Whether left comes before right where x - left and right - x are alike when rounded: exactly, ties by number."""
    _, lost = two_sum(x, -left)
    _, other_lost = two_sum(right, -x)
    return bool(lost < other_lost or (lost == other_lost and j < other))


@jit
def walk_rows(x: F64, line: Line, k: int, output: Output, doubtful: I64) -> int:
    """Answers finite rows; returns how many are not.

    Args:
        x: (r,) rows.
        line: The centres.
        k: How many neighbours.
        output: Where answers go.
        doubtful: (r,), of which the first are written: rows that are not finite, ascending.
    """
    memory, strides, columns, own = output
    values, positions, numbers = line
    r, named, failed, others = x.shape[0], numbers.shape[0] > 0, 0, own.shape[0] > 0
    size, one, sign, along, across = (
        np.uint64(values.shape[0]),
        np.uint64(1),
        np.uint64(63),
        np.uint64(strides[0]),
        np.uint64(strides[1]),
    )
    found, goes, starts = np.empty((WRITTEN, k), np.int64), np.empty(WRITTEN, np.uint64), np.empty(WRITTEN, np.uint64)
    for first in range(0, r, WRITTEN):
        here, waiting = min(WRITTEN, r - first), 0
        _find(values, x, first, here, starts)
        for i in range(first, first + here):
            at, mine, place = x[i], own[i] if others else -1, 0
            if not np.isfinite(at):
                doubtful[failed] = i
                failed += 1
                continue
            right = starts[i - first]
            left = right - one
            for _ in range(k):
                low, high = values[left], values[right]
                below, above = at - low, high - at
                # numbers, not truths: a branch would be guessed wrong every other time
                nearer = np.uint64(bits_of_double(below - above)) >> sign
                if below == above:
                    nearer = np.uint64(_left_is_nearer(low, high, at, positions[left], positions[right + size]))
                position = np.int64(positions[right + size - nearer * (right + size - left)])
                left -= nearer
                right += one - nearer
                number = numbers[position] if named else position
                found[waiting, min(place, k - 1)] = number
                place += number != mine
            goes[waiting] = np.uint64(columns[i]) * across
            waiting += 1
        for slot in range(np.uint64(k - others)):
            for row in range(np.uint64(waiting)):
                memory[slot * along + goes[row]] = found[row, slot]
    return failed
