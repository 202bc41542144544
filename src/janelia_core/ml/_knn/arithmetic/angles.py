"""Angles over chords of the unit sphere, as sums of two float64 numbers: off by a relative 3 * 2^-65 at most.

For D = |P - Q|^2 the angle is 2 a with s = sin a = sqrt(D) / 2 and c = cos a = sqrt(4 - D) / 2. Whatever y some library
calls atan2(s, c), t = s cos y - c sin y is the sine of a - y, so a = y + t but for t^3, and a bad y is seen by its t.
With u = 2^-53:

1. Differences are two-sums, their squares two-products: relative to D all that is rounded or dropped is below 40 u^2,
   or 2^-100, where D >= 2^-400 and nothing underflows that counts. s is off by a relative 2^-98 more.
2. 4 - D is off by 2^-97.8 at most. Where it is 2^-30 or more, c is off by a relative 2^-68; less is not answered.
3. cos y and sin y are within a relative 2^-65 (`sines`). Products of first parts are exact, their difference loses
   u |t|, and eight roundings of what is below 2 u s cos y are 2^-101 s cos y. So t is off by at most
   (2 * 2^-65 + 2^-68 + 2^-90) s cos y, and s cos y <= a (1 + 2^-39) where |t| <= 2^-40 y: there t^3 is nothing.
   Elsewhere nothing is answered.
"""

from __future__ import annotations

import numpy as np

from janelia_core.ml._knn.arithmetic.double_double import Floats, Sum, root, two_product, two_sum
from janelia_core.ml._knn.arithmetic.sines import SINE_ERROR, Double, fast_two_sum, product_of, sine_cosine_of

ANGLE_ERROR = 3.0 * SINE_ERROR
"""How far each angle can be off, relatively."""

LEAST_SQUARE = 2.0**-400
FROM_ANTIPODES = 2.0**-30  # of 4 - D
CORRECTION = 2.0**-40
_HARDLY, _SPECK = 2.0**-398, 2.0**-796  # angles whose sines are not told, and more than their square


@np.errstate(all="ignore")  # what is not answered may be anything
def angles_over_chords(p: Floats, q: Floats) -> Sum:
    """Return (hi, lo, error), each (n,): the angles 2 asin(|P - Q| / 2) of points (3, n) and (3, n).

    The error is inf where nothing is known; where a point is NaN so are hi and lo, and the error is 0.
    """
    square, low = _square(p, q)
    apart, lost = two_sum(np.full_like(square, 4.0), -square)
    rest = fast_two_sum(apart, lost - low)
    (s, s_low), (c, c_low) = root(square, low), root(*rest)
    s, s_low, c, c_low = 0.5 * s, 0.5 * s_low, 0.5 * c, 0.5 * c_low
    y = np.arctan2(s, c)
    sine, cosine, known = sine_cosine_of(y)
    (one, one_lost), (other, other_lost) = two_product(s, cosine[0]), two_product(c, sine[0])
    cross = (s * cosine[1] + s_low * cosine[0]) - (c * sine[1] + c_low * sine[0])
    t = (one - other) + ((one_lost - other_lost) + cross)
    known = known & (square >= LEAST_SQUARE) & (rest[0] >= FROM_ANTIPODES) & (np.abs(t) <= CORRECTION * y)
    hi, lo = fast_two_sum(2.0 * y, 2.0 * t)
    alike, nowhere = (p == q).all(axis=0), np.isnan(square)
    hi, lo = (np.where(nowhere, np.nan, np.where(known & ~alike, part, 0.0)) for part in (hi, lo))
    return hi, lo, np.where(known, hi * ANGLE_ERROR, np.where(alike | nowhere, 0.0, np.inf))


def chords_of_angles(r: Floats) -> Sum:
    """Return (hi, lo, error), each (n,): the squared chords 4 sin^2 (r / 2) of angles that are not negative.

    hi is inf above pi, where every chord is shorter; the error is inf where nothing is known.
    """
    values, where = np.unique(r, return_inverse=True)
    sine, _, known = sine_cosine_of(0.5 * np.minimum(values, np.pi))
    hi, lo = (np.where(known, 4.0 * part, _SPECK) for part in product_of(sine, sine))
    error = np.where(known, hi * ANGLE_ERROR, np.where(values < _HARDLY, 2.0 * _SPECK, np.inf))
    all_of_them = values > np.pi
    parts = np.where(all_of_them, np.inf, hi), np.where(all_of_them, 0.0, lo), np.where(all_of_them, 0.0, error)
    hi, lo, error = (part[where.reshape(r.shape)] for part in parts)
    return hi, lo, error


def _square(p: Floats, q: Floats) -> Double:
    """Return D of points (3, n) and (3, n)."""
    delta, rest = two_sum(p, -q)
    (a, b, c), lost = two_product(delta, delta)
    low = lost + 2.0 * delta * rest
    total, first = two_sum(a, b)
    total, second = two_sum(total, c)
    return fast_two_sum(total, (first + second) + (low[0] + low[1] + low[2]))
