"""Numba kernels that round order values of listed pairs to float32, where float64 leaves no doubt of it."""

from __future__ import annotations

import numpy as np

from janelia_core.ml._knn.arithmetic.bounds import UNIT64
from janelia_core.ml._knn.metrics.metric import DISTANCE, Bound
from janelia_core.ml._knn.verify.pair_kernels import value_of_pair
from janelia_core.ml._runtime.arrays import B8, F32, I64, Reals
from janelia_core.ml._runtime.jit import jit
from janelia_core.ml._simd.row_sums import product, squared_distance

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


@jit
def rounded_values(
    form: int, root: bool, within: Bound, x: Reals, ctrs: Reals, indices: I64, out: F32, certain: B8
) -> int:
    """Fills order values or their roots, in float32, of rows x (r, d) and the centres listed in indices (r, k).

    Args:
        form: As for `value_of_pair`, like `within`.
        root: Whether square roots are wanted.
        within: How far order values can be off.
        x: (r, d) stored values, C order, any real dtype.
        ctrs: (n_ctrs, d), likewise.
        indices: (r, k) int64, -1 for none.
        out: (r, k) float32, written; +inf where there is none.
        certain: (r, k) bool, written: float64 left no doubt.

    Returns:
        How many are not certain.
    """
    doubtful, (relative, absolute) = 0, within
    for i in range(indices.shape[0]):
        x_square = product(x, i, x, i) if form != DISTANCE else 0.0
        for slot in range(indices.shape[1]):
            j = indices[i, slot]
            if j < 0:
                out[i, slot], certain[i, slot] = np.float32(np.inf), True
                continue
            if form == DISTANCE:  # not by value_of_pair: a call that is not inlined counts references to its arrays
                value = squared_distance(x, i, ctrs, j)
                error = value * relative + absolute
            else:
                value, error = value_of_pair(form, within, x, i, ctrs, j, x_square)
            if root and PLAIN < value < np.inf:
                out[i, slot], certain[i, slot] = round_root(value, relative)
            else:
                out[i, slot], certain[i, slot] = round_value(value, error, root)
            doubtful += not certain[i, slot]
    return doubtful
