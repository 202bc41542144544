"""Numba kernels that round a number to float32 where what is known of it leaves no doubt: as `rounding`, one by one."""

from __future__ import annotations

import numpy as np

from janelia_core.ml._knn.arithmetic.bounds import UNIT64
from janelia_core.ml._runtime.jit import jit

NORMAL = 2.0**-126  # the smallest normal float32
PLAIN = 2.0**-900  # above it, the absolute part of an error is nothing
ZERO = 2.0**-150  # what is smaller rounds to 0 in float32


@jit
def round_value(value: float, error: float, root: bool) -> tuple[np.float32, bool]:
    """Rounds to float32 what lies within error of value, or its square root: as `rounding.rounded`, in fewer steps.

    Two ulp downwards and upwards pay for the rounding of each end, and again for that of its root.

    Returns:
        The number, never -0, and whether both ends round alike, and to no subnormal number, which a thread may flush.
    """
    outward = 2.0 * UNIT64
    low, high = value - error, value + error
    low -= abs(low) * outward
    high += abs(high) * outward
    if root:
        low, high = np.sqrt(max(low, 0.0)), np.sqrt(high)
        low -= low * outward
        high += high * outward
    first, last = np.float32(low), np.float32(high)
    certain = bool(first == last and (abs(last) >= NORMAL or max(-low, high) < ZERO))
    return last if last != 0.0 else np.float32(0.0), certain


@jit
def round_root(square: float, relative: float) -> tuple[np.float32, bool]:
    """Rounds the root of a D^ above PLAIN to float32, as `round_value` does, by one root instead of two.

    D^ is off by a relative error of at most `relative`, and less than 2^-100 for what underflows; its root by half of
    that, and the two roundings of each end by less than 2^-51.
    """
    root, off = np.sqrt(square), relative + 2.0**-51
    first, last = np.float32(root - root * off), np.float32(root + root * off)
    return last, bool(first == last and last >= NORMAL)
