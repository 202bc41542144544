"""Sines and cosines of many float64 numbers, as sums of two float64 numbers each, off by a relative 2^-65 at most.

IEEE additions and multiplications alone, in a fixed order: no library's sine is asked. With u = 2^-53:

1. v = n pi / 512 + r with |r| <= (1/2 + 2^-31) pi / 512 < 2^-8.34, for |v| <= REACH, where |n| < 2^20. pi / 512 comes
   in three parts of 33 bits, whose products with n are exact, and a fourth; together they are off by 2^-160. v - n p1
   is a multiple of 2^-61 below 2^-8 (|v| > 2^-9, unless n is 0), hence exact, and two-sums lose nothing. So r = h + l
   but for 2^-106 |h| + |n| 2^-157 + 2^-166: a relative 2^-74 where |h| >= 2^-62 or n is 0. Less is not answered, nor is
   0 < |v| < 2^-400: nothing underflows that counts.
2. sin r = h + t with t = l + h z (-1/6 + z / 120 - z^2 / 5040), z = h^2. Five roundings of what is at most 2^-19.2 |h|,
   that of the sum, l (1 - cos h), and what follows in the series are 2^-69 |h| in all. 1 - cos r = q with
   q = z (1/2 - z / 24 + z^2 / 720): three roundings of at most 2^-17.6, h l, and what follows are 2^-68.3.
3. sin v = S (1 - q) + C sin r, where S and C are sine and cosine of n pi / 512, from a table of sums of two, off by a
   relative 2^-107. The product of C's first part and h is taken without error; five roundings of at most
   2^-17.6 |S| + 2^-19 |C h|, and what is dropped, leave an error of 2^-67.2 |S| + 2^-68.2 |C h| in all. Where S is 0,
   that is a relative 2^-68. Elsewhere |S / C| >= tan(pi / 512), so |C h| <= |S| / 2 (1 + 2^-20) and
   |sin v| >= |S| (1/2 - 2^-16): at most (2 * 2^-67.2 + 2^-68.2) (1 + 2^-14) < 2^-65.8, relatively.

cos v is the sine of a quarter turn more, by the same steps.
"""

from __future__ import annotations

import functools
import math
from fractions import Fraction
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from janelia_core.ml._knn.arithmetic.double_double import Floats, two_product, two_sum
from janelia_core.ml._knn.arithmetic.exact_sines import pi_times, sine_cosine

SINE_ERROR = 2.0**-65
"""How far each sine and cosine can be off, relatively."""
REACH = 4096.0
"""Angles up to which this is so."""

STEPS = 1024  # of a turn
_PART = 33  # bits of a part of pi / 512 whose products with n are exact
LEAST_REST = 2.0**-62  # of what is left of an angle by whole steps
TINY = 2.0**-400
_MEASURED = 256  # bits of pi / 512

Double = tuple[Floats, Floats]
"""A sum of two: the first is the sum, rounded."""


Parts = tuple[float, float, float, float]
"""Of pi / 512, by which angles are reduced."""


class SineCosine(NamedTuple):
    """Sines and cosines, and whether they are within `SINE_ERROR`."""

    sine: Double
    cosine: Double
    known: npt.NDArray[np.bool_]


def sine_cosine_of(v: Floats) -> SineCosine:
    """Return the sines and cosines of float64 numbers (p,); what is beyond REACH, tiny or NaN is not known."""
    known = np.abs(v) <= REACH
    v = np.where(known, v, 0.0)
    sines, (first, second, third, last) = table_of_sines()
    n = np.rint(v * (STEPS / (2.0 * math.pi)))
    h, low = two_sum(v - n * first, -(n * second))
    low, rest = two_sum(low, -(n * third))
    h, low = two_sum(h, low)
    low = low + (rest - n * last)
    known &= (np.abs(h) >= np.where(n == 0.0, TINY, LEAST_REST)) | (v == 0.0)
    z = h * h
    t = low + (h * z) * (z * (1.0 / 120.0 - z * (1.0 / 5040.0)) - 1.0 / 6.0)
    q = z * (0.5 - z * (1.0 / 24.0 - z * (1.0 / 720.0)))
    at = n.astype(np.int64)
    sine, cosine, minus = (sines[:, (at + turned) % STEPS] for turned in (0, STEPS // 4, STEPS // 2))
    return SineCosine(_turned(sine, cosine, h, t, q), _turned(cosine, minus, h, t, q), known)


def _turned(s: Floats, c: Floats, h: Floats, t: Floats, q: Floats) -> Double:
    """Return s (1 - q) + c (h + t) for s and c (2, ...), which are sums of two."""
    product, lost = two_product(c[0], h)
    rest = (c[1] * h + c[0] * t) + (s[1] - s[0] * q) + lost
    whole, low = two_sum(s[0], product)
    return fast_two_sum(whole, low + rest)


def fast_two_sum(a: Floats, b: Floats) -> Double:
    """Return a + b as a sum of two, without error where |a| >= |b| (Dekker)."""
    s = a + b
    return s, b - (s - a)


def product_of(a: Double, b: Double) -> Double:
    """Return the product of two sums of two: off by a relative 2^-103."""
    product, lost = two_product(a[0], b[0])
    return fast_two_sum(product, lost + (a[0] * b[1] + a[1] * b[0]))


@functools.lru_cache(maxsize=1)
def table_of_sines() -> tuple[Floats, Parts]:
    """Return sines (2, STEPS) of all steps, as sums of two, and pi / 512 in four parts."""
    step, parts = Fraction(pi_times(_MEASURED), (STEPS // 2) << _MEASURED), []
    left = step
    for at in range(3):
        unit = Fraction(1, 1 << (7 + _PART * (at + 1)))  # of the last bit of a part: pi / 512 is below 2^-7
        parts.append(left // unit * unit)
        left -= parts[-1]
    sums = np.zeros((2, STEPS))
    for i in range(1, STEPS // 4):
        sine = Fraction(sine_cosine(step * i, _MEASURED // 2)[0], 1 << (_MEASURED // 2))
        sums[:, i] = float(sine), float(sine - Fraction(float(sine)))
    sums[:, STEPS // 4] = 1.0, 0.0
    quarter = sums[:, : STEPS // 4 + 1]
    half = np.concatenate([quarter, quarter[:, -2:0:-1]], axis=1)
    return np.concatenate([half, -half], axis=1), (float(parts[0]), float(parts[1]), float(parts[2]), float(left))
