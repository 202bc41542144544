"""Rounding-error bounds, each with its derivation; docs/exactness.md tells the whole argument.

Notation: u is the unit roundoff (2^-53 in float64, 2^-24 in float32), gamma(n) = n u / (1 - n u).
Source: N. J. Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., SIAM 2002: lemma 3.1 for
products of (1 + delta), section 3.1 for sums of products in *any* order, with or without fused multiply-add.
"""

from __future__ import annotations

import math
from typing import NamedTuple

UNIT64 = 2.0**-53
UNIT32 = 2.0**-24

# Slightly more than 1: absorbs the few float64 roundings made while a bound itself is evaluated.
OUTWARD = 1.0 + 2.0**-40

# Of what is rounded off a product that is smaller in magnitude, some may underflow, but less than LOSS.
SMALL, LOSS = 2.0**-900, 2.0**-890
# More than what float32 loses where numbers become subnormal, or are flushed to zero.
TINY32 = 2.0**-125


def gamma(n: int, unit: float) -> float:
    """Bound the relative error of n chained roundings; inf where n * unit says nothing any more."""
    nu = n * unit
    return nu / (1.0 - nu) * OUTWARD if nu < 0.5 else math.inf


class DistanceBound(NamedTuple):
    """How far a float64 squared distance D^ over d coordinates can be from the true D.

    D^ = sum_q fl(fl(x_q - c_q)^2): each term carries three roundings, (1 + e1)^2 (1 + e2), the sum of d
    non-negative terms at most d - 1 more in any order, so |D^ - D| <= gamma(d + 2) D. Squares that underflow
    add at most 2^-1021 each even where the processor flushes subnormals to zero. Where the stored values lie
    on a grid coarse enough that no operation rounds (`Frame.exact`), both terms are zero.
    """

    relative: float
    absolute: float

    @classmethod
    def of(cls, d: int, exact: bool) -> DistanceBound:
        """Return the bound for d coordinates; zero when float64 evaluation is exact."""
        if exact:
            return cls(0.0, 0.0)
        # D <= D^ / (1 - g) <= D^ (1 + 2g) for g <= 1/2; the extra units pay for evaluating D^ + error.
        return cls(2.0 * gamma(d + 2, UNIT64) + 8 * UNIT64, (d + 1) * 2.0**-1020)
