"""Exact arithmetic, and correct rounding of what it gives: the last resort, which always decides.

Every finite stored value is an integer times a power of two, and Python's integers have no size limit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

Rational = int | Fraction
Rationals = Sequence[int | Fraction]


class Format(NamedTuple):
    """A binary floating-point format: bits of the significand, and exponent of the smallest positive number."""

    precision: int
    least: int
    infinity: int  # its bit pattern


FLOAT32 = Format(24, -149, 0x7F800000)
FLOAT64 = Format(53, -1074, 0x7FF0000000000000)


def common_integers(rows: Sequence[Sequence[float]]) -> tuple[list[list[int]], int]:
    """Return all values times one power of two that makes every one an integer, and that power."""
    ratios = [[value.as_integer_ratio() for value in row] for row in rows]
    scale = max((denominator for row in ratios for _, denominator in row), default=1)
    return [[numerator * (scale // denominator) for numerator, denominator in row] for row in ratios], scale


def dot(x: Rationals, c: Rationals) -> Rational:
    """Return the inner product."""
    return sum(a * b for a, b in zip(x, c, strict=True))


def nearest_bits(numerator: int, denominator: int, fmt: Format) -> int:
    """Return the bit pattern (as a signed integer) of numerator / denominator, rounded to nearest even."""
    if numerator == 0:
        return 0
    size, p = abs(numerator), fmt.precision
    exponent = max(size.bit_length() - denominator.bit_length() - p, fmt.least)
    quotient, rest, divisor = _divided(size, denominator, exponent)
    if quotient.bit_length() > p:
        exponent += 1
        quotient, rest, divisor = _divided(size, denominator, exponent)
    quotient += 2 * rest > divisor or (2 * rest == divisor and quotient % 2)
    # The leading bit of a normal number adds itself to the exponent's field, as does a carry.
    bits = min(((exponent - fmt.least) << (p - 1)) + quotient, fmt.infinity)
    return bits if numerator > 0 or bits == 0 else bits - (1 << (fmt.infinity.bit_length()))


def _divided(size: int, denominator: int, exponent: int) -> tuple[int, int, int]:
    if exponent >= 0:
        denominator <<= exponent
    else:
        size <<= -exponent
    return *divmod(size, denominator), denominator


def nearest_root(square: int, scale: int, fmt: Format) -> int:
    """Return the bits of sqrt(square) / scale."""
    # Two bits more than the format: no rounding boundary lies strictly between neighbouring integers.
    shift = max(0, fmt.precision + 2 - square.bit_length() // 2)
    root = math.isqrt(square << (2 * shift))
    if root * root == square << (2 * shift):
        return nearest_bits(root, scale << shift, fmt)
    return nearest_bits(2 * root + 1, scale << (shift + 1), fmt)


def nearest_cosine_distance(s: int, squares: int, fmt: Format) -> int:
    """Return the bits of 1 - s / sqrt(squares), 1 where squares is 0."""
    if squares == 0 or s == 0:
        return nearest_bits(1, 1, fmt)
    root = math.isqrt(squares)
    if root * root == squares:
        return nearest_bits(root - s, root, fmt)
    # Irrational, so never on a rounding boundary: enough bits enclose it between two numbers that round alike.
    bits = 2 * fmt.precision
    while True:
        low = math.isqrt((s * s << (2 * bits)) // squares)  # low <= |cos| 2^bits < low + 1
        ends = (low, low + 1) if s > 0 else (-low, -low - 1)
        first, second = (nearest_bits((1 << bits) - end, 1 << bits, fmt) for end in ends)
        if first == second:
            return first
        bits *= 2
