"""Numba kernels that round points to a format of the dense screen and measure what is lost."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from janelia_core.ml._knn.data.value_kernels import ends
from janelia_core.ml._runtime.arrays import F32, F64, I8, U16, U32, Reals
from janelia_core.ml._runtime.jit import inlined, jit, jit_with
from janelia_core.ml._simd.bits import bits_of_float, float_of_bits

# Sums may be taken in any order: their bounds allow for that, and vectors need it. No coordinate is NaN.
_summing = jit_with(fastmath={"reassoc", "contract", "nsz", "nnan"}, forceinline=True)
Sums = NDArray[np.void]
_NUMBERS = ("square", "loss", "kept", "wide", "total")
SUMS = np.dtype([*((name, np.float64) for name in _NUMBERS), ("whole", np.bool_)], align=True)
"""What `round_points` tells of a point: |point|^2, |point - value|^2, |value|^2, |u scale|^2; the sum of int8; and
whether the point is made of integers, and is its value."""
_LARGEST = 2.0**100  # of an int8 point: beyond, nothing is kept of it
# Steps far below what matters beside a largest centre of 2^20, or beside a grid of 1.
_LEAST_STEP, _LEAST_OF_GRID = 2.0**-100, 2.0**-10


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
    """Writes point = u[i] * scale - shift; returns sums of squares of it and of u scale."""
    square, wide = 0.0, 0.0
    for q in range(u.shape[1]):
        given = np.float64(u[i, q]) * scale
        coordinate = given - shift[q]
        point[q] = coordinate
        square += coordinate * coordinate
        wide += given * given
    return square, wide


@_summing
def _to_float32(point: F64, words: F32) -> tuple[float, float]:
    """Rounds to float32, subnormals to 0 as a product may flush them; returns sums of squares of loss and value."""
    loss, kept = 0.0, 0.0
    for q in range(point.shape[0]):
        value = np.float32(point[q])
        if abs(value) < np.float32(2.0**-126):
            value = np.float32(0.0)
        words[q] = value
        gap, back = point[q] - np.float64(value), np.float64(value)
        loss += gap * gap
        kept += back * back
    return loss, kept


@_summing
def _to_bfloat16(point: F64, words: U16) -> tuple[float, float]:
    """Rounds to bfloat16, ties to even; words holds two bytes a coordinate. Returns as `_to_float32`."""
    loss, kept = 0.0, 0.0
    for q in range(point.shape[0]):
        bits = bits_of_float(np.float32(point[q]))
        even = (bits >> np.uint32(16)) & np.uint32(1)
        bits = np.uint32((bits + np.uint32(0x7FFF) + even) & np.uint32(0xFFFF0000))
        if (bits & np.uint32(0x7F800000)) == 0:  # subnormal
            bits = np.uint32(0)
        words[q] = np.uint16(bits >> np.uint32(16))
        back = np.float64(float_of_bits(bits))
        gap = point[q] - back
        loss += gap * gap
        kept += back * back
    return loss, kept


@jit
def _step(low: float, high: float, whole: bool, least: float) -> np.float32:
    """A 127th of the largest coordinate as float32, or 1 if all are integers that int8 holds."""
    if whole and low >= -128.0 and high <= 127.0:
        return np.float32(1.0)
    # A float32 above the quotient, so that no coordinate exceeds 127 steps.
    return np.float32(max(max(-low, high) / 127.0 * (1.0 + 2.0**-22), least))


@_summing
def _to_int8(point: F64, step: np.float32, words: I8) -> tuple[float, float, float]:
    """Rounds to whole steps, at most 128 of them. Returns as `_to_float32`, and the sum of words."""
    loss, kept, total = 0.0, 0.0, 0.0
    wide = np.float64(step)
    unstep = 1.0 / wide
    for q in range(point.shape[0]):
        nearest = np.rint(point[q] * unstep)
        words[q] = np.int8(np.int32(nearest))
        back = nearest * wide
        gap = point[q] - back
        loss += gap * gap
        kept += back * back
        total += nearest
    return loss, kept, total


@jit
def round_points(
    u: Reals, shift: F64, scale: float, grid: bool, bits: int, lanes: int, flip: int, words: U32, steps: F32, sums: Sums
) -> None:
    """Writes u * scale - shift in a format, and sums of squares of point, loss, value and u.

    Args:
        u: (r, d) points, float32 or float64, d >= 1.
        shift: (d,) float64, scaled already.
        scale: A power of two.
        grid: The shift is made of integers; then points that are integers lose nothing in the subtraction.
        bits: Of a coordinate: 32 float32, 16 bfloat16, 8 int8.
        lanes: How many points a group has: word w of point i is word (w, i % lanes) of group i // lanes.
        flip: Xor-ed to each word: 0x80808080 makes int8 v the unsigned v + 128.
        words: (points, n_words), written for the r points.
        steps: (r,), written: what a unit of int8 stands for, else 1.
        sums: (r,), written.
    """
    d, n_words = u.shape[1], words.shape[1]
    point, found = np.empty(d), np.empty(2)
    point_bits, found_bits = point.view(np.int64), found.view(np.int64)
    own = np.zeros(n_words, np.uint32)
    floats, shorts, bytes_ = own.view(np.float32), own.view(np.uint16), own.view(np.int8)
    flat, xor, least = words.reshape(-1), np.uint32(flip), _LEAST_OF_GRID if grid else _LEAST_STEP
    for i in range(u.shape[0]):
        square, wide = _point(u, i, shift, scale, point)
        whole = grid and _is_whole(u, i, scale)
        step, total = np.float32(1.0), 0.0
        if bits == 32:
            loss, kept = _to_float32(point, floats)
        elif bits == 16:
            loss, kept = _to_bfloat16(point, shorts)
        else:
            ends(point_bits, 0, d, found_bits)  # a minimum of floats, which might be NaN, is no vector instruction
            if max(-found[0], found[1]) < _LARGEST:
                step = _step(found[0], found[1], whole, least)
                loss, kept, total = _to_int8(point, step, bytes_)
            else:
                own[:], loss, kept = 0, square, 0.0
        place = (i // lanes) * lanes * n_words + i % lanes
        for w in range(n_words):
            flat[place + w * lanes] = own[w] ^ xor
        steps[i] = step
        of = sums[i]
        of.square, of.loss, of.kept, of.wide, of.total = square, loss, kept, wide, total
        of.whole = whole and loss == 0.0
