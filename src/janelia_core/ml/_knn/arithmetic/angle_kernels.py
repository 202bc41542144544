"""Numba kernels of points of the sphere and angles: as `sines` and `angles`, one number at a time, by the same steps.

A fused multiply-add tells the error of a product, where those split its factors; the bounds are theirs.
"""

from __future__ import annotations

import math

import numpy as np

from janelia_core.ml._knn.arithmetic.angles import ANGLE_ERROR, CORRECTION, FROM_ANTIPODES, LEAST_SQUARE
from janelia_core.ml._knn.arithmetic.compensated import two_sum
from janelia_core.ml._knn.arithmetic.sines import LEAST_REST, REACH, SINE_ERROR, STEPS, TINY, Parts
from janelia_core.ml._runtime.arrays import B8, F64, I64, Reals
from janelia_core.ml._runtime.jit import inlined, jit
from janelia_core.ml._simd.fused import fma

Double = tuple[float, float]
_A_STEP = STEPS / (2.0 * math.pi)


@inlined
def _fast_two_sum(a: float, b: float) -> Double:
    """Returns a + b as a sum of two, |a| >= |b|."""
    s = a + b
    return s, b - (s - a)


@inlined
def _turned(s: float, s_low: float, c: float, c_low: float, h: float, t: float, q: float) -> Double:
    """Returns s (1 - q) + c (h + t)."""
    product = c * h
    rest = (c_low * h + c * t) + (s_low - s * q) + fma(c, h, -product)
    whole, low = two_sum(s, product)
    return _fast_two_sum(whole, low + rest)


@inlined
def _sine_cosine(v: float, table: F64, parts: Parts) -> tuple[Double, Double, bool]:
    """Returns the sine and the cosine, and whether they are known."""
    if not abs(v) <= REACH:
        return (0.0, 0.0), (1.0, 0.0), False
    n = np.rint(v * _A_STEP)
    h, low = two_sum(v - n * parts[0], -(n * parts[1]))
    low, rest = two_sum(low, -(n * parts[2]))
    h, low = two_sum(h, low)
    low = low + (rest - n * parts[3])
    known = v == 0.0 or abs(h) >= (TINY if n == 0.0 else LEAST_REST)
    z = h * h
    t = low + (h * z) * (z * (1.0 / 120.0 - z * (1.0 / 5040.0)) - 1.0 / 6.0)
    q = z * (0.5 - z * (1.0 / 24.0 - z * (1.0 / 720.0)))
    i = int(n) & (STEPS - 1)
    j = (i + STEPS // 4) & (STEPS - 1)
    s, s_low, c, c_low = table[0, i], table[1, i], table[0, j], table[1, j]
    return _turned(s, s_low, c, c_low, h, t, q), _turned(c, c_low, -s, -s_low, h, t, q), known


@inlined
def _product(a: Double, b: Double) -> Double:
    product = a[0] * b[0]
    return _fast_two_sum(product, fma(a[0], b[0], -product) + (a[0] * b[1] + a[1] * b[0]))


@inlined
def _ends(value: Double, error: float) -> Double:
    """Returns both ends of what lies within error of a sum of two, rounded to float64; 0 is +0."""
    return value[0] + (value[1] - error) + 0.0, value[0] + (value[1] + error) + 0.0


@jit
def fill_points(values: F64, table: F64, parts: Parts, out: F64, certain: B8) -> None:
    """Fills points (n, 3) of finite latitudes and longitudes (n, 2), and whether each is certain (n,)."""
    for i in range(len(values)):
        sine, cosine, known = _sine_cosine(values[i, 0], table, parts)
        east, north, also = _sine_cosine(values[i, 1], table, parts)
        certain[i] = known and also
        for at in range(3):
            value = sine
            if at < 2:
                value = _product(cosine, north if at == 0 else east)
            low, high = _ends(value, abs(value[0]) * (3.0 * SINE_ERROR))
            out[i, at] = low
            certain[i] &= low == high


@inlined
def _root(square: float, square_low: float) -> Double:
    r = math.sqrt(square)
    product = r * r
    return two_sum(r, ((square - product) - fma(r, r, -product) + square_low) / (2.0 * r))


@inlined
def _square(p: F64, i: int, q: F64, j: int) -> Double:
    """Returns the squared distance of two points."""
    total, low = 0.0, 0.0
    for at in range(3):
        delta, rest = two_sum(p[i, at], -q[j, at])
        square = delta * delta
        total, lost = two_sum(total, square)
        low += lost + (fma(delta, delta, -square) + 2.0 * delta * rest)
    return _fast_two_sum(total, low)


@inlined
def _angle(square: float, low: float, table: F64, parts: Parts) -> tuple[float, float, bool]:
    """Returns the angle over a chord, as a sum of two, and whether it is known."""
    apart, lost = two_sum(4.0, -square)
    rest, rest_low = _fast_two_sum(apart, lost - low)
    if not (square >= LEAST_SQUARE and rest >= FROM_ANTIPODES):
        return 0.0, 0.0, False
    s, s_low = _root(0.25 * square, 0.25 * low)
    c, c_low = _root(0.25 * rest, 0.25 * rest_low)
    y = math.atan2(s, c)
    sine, cosine, known = _sine_cosine(y, table, parts)
    one, other = s * cosine[0], c * sine[0]
    cross = (s * cosine[1] + s_low * cosine[0]) - (c * sine[1] + c_low * sine[0])
    t = (one - other) + ((fma(s, cosine[0], -one) - fma(c, sine[0], -other)) + cross)
    hi, lo = _fast_two_sum(2.0 * y, 2.0 * t)
    return hi, lo, known and abs(t) <= CORRECTION * y


@jit
def fill_angles(p: F64, q: F64, indices: I64, table: F64, parts: Parts, out: Reals, certain: B8) -> int:
    """Fills angles (r, k), float32 or float64, of points (r, 3) with those listed of points (m, 3); inf where none is.

    Returns:
        How many are not certain, which `certain` (r, k) tells.
    """
    doubtful = 0
    for i in range(indices.shape[0]):
        for slot in range(indices.shape[1]):
            j, sure = indices[i, slot], True
            if j < 0:
                out[i, slot] = np.inf
            else:
                square, low = _square(p, i, q, j)
                if square == 0.0 or np.isnan(square):
                    apart = p[i, 0] != q[j, 0] or p[i, 1] != q[j, 1] or p[i, 2] != q[j, 2]  # their square may underflow
                    out[i, slot], sure = square, not apart or np.isnan(square)
                else:
                    hi, lo, sure = _angle(square, low, table, parts)
                    # 2^-52 pays for the rounding of each end to float64, before that to float32.
                    first, last = _ends((hi, lo), hi * (ANGLE_ERROR + (2.0**-52 if out.itemsize == 4 else 0.0)))
                    out[i, slot] = first
                    sure = sure and out[i, slot] == out.dtype.type(last)
            certain[i, slot] = sure
            doubtful += not sure
    return doubtful
