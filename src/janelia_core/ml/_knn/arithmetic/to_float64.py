"""Numba kernels that round a double-double to float64 where its error leaves no doubt: as `rounding`, one by one."""

from __future__ import annotations

import numpy as np

from janelia_core.ml._knn.arithmetic.bounds import OUTWARD
from janelia_core.ml._runtime.jit import jit
from janelia_core.ml._simd.fused import fma

_KNOWN = 2.0**-800  # the square of a root, above which no error of a product underflows


@jit
def round_sum(hi: float, lo: float, error: float, root: bool) -> tuple[float, bool]:
    """Rounds what lies within error of hi + lo, or its square root, to float64: as `rounding.rounded_double`.

    Returns:
        The number, never -0, and whether it is certain.
    """
    if root:
        hi, lo, error = root_of_sum(hi, lo, error)
    if error != 0.0:  # lo - error rounds; where error is 0 it does not
        error = (error + 2.0**-52 * abs(lo)) * OUTWARD
    low, high = hi + (lo - error), hi + (lo + error)
    return low if low != 0.0 else 0.0, low == high


@jit
def root_of_sum(hi: float, lo: float, error: float) -> tuple[float, float, float]:
    """Returns the square root as (hi, lo, error), by one step of Newton's method."""
    if not hi > _KNOWN:
        return (0.0, 0.0, 0.0) if hi == 0.0 and lo == 0.0 and error == 0.0 else (hi, lo, np.inf)
    r = np.sqrt(hi)
    square = r * r
    rest = (hi - square) + (lo - fma(r, r, -square))
    lost = 0.0 if rest == 0.0 else r * 2.0**-100
    return r, rest / (2.0 * r), error / (2.0 * r) * OUTWARD + lost
