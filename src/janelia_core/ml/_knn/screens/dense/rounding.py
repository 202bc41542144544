"""Numba kernels that round points to a format of the dense screen and measure what is lost."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from janelia_core.ml._runtime.arrays import F32, F64, I8, U16, U32, Reals
from janelia_core.ml._runtime.jit import inlined, jit, jit_with
from janelia_core.ml._simd.bits import bits_of_double, bits_of_float, double_of_bits, float_of_bits
from janelia_core.ml._simd.row_sums import prefetch

# Sums may be taken in any order: their bounds allow for that, and vectors need it. No coordinate is NaN.
_summing = jit_with(fastmath={"reassoc", "contract", "nsz", "nnan"}, forceinline=True)
Sums = NDArray[np.void]
_NUMBERS = ("square", "loss", "kept", "wide", "total")
SUMS = np.dtype([*((name, np.float64) for name in _NUMBERS), ("whole", np.bool_)], align=True)
"""What `round_points` tells of a point: |point|^2, |point - value|^2, |value|^2, at least |u scale|^2; the sum of int8;
and whether the point is made of integers, and is its value."""
_LARGEST = 2.0**100  # of an int8 point: beyond, nothing is kept of it
# Steps far below what matters beside a largest centre of 2^20, or beside a grid of 1.
_LEAST_STEP, _LEAST_OF_GRID = 2.0**-100, 2.0**-10
_MAGNITUDE = np.int64(2**63 - 1)


class Rounding(NamedTuple):
    """How points are rounded.

    Fields:
        shift: (d,) float64, scaled already.
        length: At least its norm.
        scale: A power of two.
        grid: The shift is made of integers; then points that are integers lose nothing in the subtraction.
        bits: Of a coordinate: 32 float32, 16 bfloat16, 8 int8.
        lanes: How many points a group has: word w of point i is word (w, i % lanes) of group i // lanes.
        flip: Xor-ed to each word: 0x80808080 makes int8 v the unsigned v + 128.
    """

    shift: F64
    length: float
    scale: float
    grid: bool
    bits: int
    lanes: int
    flip: int


class Places(NamedTuple):
    """Which points are rounded, and where they go: number first + p across + q along goes to place p panel + q.

    Fields:
        first: See above.
        panels: How many p there are.
        across: See above.
        panel: How many q there are, a multiple of `Rounding.lanes`; points that are not there are left out.
        along: See above.
    """

    first: int
    panels: int
    across: int
    panel: int
    along: int


@inlined
def _is_whole(u: Reals, i: int, scale: float) -> bool:
    """Whether u[i] * scale are integers. Scaling down a subnormal may have lost it."""
    fractions, unscale = 0, 1.0 / scale
    for q in range(u.shape[1]):
        given = np.float64(u[i, q]) * scale
        fractions += (given != np.floor(given)) | (given * unscale != np.float64(u[i, q]))
    return fractions == 0


@_summing
def _point(u: Reals, i: int, shift: F64, scale: float, point: F64) -> tuple[float, float]:
    """Writes point = u[i] * scale - shift; returns its sum of squares and its largest magnitude."""
    square, largest = 0.0, np.int64(0)
    for q in range(u.shape[1]):
        coordinate = np.float64(u[i, q]) * scale - shift[q]
        point[q] = coordinate
        square += coordinate * coordinate
        # A maximum of floats, which might be NaN, is no vector instruction.
        largest = max(largest, bits_of_double(coordinate) & _MAGNITUDE)
    return square, double_of_bits(largest)


@_summing
def _to_float32(point: F64, words: F32, slot: int) -> tuple[float, float]:
    """Rounds to float32 words[slot], subnormals to 0 as a product may flush them.

    Returns sums of squares of loss and value.
    """
    loss, kept = 0.0, 0.0
    for q in range(point.shape[0]):
        value = np.float32(point[q])
        if abs(value) < np.float32(2.0**-126):
            value = np.float32(0.0)
        words[slot, q] = value
        gap, back = point[q] - np.float64(value), np.float64(value)
        loss += gap * gap
        kept += back * back
    return loss, kept


@_summing
def _to_bfloat16(point: F64, words: U16, slot: int) -> tuple[float, float]:
    """Rounds to words[slot], bfloat16, ties to even; words holds two bytes a coordinate. Returns as `_to_float32`."""
    loss, kept = 0.0, 0.0
    for q in range(point.shape[0]):
        bits = bits_of_float(np.float32(point[q]))
        even = (bits >> np.uint32(16)) & np.uint32(1)
        bits = np.uint32((bits + np.uint32(0x7FFF) + even) & np.uint32(0xFFFF0000))
        if (bits & np.uint32(0x7F800000)) == 0:  # subnormal
            bits = np.uint32(0)
        words[slot, q] = np.uint16(bits >> np.uint32(16))
        back = np.float64(float_of_bits(bits))
        gap = point[q] - back
        loss += gap * gap
        kept += back * back
    return loss, kept


@inlined
def _are_bytes(point: F64) -> bool:
    """Whether int8 holds these integers as they are."""
    beyond = 0
    for q in range(point.shape[0]):
        beyond += (point[q] < -128.0) | (point[q] > 127.0)
    return beyond == 0


@jit
def _step(largest: float, least: float) -> np.float32:
    """A 127th of the largest magnitude as float32, above the quotient, so that no coordinate exceeds 127 steps."""
    return np.float32(max(largest / 127.0 * (1.0 + 2.0**-22), least))


@_summing
def _to_int8(point: F64, step: float, unstep: float, words: I8, slot: int) -> tuple[float, float, float]:
    """Rounds to words[slot], whole steps, at most 128 of them. Returns as `_to_float32`, and the sum of words.

    unstep: 1 / step; made here, it would be divided by, coordinate by coordinate.
    """
    loss, kept, total = 0.0, 0.0, 0.0
    for q in range(point.shape[0]):
        nearest = np.rint(point[q] * unstep)
        words[slot, q] = np.int8(np.int32(nearest))
        gap = point[q] - nearest * step
        loss += gap * gap
        kept += nearest * nearest
        total += nearest
    return loss, kept * step * step, total


@jit
def round_points(u: Reals, places: Places, how: Rounding, words: U32, steps: F32, sums: Sums) -> None:
    """Writes u * scale - shift in a format, and sums of squares of point, loss, value and u.

    Args:
        u: (n, d) points, float32 or float64, d >= 1.
        places: Which of them are rounded, and where they go.
        how: To what.
        words: (places, n_words), written where points go, as all that follows.
        steps: (places,): what a unit of int8 stands for, else 1.
        sums: (places,).
    """
    # Held in locals: reading a field of a tuple counts references to arrays.
    shift, scale, grid, bits, lanes = how.shift, how.scale, how.grid, how.bits, how.lanes
    panels, across, panel, along = places.panels, places.across, places.panel, places.along
    n, n_words, point = u.shape[0], words.shape[1], np.empty(u.shape[1])
    own = np.zeros((panels * lanes, n_words), np.uint32)
    floats, shorts, bytes_ = own.view(np.float32), own.view(np.uint16), own.view(np.int8)
    flat, xor, least = words.reshape(-1), np.uint32(how.flip), _LEAST_OF_GRID if grid else _LEAST_STEP
    for begin in range(0, panel, lanes):
        for lane in range(lanes):
            for p in range(panels):  # neighbours, where across is 1
                i = places.first + p * across + (begin + lane) * along
                if i >= n:
                    continue
                if i + along < n:
                    prefetch(u, i + along)
                slot, of = p * lanes + lane, sums[p * panel + begin + lane]
                square, largest = _point(u, i, shift, scale, point)
                whole = grid and _is_whole(u, i, scale)
                step, total = np.float32(1.0), 0.0
                if bits == 32:
                    loss, kept = _to_float32(point, floats, slot)
                elif bits == 16:
                    loss, kept = _to_bfloat16(point, shorts, slot)
                elif largest < _LARGEST:
                    if not (whole and _are_bytes(point)):
                        step = _step(largest, least)
                    loss, kept, total = _to_int8(point, np.float64(step), 1.0 / np.float64(step), bytes_, slot)
                else:
                    own[slot, :], loss, kept = 0, square, 0.0
                steps[p * panel + begin + lane] = step
                of.square, of.loss, of.kept, of.total = square, loss, kept, total
                of.wide = (np.sqrt(square) + how.length) ** 2
                of.whole = whole and loss == 0.0
        for p in range(panels):
            left = (n - 1 - places.first - p * across) // along + 1 - begin
            place, first = np.uint64((p * panel + begin) * n_words), np.uint64(p * lanes)
            if lanes == 1:  # the loops below, of one turn each, would take as long as all that comes before
                for w in range(np.uint64(n_words if left > 0 else 0)):
                    flat[place + w] = own[first, w] ^ xor
                continue
            for w in range(np.uint64(n_words)):
                for lane in range(np.uint64(max(0, min(lanes, left)))):
                    flat[place + w * np.uint64(lanes) + lane] = own[first + lane, w] ^ xor
