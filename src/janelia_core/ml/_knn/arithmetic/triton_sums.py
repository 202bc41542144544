"""Triton functions: error-free transformations, compensated sums over the columns of tiles, double-doubles, rounding.

As `compensated` and `to_float64`, whose bounds hold here, with what differs: there is no fused multiply-add that every
device and Triton's interpreter have, so products are Dekker's; and a sum runs in as many strands as a tile has
columns, which are joined by two-sums in the end. Kernels that use this are launched with enable_fp_fusion=False, or
the compiler would contract a product and a sum, and what is error-free were not.

Let a pair have d coordinates in tiles of w columns. Strand sums s are joined exactly as s + s' = t + e, and e is added
to the plain sums. So these add up, in some order, at most three parts a coordinate and one a joint, N <= 3 d + w parts
in all, of which a third (2 gap + rest) rest is rounded twice itself. In any order that is off by at most gamma(N + 2)
times m, the sum of the parts' magnitudes (Higham, section 3.1), which is itself summed with a relative error of
gamma(N): with N + 2 <= 3 (d + w), 2 (6 (d + w) + 16) 2^-53 m is more, for all d < 2^40.

Products below SMALL in magnitude, and differences whose rounding error is below 2^-450 in magnitude, may lose LOSS
(`bounds`), and count so. What is not below LARGEST is not taken: its error is infinite.
"""

from __future__ import annotations

import triton
import triton.language as tl

from janelia_core.ml._knn.arithmetic import bounds
from janelia_core.ml._knn.arithmetic.double_double import LARGEST as _LARGEST

_LOSS, _SMALL, _OUTWARD, _UNIT = (
    tl.constexpr(value) for value in (bounds.LOSS, bounds.SMALL, bounds.OUTWARD, bounds.UNIT64)
)
LARGEST = tl.constexpr(_LARGEST)
_SPLITTER = tl.constexpr(2.0**27 + 1.0)
_SMALL_REST = tl.constexpr(2.0**-450)
_UNDERFLOW = tl.constexpr(2.0**-900)
_KNOWN = tl.constexpr(2.0**-800)  # the square of a root, above which no error of a product underflows
_OF_ROOT = tl.constexpr(2.0**-100)
_ULP = tl.constexpr(2.0**-52)
_OF_DOUBLES = tl.constexpr(2.0**-98)  # more than a product, quotient or root of double-doubles loses, relatively
_INFINITE = tl.constexpr(float("inf"))


@triton.jit
def two_sum(a, b):
    """Return a + b as a sum of two numbers, without error."""
    s = a + b
    t = s - a
    return s, (a - (s - t)) + (b - t)


@triton.jit
def two_product(a, b):
    """Return a b as a sum of two numbers, without error (Dekker)."""
    p = a * b
    t = _SPLITTER * a
    a_high = t - (t - a)
    a_low = a - a_high
    t = _SPLITTER * b
    b_high = t - (t - b)
    b_low = b - b_high
    return p, a_low * b_low - (((p - a_high * b_high) - a_low * b_high) - a_high * b_low)


@triton.jit
def add_product(f, g, s, low, m, lost, WIDE: tl.constexpr):
    """Return the strands (s, low, m) and losses with f g added; WIDE: products may underflow."""
    p, second = two_product(f, g)
    s, first = two_sum(s, p)
    if WIDE:
        lost += tl.where((tl.abs(p) < _SMALL) & (f != 0.0) & (g != 0.0), _LOSS, 0.0)
    return s, low + (first + second), m + (tl.abs(first) + tl.abs(second)), lost


@triton.jit
def add_square(f, g, s, low, m, lost, WIDE: tl.constexpr):
    """Return the strands (s, low, m) and losses with (f - g)^2 added; WIDE: products may underflow."""
    gap, rest = two_sum(f, -g)
    p, second = two_product(gap, gap)
    s, first = two_sum(s, p)
    third = (2.0 * gap + rest) * rest
    if WIDE:
        small = ((p < _SMALL) & (gap != 0.0)) | ((tl.abs(rest) < _SMALL_REST) & (rest != 0.0))
        lost += tl.where(small, _LOSS, 0.0)
    return s, low + (first + second + third), m + (tl.abs(first) + tl.abs(second) + tl.abs(third)), lost


@triton.jit
def joined(s, low, m, lost, d, W: tl.constexpr, LOG: tl.constexpr):
    """Return (hi, lo, error), each (p,), of strands (p, W), W = 2^LOG: |hi + lo - truth| <= error."""
    for _ in tl.static_range(LOG):
        a, b = tl.split(tl.reshape(s, (s.shape[0], s.shape[1] // 2, 2)))
        a_low, b_low = tl.split(tl.reshape(low, (low.shape[0], low.shape[1] // 2, 2)))
        a_m, b_m = tl.split(tl.reshape(m, (m.shape[0], m.shape[1] // 2, 2)))
        s, first = two_sum(a, b)
        low = a_low + b_low + first
        m = a_m + b_m + tl.abs(first)
    s, low, m = tl.reshape(s, (s.shape[0],)), tl.reshape(low, (low.shape[0],)), tl.reshape(m, (m.shape[0],))
    terms = (d + W).to(tl.float64)
    error = (12.0 * terms + 32.0) * _UNIT * m + tl.sum(lost, axis=1)
    error += tl.where(error > 0.0, (terms + 1.0) * _UNDERFLOW, 0.0)  # squares of what a difference lost may underflow
    hi, lo = two_sum(s, low)
    return hi, lo, error


@triton.jit
def rounded_sum(hi, lo, error, ROOT: tl.constexpr, to: tl.constexpr):
    """Round what lies within error of hi + lo, or its square root, to a dtype: as `rounding.rounded_double`.

    Returns:
        Numbers, never -0, and whether each is certain.
    """
    if ROOT:
        hi, lo, error = _root_of_sum(hi, lo, error)
    error = tl.where(error == 0.0, error, (error + _ULP * tl.abs(lo)) * _OUTWARD)
    low, high = hi + (lo - error), hi + (lo + error)
    if to == tl.float32:  # two roundings: to float64, whose ends are moved outwards if that was one, and to float32
        exact = (lo == 0.0) & (error == 0.0)
        low = tl.where(exact, hi, low - tl.abs(low) * _ULP)
        high = tl.where(exact, hi, high + tl.abs(high) * _ULP)
    first, last = low.to(to), high.to(to)
    return tl.where(last == 0.0, 0.0, last).to(to), first == last


@triton.jit
def _root_of_sum(hi, lo, error):
    """Return the square root as (hi, lo, error), by one step of Newton's method: as `to_float64.root_of_sum`."""
    zero = (hi == 0.0) & (lo == 0.0) & (error == 0.0)
    safe = tl.where(hi > _KNOWN, hi, 1.0)
    r = tl.sqrt(safe)
    square, lost = two_product(r, r)
    rest = (safe - square) + (lo - lost)
    off = error / (2.0 * r) * _OUTWARD + tl.where(rest == 0.0, 0.0, r * _OF_ROOT)
    known = hi > _KNOWN
    return (
        tl.where(known, r, 0.0),
        tl.where(known, rest / (2.0 * r), 0.0),
        tl.where(known, off, tl.where(zero, 0.0, _INFINITE)),
    )


@triton.jit
def _multiplied(a, a_low, b, b_low):
    p, e = two_product(a, b)
    return two_sum(p, e + (a * b_low + a_low * b))


@triton.jit
def _divided(a, a_low, b, b_low):
    q = a / b
    p, e = two_product(q, b)
    return two_sum(q, ((a - p) - e + a_low - q * b_low) / b)


@triton.jit
def _root(a, a_low):
    r = tl.sqrt(a)
    p, e = two_product(r, r)
    return two_sum(r, ((a - p) - e + a_low) / (2.0 * r))


@triton.jit
def is_known(square, error):
    """Tell which squared norms `cosine_of` takes: 0 without error, or in (1 / LARGEST, LARGEST)."""
    return ((square == 0.0) & (error == 0.0)) | ((square > 1.0 / LARGEST) & (square < LARGEST))


@triton.jit
def cosine_of(s, s_low, s_error, a, a_low, a_error, b, b_low, b_error, same):
    """Return 1 - s / sqrt(a b) as (hi, lo, error), of sums that are known: as `double_double.cosine_of_sums`.

    same: the two vectors are one, so their distance is 0, whatever their squares round to.
    """
    known = is_known(a, a_error) & is_known(b, b_error)
    zero = (a == 0.0) | (b == 0.0)
    a, b = tl.where(zero | ~known, 1.0, a), tl.where(zero | ~known, 1.0, b)
    norms_error = a_error / a + b_error / b
    norm, norm_low = _multiplied(a, a_low, b, b_low)
    norm, norm_low = _root(norm, norm_low)
    cosine, cosine_low = _divided(s, s_low, norm, norm_low)
    hi, lo = two_sum(1.0, -cosine)
    hi, lo = two_sum(hi, lo - cosine_low)
    error = 1.01 * (s_error / norm + norms_error) + 4.0 * _OF_DOUBLES
    exact = (s_error + norms_error + tl.abs(s_low) + tl.abs(a_low) + tl.abs(b_low)) == 0.0
    squares, squares_low = two_product(s, s)
    norms, norms_low = two_product(a, b)
    parallel = (s > 0.0) & (same | (exact & (squares == norms) & (squares_low == norms_low)))
    one = zero | (exact & (s == 0.0))
    decided = one | parallel
    hi = tl.where(one, 1.0, tl.where(parallel, 0.0, hi))
    error = tl.where(known, tl.where(decided, 0.0, error), _INFINITE)
    return hi, tl.where(decided, 0.0, lo), error
