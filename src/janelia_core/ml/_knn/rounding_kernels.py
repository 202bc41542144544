"""Numba kernels that round points to a format of the dense screen and measure what is lost."""

from __future__ import annotations

from typing import Any

import numpy as np

from janelia_core.ml._jit import jit, jit_with
from janelia_core.ml._knn.float_bits import bits_of_float, float_of_bits

# Sums may be taken in any order: their bounds allow for that, and vectors need it.
_summing = jit_with(fastmath={"reassoc", "contract", "nsz"})
_LARGEST = 2.0**100  # of an int8 point: beyond, nothing is kept of it
# Steps far below what matters beside a largest centre of 2^20, or beside a grid of 1.
_LEAST_STEP, _LEAST_OF_GRID = 2.0**-100, 2.0**-10


@jit
def _is_whole(u: Any, i: int, scale: float) -> Any:
    """Whether u[i] * scale are integers. Scaling down a subnormal may have lost it."""
    fractions, unscale = 0, 1.0 / scale
    for q in range(u.shape[1]):
        given = np.float64(u[i, q]) * scale
        fractions += (given != np.floor(given)) | (given * unscale != np.float64(u[i, q]))
    return fractions == 0


@_summing
def _point(u: Any, i: int, shift: Any, scale: float, point: Any) -> Any:
    """Writes point = u[i] * scale - shift; returns sums of squares of it and of u scale."""
    square, wide = 0.0, 0.0
    for q in range(u.shape[1]):
        given = np.float64(u[i, q]) * scale
        point[q] = given - shift[q]
        square += point[q] * point[q]
        wide += given * given
    return square, wide


@jit
def _to_float32(point: Any, back: Any, words: Any) -> None:
    """Rounds to float32; a product may flush subnormals, so they become 0."""
    for q in range(point.shape[0]):
        value = np.float32(point[q])
        if abs(value) < np.float32(2.0**-126):
            value = np.float32(0.0)
        words[q] = value
        back[q] = value


@jit
def _to_bfloat16(point: Any, back: Any, words: Any) -> None:
    """Rounds to bfloat16, ties to even; words holds two bytes a coordinate."""
    for q in range(point.shape[0]):
        bits = bits_of_float(np.float32(point[q]))
        even = (bits >> np.uint32(16)) & np.uint32(1)
        bits = np.uint32((bits + np.uint32(0x7FFF) + even) & np.uint32(0xFFFF0000))
        if (bits & np.uint32(0x7F800000)) == 0:  # subnormal
            bits = np.uint32(0)
        words[q] = np.uint16(bits >> np.uint32(16))
        back[q] = float_of_bits(bits)


@jit_with(fastmath={"nnan", "nsz"})
def _largest(point: Any) -> Any:
    """The smallest and the largest coordinate, 0 included."""
    low, high = 0.0, 0.0
    for q in range(point.shape[0]):
        low, high = min(low, point[q]), max(high, point[q])
    return low, high


@jit
def _to_int8(point: Any, whole: bool, least: float, back: Any, words: Any) -> Any:
    """Rounds to steps of a 127th of the largest coordinate, or of 1 if all are integers that fit; returns the step."""
    low, high = _largest(point)
    step = np.float32(1.0)
    if not max(-low, high) < _LARGEST:
        words[:], back[:] = 0, 0.0
        return step
    if not (whole and low >= -128.0 and high <= 127.0):
        # A float32 above the quotient, so that no coordinate exceeds 127 steps.
        step = np.float32(max(max(-low, high) / 127.0 * (1.0 + 2.0**-22), least))
    unstep = 1.0 / np.float64(step)
    for q in range(point.shape[0]):
        nearest = np.rint(point[q] * unstep)
        words[q] = np.int8(nearest)
        back[q] = nearest * np.float64(step)
    return step


@_summing
def _losses(point: Any, back: Any) -> Any:
    """Sums of squares of point - back and of back."""
    loss, kept = 0.0, 0.0
    for q in range(point.shape[0]):
        gap = point[q] - back[q]
        loss += gap * gap
        kept += back[q] * back[q]
    return loss, kept


@jit
def round_points(
    u: Any, shift: Any, scale: float, grid: bool, bits: int, lanes: int, flip: int, words: Any, steps: Any, sums: Any
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
        words: (points, n_words) uint32, written for the r points.
        steps: (r,) float32, written: what a unit of int8 stands for, else 1.
        sums: (r, 6) float64, written: |point|^2, |point - value|^2, |value|^2, |u scale|^2; 1 for a point made of
            integers equal to its value, else 0; the sum of int8.
    """
    d, n_words = u.shape[1], words.shape[1]
    point, back = np.empty(d), np.empty(d)
    own = np.zeros(n_words, np.uint32)
    floats, shorts, bytes_ = own.view(np.float32), own.view(np.uint16), own.view(np.int8)
    flat, xor = words.reshape(-1), np.uint32(flip)
    for i in range(u.shape[0]):
        square, wide = _point(u, i, shift, scale, point)
        whole = grid and _is_whole(u, i, scale)
        step, total = np.float32(1.0), 0.0
        if bits == 32:
            _to_float32(point, back, floats)
        elif bits == 16:
            _to_bfloat16(point, back, shorts)
        else:
            step = _to_int8(point, whole, _LEAST_OF_GRID if grid else _LEAST_STEP, back, bytes_)
            for q in range(d):
                total += np.float64(bytes_[q])
        loss, kept = _losses(point, back)
        place = (i // lanes) * lanes * n_words + i % lanes
        for w in range(n_words):
            flat[place + w * lanes] = own[w] ^ xor
        steps[i] = step
        sums[i, 0], sums[i, 1], sums[i, 2], sums[i, 3] = square, loss, kept, wide
        sums[i, 4], sums[i, 5] = np.float64(whole and loss == 0.0), total
