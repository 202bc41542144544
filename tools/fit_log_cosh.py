"""Fit the minimax polynomials of `janelia_core.ml._log_cosh.constants` and print that file.

    python tools/fit_log_cosh.py > src/janelia_core/ml/_log_cosh/constants.py

Each polynomial is fitted by Remez exchange in 60-digit arithmetic, then rounded to the dtype it serves.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import mpmath as mp
import numpy as np

mp.mp.dps = 60
Real = Callable[[mp.mpf], mp.mpf]

JOINT = mp.mpf(2719) / 4096
"""Where the small-x polynomial hands over: 12 bits, so that its square is exact in float32, chosen so that
log cosh(JOINT) lies within 0.03 ulp of a float32 and of a float64: every larger x starts from that value."""
TANH_JOINT = mp.mpf(5) / 8
KAPPA = 1 / (1 + mp.exp(2 * JOINT))


def small_remainder(h: mp.mpf) -> mp.mpf:
    """(log cosh(b) - h) / h^2 where h = b^2 / 2."""
    if h < mp.mpf("1e-15"):
        return -mp.mpf(1) / 3 + h * 8 / 45
    return (mp.log(mp.cosh(mp.sqrt(2 * h))) - h) / h**2


def tail_slope(z: mp.mpf) -> mp.mpf:
    """log1p(kappa * (z - 1)) / (z - 1), with z = exp(-2e)."""
    u = z - 1
    if abs(u) < mp.mpf("1e-25"):
        return KAPPA - u * KAPPA**2 / 2
    return mp.log1p(KAPPA * u) / u


def exp2_slope(f: mp.mpf) -> mp.mpf:
    """(2^f - 1) / f."""
    log_2 = mp.log(2)
    return log_2 if abs(f) < mp.mpf("1e-30") else mp.expm1(f * log_2) / f


def tanh_remainder(t: mp.mpf) -> mp.mpf:
    """(tanh(a) - a) / a^3 where t = a^2."""
    if t < mp.mpf("1e-15"):
        return -mp.mpf(1) / 3 + t * 2 / 15
    a = mp.sqrt(t)
    return (mp.tanh(a) - a) / a**3


@dataclass(frozen=True)
class Fit:
    """One polynomial: its name, the function, the interval, and its degree in float32 and in float64."""

    name: str
    function: Real
    lower: mp.mpf
    upper: mp.mpf
    degrees: tuple[int, int]


FITS = (
    Fit("SMALL", small_remainder, mp.mpf(0), JOINT**2 / 2, (4, 10)),
    Fit("TAIL", tail_slope, mp.mpf(0), mp.mpf(1), (5, 12)),
    Fit("EXP2", exp2_slope, -mp.mpf(1) / 2, mp.mpf(1) / 2, (5, 10)),
    Fit("TANH", tanh_remainder, mp.mpf(0), TANH_JOINT**2, (4, 10)),
)


def levelled(function: Real, nodes: list[mp.mpf]) -> list[mp.mpf]:
    """Coefficients (lowest first) whose error alternates with equal size at the nodes, and that error."""
    n = len(nodes)
    matrix = mp.matrix(n, n)
    for i, node in enumerate(nodes):
        for j in range(n - 1):
            matrix[i, j] = node**j
        matrix[i, n - 1] = (-1) ** i
    return list(mp.lu_solve(matrix, mp.matrix([function(node) for node in nodes])))


def extrema(error: Real, lower: mp.mpf, upper: mp.mpf, count: int) -> list[mp.mpf]:
    """The point of largest |error| in each of the `count` runs of one sign, on a fine Chebyshev grid."""
    n = 40 * count
    grid = [(lower + upper) / 2 - (upper - lower) / 2 * mp.cos(mp.pi * i / n) for i in range(n + 1)]
    best: list[tuple[mp.mpf, mp.mpf]] = []
    for point in grid:
        value = error(point)
        if not best or mp.sign(value) != mp.sign(best[-1][1]):
            best.append((point, value))
        elif abs(value) > abs(best[-1][1]):
            best[-1] = (point, value)
    if len(best) < count:
        raise ArithmeticError(f"error alternates {len(best)} times, {count} needed; raise mp.dps")
    return [point for point, _ in best[:count]]


def remez(fit: Fit, degree: int) -> tuple[list[mp.mpf], mp.mpf]:
    """Return the minimax coefficients, lowest first, and the largest error."""
    count = degree + 2
    nodes = [
        (fit.lower + fit.upper) / 2 - (fit.upper - fit.lower) / 2 * mp.cos(mp.pi * i / (count - 1))
        for i in range(count)
    ]
    for _ in range(6):
        *coefficients, level = levelled(fit.function, nodes)
        backwards = coefficients[::-1]
        nodes = extrema(lambda p, c=backwards: fit.function(p) - mp.polyval(c, p), fit.lower, fit.upper, count)
    return coefficients, abs(level)


def literal(value: mp.mpf, single: bool) -> str:
    """The shortest decimal of `value` rounded to float32 or float64, written as a float64."""
    return repr(float(np.float32(float(value)))) if single else repr(float(value))


def main() -> None:
    """Print the constants' module."""
    print('"""Constants of log cosh and tanh, printed by `tools/fit_log_cosh.py`: edit that, not this."""\n')
    print("from __future__ import annotations\n")
    print(f"JOINT = {float(JOINT)!r}\nTANH_JOINT = {float(TANH_JOINT)!r}")
    print(f"KAPPA = {float(KAPPA)!r}  # 1 / (1 + exp(2 * JOINT))")
    print(f"LOG2_E = {float(1 / mp.log(2))!r}")
    for bits, kept in ((32, 15), (64, 40)):
        high = mp.floor(mp.ldexp(mp.log(2), kept)) / mp.mpf(2) ** kept
        print(f"LN2_{bits} = ({float(high)!r}, {float(mp.log(2) - high)!r})  # leading {kept} bits, the rest")
    for fit in FITS:
        for bits, degree in zip((32, 64), fit.degrees, strict=True):
            coefficients, level = remez(fit, degree)
            doc = (fit.function.__doc__ or "").rstrip(".")
            print(f"\n# {doc}; degree {degree}, error {mp.nstr(level, 2)}.\n{fit.name}_{bits} = (")
            for value in coefficients:
                print(f"    {literal(value, bits == 32)},")
            print(")")


if __name__ == "__main__":
    main()
