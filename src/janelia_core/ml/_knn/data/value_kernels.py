"""Numba kernels that look at many values: extremes, and whether they are multiples of a step.

Extremes are found among integers that order as the floats do, which vectorises whatever the values are: NaN lie beyond
the infinities there.
"""

from __future__ import annotations

import numpy as np

from janelia_core.ml._runtime.arrays import Reals
from janelia_core.ml._runtime.jit import jit, jit_with

_RUN = 1 << 12  # values between two looks at whether to go on


@jit
def _rank(bits: int, sign: int, magnitude: int) -> int:
    """An integer that orders as the floats with these bits do; its own inverse."""
    return bits ^ ((bits >> sign) & magnitude)


@jit_with(forceinline=True)
def ends(bits: Reals, start: int, stop: int, found: Reals) -> None:
    """Writes the bits of the least and the greatest of the flat floats with bits[start:stop]; start < stop."""
    sign, magnitude = bits.dtype.type(8 * bits.itemsize - 1), np.iinfo(bits.dtype).max
    low = high = found.dtype.type(_rank(bits[start], sign, magnitude))
    for i in range(np.uint64(start), np.uint64(stop)):
        rank = found.dtype.type(_rank(bits[i], sign, magnitude))
        low, high = min(low, rank), max(high, rank)
    found[0], found[1] = _rank(low, sign, magnitude), _rank(high, sign, magnitude)


@jit
def column_ends(bits: Reals, start: int, stop: int, found: Reals) -> None:
    """Writes found (2, d) = the bits of the least and the greatest of each column of bits[start:stop]; start < stop."""
    sign, magnitude = bits.dtype.type(8 * bits.itemsize - 1), np.iinfo(bits.dtype).max
    low, high = found[0], found[1]
    for q in range(bits.shape[1]):
        low[q] = high[q] = _rank(bits[start, q], sign, magnitude)
    for i in range(np.uint64(start), np.uint64(stop)):
        for q in range(bits.shape[1]):
            rank = bits.dtype.type(_rank(bits[i, q], sign, magnitude))
            low[q], high[q] = min(low[q], rank), max(high[q], rank)
    for q in range(bits.shape[1]):
        low[q], high[q] = _rank(low[q], sign, magnitude), _rank(high[q], sign, magnitude)


@jit
def multiples(values: Reals, start: int, stop: int, step: float) -> bool:
    """Whether all finite ones of the flat values[start:stop] are multiples of a power of two in [2^-1000, 2^1000]."""
    unstep = 1.0 / step
    for first in range(np.uint64(start), np.uint64(stop), np.uint64(_RUN)):
        odd = 0
        for i in range(first, min(first + np.uint64(_RUN), np.uint64(stop))):
            value = np.float64(values[i])
            quotient = value * unstep
            # A quotient that underflows to zero is no whole number.
            odd += (value == value) & ((quotient != np.floor(quotient)) | (quotient * step != value))
        if odd > 0:
            return False
    return True
