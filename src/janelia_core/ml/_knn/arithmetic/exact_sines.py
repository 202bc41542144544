"""Sines, points of the sphere and angles, rounded to nearest from integers of as many bits as that takes.

Fixed point: a number v stands as an integer near v 2^bits. An angle is reduced by quarter turns with enough bits of pi,
its series is summed with 32 bits to spare, and what comes out is off by at most 2 units of 2^-bits. Whatever is rounded
here is either known exactly, or no rounding boundary, by Lindemann and Weierstrass: sines and cosines of rational
numbers but 0, products of two of these, and the arcsine of an algebraic number but 0 are transcendental. So twice as
many bits, again and again, come to an end.

Source: J.-M. Muller, Elementary Functions, 3rd ed., Birkhaeuser 2016 (reduction, chapter 11; rounding, chapter 12);
J. Machin's formula of 1706 for pi.
"""

from __future__ import annotations

import functools
import math
import struct
from collections.abc import Callable, Sequence
from fractions import Fraction

from janelia_core.ml._knn.arithmetic.integers import FLOAT64, Format, Rational, nearest_bits

_FIRST = 128  # bits that suffice, but for numbers that are tiny or next to a boundary
_SPARE = 32
_UNITS = 2  # of 2^-bits, by which sines and cosines may be off

Number = float | Fraction
Point = tuple[float, float, float]


@functools.lru_cache(maxsize=32)
def pi_times(bits: int) -> int:
    """Return pi 2^bits, off by less than 1: 16 atan(1/5) - 4 atan(1/239), with bits to spare."""
    spare = bits + _SPARE
    return (16 * _arctangent_of_inverse(5, spare) - 4 * _arctangent_of_inverse(239, spare)) >> _SPARE


def _arctangent_of_inverse(n: int, bits: int) -> int:
    power = (1 << bits) // n
    total, odd, sign = power, 1, 1
    while power:
        power //= n * n
        odd, sign = odd + 2, -sign
        total += sign * (power // odd)
    return total


def sine_cosine(angle: Number, bits: int) -> tuple[int, int]:
    """Return sin(angle) 2^bits and cos(angle) 2^bits, each off by at most 2."""
    top, bottom = angle.as_integer_ratio()
    work, size = bits + _SPARE, max(0, abs(top).bit_length() - bottom.bit_length() + 2)
    # There are fewer than 2^size quarter turns, each of which is off by less than 1.
    wide = work + size
    quarter, turned = pi_times(wide - 1), (top << wide) // bottom
    turns = (2 * turned + quarter) // (2 * quarter)
    sine, cosine = _series((turned - turns * quarter) >> size, work)
    for _ in range(turns % 4):
        sine, cosine = cosine, -sine
    return sine >> _SPARE, cosine >> _SPARE


def _series(angle: int, bits: int) -> tuple[int, int]:
    """Return the sine and cosine of an angle up to pi / 4: of n terms, each off by less than 2."""
    square = (angle * angle) >> bits
    sine = term = angle
    cosine = even = 1 << bits
    n = 1
    while term or even:
        even = -((even * square) >> bits) // (n * (n + 1))
        term = -((term * square) >> bits) // ((n + 1) * (n + 2))
        cosine, sine, n = cosine + even, sine + term, n + 2
    return sine, cosine


def nearest_point(latitude: Number, longitude: Number) -> Point:
    """Return (cos lat cos lon, cos lat sin lon, sin lat) of finite numbers, each rounded to nearest even; 0 is +0."""
    lat, lon = _Turning(latitude), _Turning(longitude)
    return (
        _product(lambda bits: (lat.cosine(bits), lon.cosine(bits))),
        _product(lambda bits: (lat.cosine(bits), lon.sine(bits))),
        _product(lambda bits: (lat.sine(bits), (1 << bits, 0))),
    )


Near = tuple[int, int]
"""A number in fixed point, and by how much it may be off."""


class _Turning:
    """The sine and cosine of an angle, to as many bits as are asked for."""

    def __init__(self, angle: Number) -> None:
        self._angle = angle
        self._known: dict[int, tuple[int, int]] = {}

    def sine(self, bits: int) -> Near:
        return self._asked(bits)[0], _UNITS if self._angle else 0

    def cosine(self, bits: int) -> Near:
        return self._asked(bits)[1], _UNITS if self._angle else 0

    def _asked(self, bits: int) -> tuple[int, int]:
        if bits not in self._known:
            self._known[bits] = sine_cosine(self._angle, bits) if self._angle else (0, 1 << bits)
        return self._known[bits]


def _product(factors: Callable[[int], tuple[Near, Near]]) -> float:
    """Return the product of two numbers, rounded."""

    def product(bits: int) -> tuple[int, int, int]:
        (a, a_off), (b, b_off) = factors(bits)
        off = abs(a) * b_off + abs(b) * a_off + a_off * b_off
        return a * b - off, a * b + off, 2 * bits

    found: float = struct.unpack("<d", struct.pack("<q", _rounded(product, _FIRST, FLOAT64)))[0]
    return found


def square_between(p: Sequence[float], q: Sequence[float]) -> Fraction:
    """Return the squared distance of two points."""
    return Fraction(sum((Fraction(a) - Fraction(b)) ** 2 for a, b in zip(p, q, strict=True)))


def nearest_angle(square: Rational, fmt: Format) -> int:
    """Return the bits of 2 asin(min(1, sqrt(square) / 2)), the angle over a chord of that square, rounded once."""
    if square == 0:
        return 0
    if square >= 4:
        return _rounded(lambda bits: (pi_times(bits) - 1, pi_times(bits) + 1, bits), _FIRST, fmt)
    chord = Fraction(square)
    size = chord.denominator.bit_length() - chord.numerator.bit_length()
    return _rounded(lambda bits: _angle(chord, bits), _FIRST + max(0, size), fmt)


def is_chord_within(square: Rational, angle: Fraction) -> bool:
    """Tell whether 2 asin(min(1, sqrt(square) / 2)) is at most an angle, 0 or more.

    They are equal at 0 alone: the sine of another rational number is transcendental.
    """
    if square == 0 or angle == 0:
        return square == 0
    bits = _FIRST + 2 * max(0, angle.denominator.bit_length() - angle.numerator.bit_length())
    while True:
        turned, most = (angle.numerator << bits) // angle.denominator, pi_times(bits)
        if turned > most + 2:
            return True
        sine, wanted = sine_cosine(angle / 2, bits)[0], square * (1 << (2 * bits))
        if turned < most - 2 and wanted <= 4 * max(0, sine - _UNITS) ** 2:
            return True
        if turned < most - 2 and wanted >= 4 * (sine + _UNITS) ** 2:
            return False
        bits *= 2


def _angle(square: Fraction, bits: int) -> tuple[int, int, int]:
    """Return two integers that enclose the angle times 2^bits: a step t = sin(a - y) from y errs by t^3 at most."""
    work = bits + _SPARE
    sine, cosine = _root(square / 4, work), _root(1 - square / 4, work)
    angle = int(math.atan2(math.sqrt(square), math.sqrt(4 - square)) * 2.0**53) << max(0, work - 53)
    step = 1 << work
    while abs(step) ** 3 >> (2 * work):
        s, c = sine_cosine(Fraction(angle, 1 << work), work)
        step = (sine * c - cosine * s) >> work
        angle += step
    return (2 * angle >> _SPARE) - 2, (2 * angle >> _SPARE) + 2, bits


def _root(square: Fraction, bits: int) -> int:
    return math.isqrt((square.numerator << (2 * bits)) // square.denominator)


def _rounded(enclosed: Callable[[int], tuple[int, int, int]], bits: int, fmt: Format) -> int:
    """Return the bits of a number that is enclosed between two integers over 2^(what comes third), as asked."""
    while True:
        low, high, unit = enclosed(bits)
        first, second = (nearest_bits(end, 1 << unit, fmt) for end in (low, high))
        if first == second:
            return first
        bits *= 2
