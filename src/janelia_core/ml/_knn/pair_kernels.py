"""Numba kernels for listed pairs: float64 sums for order values, and compensated ones with a measured error.

Compensated: of every product and every sum the rounding error is computed exactly (a fused multiply-add; Knuth's
two-sum) and these errors are added up in plain float64. With m = sum |errors| this second sum, of n terms in any order,
is off by at most gamma(n) m (Higham, section 3.1), which is the bound handed back: zero if nothing was rounded.

Source: T. Ogita, S. M. Rump, S. Oishi, Accurate sum and dot product, SIAM J. Sci. Comput. 26 (2005), algorithm 5.3.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types
from numba.extending import intrinsic

from janelia_core.ml._jit import jit
from janelia_core.ml._knn.metrics import LARGEST_SQUARE, LEAST_SQUARE
from janelia_core.ml._knn.verify_kernels import CHAINS, precedes, squared_distance

CODES = {"euclidean": 0, "sqeuclidean": 0, "dot": 1, "cosine": 2}
SMALL, LOSS = 2.0**-800, 2.0**-890  # below SMALL the error of a product may underflow, by less than LOSS
UNIT = 2.0**-53
NORMAL = 2.0**-126  # the smallest normal float32
ZERO = 2.0**-150  # what is smaller rounds to 0 in float32


def _fma(typing_context: Any, a: Any, b: Any, c: Any) -> Any:
    """The sum a b + c, rounded once."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.fma(*args)

    return types.float64(types.float64, types.float64, types.float64), codegen


fma: Any = intrinsic(_fma)


@jit
def dot(x: Any, c: Any, sums: Any) -> Any:
    """Returns sum x_q c_q in float64, over two vectors of any real dtype; `sums` is (CHAINS,) scratch."""
    d = x.shape[0]
    whole = d - d % CHAINS
    sums[:] = 0.0
    for start in range(0, whole, CHAINS):
        a, b = x[start : start + CHAINS], c[start : start + CHAINS]
        for q in range(CHAINS):
            sums[q] += np.float64(a[q]) * np.float64(b[q])
    total = 0.0
    for q in range(whole, d):
        total += np.float64(x[q]) * np.float64(c[q])
    for q in range(CHAINS):
        total += sums[q]
    return total


@jit
def dot_value(x: Any, c: Any, x_square: float, relative: float, absolute: float, sums: Any) -> Any:
    """Returns -<x, c> and its error, by |x| |c| >= sum |x_q c_q|."""
    return -dot(x, c, sums), relative * np.sqrt(x_square) * np.sqrt(dot(c, c, sums)) + absolute


@jit
def cosine_value(x: Any, c: Any, x_square: float, absolute: float, sums: Any) -> Any:
    """Returns 1 - cosine and its error, as `metrics.cosine_values` does."""
    c_square = dot(c, c, sums)
    if not (np.isfinite(x_square) and np.isfinite(c_square)):
        return np.nan, np.nan
    if (x_square == 0.0 and is_zero(x)) or (c_square == 0.0 and is_zero(c)):
        return 1.0, 0.0
    if not (min(x_square, c_square) >= LEAST_SQUARE and max(x_square, c_square) <= LARGEST_SQUARE):
        return 1.0, 2.0
    return 1.0 - dot(x, c, sums) / (np.sqrt(x_square) * np.sqrt(c_square)), absolute


@jit
def is_zero(v: Any) -> bool:
    """Whether all values are 0."""
    nonzero = 0
    for q in range(v.shape[0]):
        nonzero += v[q] != 0
    return nonzero == 0


@jit
def value_of_pair(code: int, x: Any, c: Any, x_square: float, relative: float, absolute: float, sums: Any) -> Any:
    """Returns the order value and its error; `code` as in CODES."""
    if code == 0:
        far = squared_distance(x, c, sums)
        return far, far * relative + absolute
    if code == 1:
        return dot_value(x, c, x_square, relative, absolute, sums)
    return cosine_value(x, c, x_square, absolute, sums)


@jit
def values_of_pairs(
    code: int, relative: float, absolute: float, x: Any, ctrs: Any, indices: Any, value: Any, error: Any
) -> None:
    """Fills order values and errors of rows x (r, d) and the centres listed in indices (r, k), NaN where there is none.

    Args:
        code: As in CODES.
        relative: Error relative to D or |x| |c|.
        absolute: Error beyond that.
        x: (r, d) stored values, C order, any real dtype.
        ctrs: (n_ctrs, d), likewise.
        indices: (r, k) int64, -1 for none.
        value: (r, k) float64, written.
        error: (r, k) float64, written.
    """
    sums = np.zeros(CHAINS)
    for i in range(indices.shape[0]):
        x_square = dot(x[i], x[i], sums) if code else 0.0
        for slot in range(indices.shape[1]):
            j = indices[i, slot]
            if j < 0:
                value[i, slot], error[i, slot] = np.nan, np.nan
            else:
                found = value_of_pair(code, x[i], ctrs[j], x_square, relative, absolute, sums)
                value[i, slot], error[i, slot] = found


@jit
def verify_pairs(
    code: int, relative: float, absolute: float, x: Any, ctrs: Any, listed: Any, value: Any, error: Any, indices: Any
) -> None:
    """Fills each row with its listed centres, sorted by (order value, index), as `verify_kernels.verify`.

    Args:
        code: See `values_of_pairs`, as for the next four.
        relative: See there.
        absolute: See there.
        x: See there.
        ctrs: See there.
        listed: (r, w) int64 row numbers of centres, -1 for an empty slot, without duplicates.
        value: (r, w) float64, written; NaN where the list is shorter.
        error: (r, w) float64, written; NaN where the list is shorter.
        indices: (r, w) int64, written; -1 where the list is shorter.
    """
    sums = np.zeros(CHAINS)
    for i in range(x.shape[0]):
        x_square = dot(x[i], x[i], sums)
        n = 0
        for slot in range(listed.shape[1]):
            j = listed[i, slot]
            if j < 0:
                continue
            far, off = value_of_pair(code, x[i], ctrs[j], x_square, relative, absolute, sums)
            place = n
            while place > 0 and precedes(far, j, value[i, place - 1], indices[i, place - 1]):
                value[i, place], error[i, place] = value[i, place - 1], error[i, place - 1]
                indices[i, place] = indices[i, place - 1]
                place -= 1
            value[i, place], error[i, place], indices[i, place] = far, off, j
            n += 1
        value[i, n:], error[i, n:], indices[i, n:] = np.nan, np.nan, -1


@jit
def compensated_product(x: Any, c: Any) -> Any:
    """Returns (hi, lo, error) of sum x_q c_q."""
    s, low, m, lossy = 0.0, 0.0, 0.0, 0
    for q in range(x.shape[0]):
        f, g = np.float64(x[q]), np.float64(c[q])
        p = f * g
        t = s + p
        z = t - s
        rest = ((s - (t - z)) + (p - z)) + fma(f, g, -p)
        s = t
        low += rest
        m += abs(rest)
        lossy += (abs(p) < SMALL) & (f != 0.0) & (g != 0.0)
    return total(s, low, m, lossy, x.shape[0])


@jit
def compensated_square(x: Any, c: Any) -> Any:
    """Returns (hi, lo, error) of sum (x_q - c_q)^2."""
    s, low, m, lossy = 0.0, 0.0, 0.0, 0
    for q in range(x.shape[0]):
        f, g = np.float64(x[q]), np.float64(c[q])
        gap = f - g
        z = gap - f
        gap_low = (f - (gap - z)) - (g + z)
        p = gap * gap
        t = s + p
        z = t - s
        first = (s - (t - z)) + (p - z)
        second = fma(gap, gap, -p)
        third = (2.0 * gap + gap_low) * gap_low
        s = t
        low += first + second + third
        m += abs(first) + abs(second) + abs(third)
        lossy += (p < SMALL) & (gap != 0.0)
    return total(s, low, m, lossy, x.shape[0])


@jit
def total(s: float, low: float, m: float, lossy: int, d: int) -> Any:
    """Returns hi + lo = s + low, and a bound of what is lost: six roundings a term, of parts that add up to m."""
    error = 2.0 * (6.0 * d + 16.0) * UNIT * m + lossy * LOSS
    if error > 0.0:
        error += (d + 1) * 2.0**-900  # squares of what a difference lost may underflow
    t = s + low
    z = t - s
    return t, (s - (t - z)) + (low - z), error


@jit
def sums_of_pairs(square: bool, own: bool, x: Any, ctrs: Any, indices: Any, hi: Any, lo: Any, error: Any) -> None:
    """Fills compensated sums of rows x (r, d) and listed centres.

    Args:
        square: Squared distances; else inner products.
        own: Inner products of each centre with itself; x only counts rows.
        x: (r, d) stored values, any real dtype that float64 holds.
        ctrs: (n_ctrs, d), likewise.
        indices: (r, k) int64, -1 for none.
        hi: (r, k) float64, written; NaN where there is none.
        lo: Likewise.
        error: Likewise.
    """
    for i in range(indices.shape[0]):
        for slot in range(indices.shape[1]):
            j = indices[i, slot]
            found = (np.nan, np.nan, np.nan)
            if j >= 0 and square:
                found = compensated_square(x[i], ctrs[j])
            elif j >= 0:
                found = compensated_product(ctrs[j] if own else x[i], ctrs[j])
            hi[i, slot], lo[i, slot], error[i, slot] = found


@jit
def round_values(value: Any, error: Any, root: bool, out: Any, certain: Any) -> None:
    """Rounds to float32 what lies within error of value, or its square root, as `rounding.rounded` in one pass.

    Two ulp downwards and upwards pay for the rounding of each end, and again for that of its root.

    Args:
        value: (r, k) float64, not finite where nothing is known.
        error: (r, k) float64, likewise.
        root: The square root is wanted.
        out: (r, k) float32, written, never -0.
        certain: (r, k) bool, written: both ends round alike, and to no subnormal number, which a thread may flush.
    """
    outward = 2.0 * UNIT
    for i in range(value.shape[0]):
        for slot in range(value.shape[1]):
            low, high = value[i, slot] - error[i, slot], value[i, slot] + error[i, slot]
            low -= abs(low) * outward
            high += abs(high) * outward
            if root:
                low, high = np.sqrt(max(low, 0.0)), np.sqrt(high)
                low -= low * outward
                high += high * outward
            first, last = np.float32(low), np.float32(high)
            out[i, slot] = last if last != 0.0 else np.float32(0.0)
            certain[i, slot] = first == last and (abs(last) >= NORMAL or max(-low, high) < ZERO)
