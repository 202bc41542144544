"""Numba kernels for listed pairs: float64 sums for order values, and compensated ones with a measured error.

Compensated: of every product and every sum the rounding error is computed exactly (a fused multiply-add; Knuth's
two-sum) and these errors are added up in plain float64. With m = sum |errors| this second sum, of n terms in any order,
is off by at most gamma(n) m (Higham, section 3.1), which is the bound handed back: zero if nothing was rounded.

Source: T. Ogita, S. M. Rump, S. Oishi, Accurate sum and dot product, SIAM J. Sci. Comput. 26 (2005), algorithm 5.3.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from janelia_core.ml._knn.metrics import LARGEST_SQUARE, LEAST_SQUARE
from janelia_core.ml._knn.verify.kernels import precedes
from janelia_core.ml._runtime.jit import jit
from janelia_core.ml._simd.fused import fma
from janelia_core.ml._simd.row_sums import product, squared_distance

CODES = {"euclidean": 0, "sqeuclidean": 0, "dot": 1, "cosine": 2}
SMALL, LOSS = 2.0**-800, 2.0**-890  # below SMALL the error of a product may underflow, by less than LOSS
UNIT = 2.0**-53
NORMAL = 2.0**-126  # the smallest normal float32
PLAIN = 2.0**-900  # above it, the absolute part of an error is nothing
ZERO = 2.0**-150  # what is smaller rounds to 0 in float32


@jit
def dot_value(x: Any, i: int, ctrs: Any, j: int, x_square: float, relative: float, absolute: float) -> Any:
    """Returns -<x, c> and its error, by |x| |c| >= sum |x_q c_q|, or by that sum where a norm might lie."""
    c_square = product(ctrs, j, ctrs, j)
    if not is_moderate(x_square, c_square):
        return dot_of_extremes(x, i, ctrs, j, relative, absolute)
    return -product(x, i, ctrs, j), relative * np.sqrt(x_square) * np.sqrt(c_square) + absolute


@jit
def cosine_value(x: Any, i: int, ctrs: Any, j: int, x_square: float, absolute: float) -> Any:
    """Returns 1 - cosine and its error, as `metrics.pair_values` does."""
    c_square = product(ctrs, j, ctrs, j)
    if not is_moderate(x_square, c_square):
        return cosine_of_extremes(x, i, ctrs, j, absolute)
    return 1.0 - product(x, i, ctrs, j) / (np.sqrt(x_square) * np.sqrt(c_square)), absolute


@jit
def is_moderate(x_square: float, c_square: float) -> bool:
    """Whether both squared norms are what they seem, and so are their products; not for zero vectors, nor NaN."""
    return bool(min(x_square, c_square) >= LEAST_SQUARE and max(x_square, c_square) <= LARGEST_SQUARE)


@jit
def dot_of_extremes(x: Any, i: int, ctrs: Any, j: int, relative: float, absolute: float) -> Any:
    """Returns -<x, c> and its error for any values; where finite terms overflow, 0 and an infinite error."""
    total, size, wild, n_wild = 0.0, 0.0, 0.0, 0
    for q in range(x.shape[1]):
        a, b = np.float64(x[i, q]), np.float64(ctrs[j, q])
        if np.isfinite(a) and np.isfinite(b):
            total += a * b
            size += abs(a * b)
        else:
            wild += a * b
            n_wild += 1
    if n_wild > 0:  # finite terms have no say beside it
        return -wild, np.nan
    if not np.isfinite(size):
        return 0.0, np.inf
    return -total, size * relative + absolute


@jit
def cosine_of_extremes(x: Any, i: int, ctrs: Any, j: int, absolute: float) -> Any:
    """Returns 1 - cosine and its error for any values, each vector times a power of two (`directions.moderate`)."""
    a_most, b_most, n_wild = 0.0, 0.0, 0
    for q in range(x.shape[1]):
        a, b = abs(float(x[i, q])), abs(float(ctrs[j, q]))
        n_wild += not (a < np.inf and b < np.inf)
        a_most, b_most = max(a_most, a), max(b_most, b)
    if n_wild > 0:
        return np.nan, np.nan
    if a_most == 0.0 or b_most == 0.0:
        return 1.0, 0.0
    a_power, b_power = math.frexp(a_most)[1], math.frexp(b_most)[1]
    s, a_square, b_square = 0.0, 0.0, 0.0
    for q in range(x.shape[1]):
        a, b = math.ldexp(float(x[i, q]), -a_power), math.ldexp(float(ctrs[j, q]), -b_power)
        s += a * b
        a_square += a * a
        b_square += b * b
    return 1.0 - s / (np.sqrt(a_square) * np.sqrt(b_square)), absolute


@jit
def value_of_pair(
    code: int, x: Any, i: int, ctrs: Any, j: int, x_square: float, relative: float, absolute: float
) -> Any:
    """Returns the order value and its error; `code` as in CODES."""
    if code == 0:
        far = squared_distance(x, i, ctrs, j)
        return far, far * relative + absolute
    if code == 1:
        return dot_value(x, i, ctrs, j, x_square, relative, absolute)
    return cosine_value(x, i, ctrs, j, x_square, absolute)


@jit
def round_value(value: float, error: float, root: bool) -> Any:
    """Rounds to float32 what lies within error of value, or its square root: as `rounding.rounded`, in fewer steps.

    Two ulp downwards and upwards pay for the rounding of each end, and again for that of its root.

    Returns:
        The number, never -0, and whether both ends round alike, and to no subnormal number, which a thread may flush.
    """
    outward = 2.0 * UNIT
    low, high = value - error, value + error
    low -= abs(low) * outward
    high += abs(high) * outward
    if root:
        low, high = np.sqrt(max(low, 0.0)), np.sqrt(high)
        low -= low * outward
        high += high * outward
    first, last = np.float32(low), np.float32(high)
    certain = first == last and (abs(last) >= NORMAL or max(-low, high) < ZERO)
    return last if last != 0.0 else np.float32(0.0), certain


@jit
def round_root(square: float, relative: float) -> Any:
    """Rounds the root of a D^ above PLAIN to float32, as `round_value` does, by one root instead of two.

    D^ is off by a relative error of at most `relative`, and less than 2^-100 for what underflows; its root by half of
    that, and the two roundings of each end by less than 2^-51.
    """
    root, off = np.sqrt(square), relative + 2.0**-51
    first, last = np.float32(root - root * off), np.float32(root + root * off)
    return last, first == last and last >= NORMAL


@jit
def rounded_values(
    code: int,
    root: bool,
    relative: float,
    absolute: float,
    x: Any,
    ctrs: Any,
    indices: Any,
    out: Any,
    certain: Any,
) -> int:
    """Fills order values or their roots, in float32, of rows x (r, d) and the centres listed in indices (r, k).

    Args:
        code: As in CODES.
        root: Whether square roots are wanted.
        relative: Error of order values relative to D or |x| |c|.
        absolute: Error beyond that.
        x: (r, d) stored values, C order, any real dtype.
        ctrs: (n_ctrs, d), likewise.
        indices: (r, k) int64, -1 for none.
        out: (r, k) float32, written; +inf where there is none.
        certain: (r, k) bool, written: float64 left no doubt.

    Returns:
        How many are not certain.
    """
    doubtful = 0
    for i in range(indices.shape[0]):
        x_square = product(x, i, x, i) if code else 0.0
        for slot in range(indices.shape[1]):
            j = indices[i, slot]
            if j < 0:
                out[i, slot], certain[i, slot] = np.float32(np.inf), True
                continue
            if code == 0:  # not by value_of_pair: a call that is not inlined counts references to its arrays
                value = squared_distance(x, i, ctrs, j)
                error = value * relative + absolute
            else:
                value, error = value_of_pair(code, x, i, ctrs, j, x_square, relative, absolute)
            if root and PLAIN < value < np.inf:
                out[i, slot], certain[i, slot] = round_root(value, relative)
            else:
                out[i, slot], certain[i, slot] = round_value(value, error, root)
            doubtful += not certain[i, slot]
    return doubtful


@jit
def verify_pairs(
    code: int, relative: float, absolute: float, x: Any, ctrs: Any, listed: Any, value: Any, error: Any, indices: Any
) -> None:
    """Fills each row with its listed centres, sorted by (order value, index), as `verify.kernels.verify`.

    Args:
        code: See `value_of_pair`, as for the next four.
        relative: See there.
        absolute: See there.
        x: See there.
        ctrs: See there.
        listed: (r, w) int64 row numbers of centres, -1 for an empty slot, without duplicates.
        value: (r, w) float64, written; NaN where the list is shorter.
        error: (r, w) float64, written; NaN where the list is shorter.
        indices: (r, w) int64, written; -1 where the list is shorter.
    """
    for i in range(x.shape[0]):
        x_square = product(x, i, x, i)
        n = 0
        for slot in range(listed.shape[1]):
            j = listed[i, slot]
            if j < 0:
                continue
            far, off = value_of_pair(code, x, i, ctrs, j, x_square, relative, absolute)
            place = n
            while place > 0 and precedes(far, j, value[i, place - 1], indices[i, place - 1]):
                value[i, place], error[i, place] = value[i, place - 1], error[i, place - 1]
                indices[i, place] = indices[i, place - 1]
                place -= 1
            value[i, place], error[i, place], indices[i, place] = far, off, j
            n += 1
        for slot in range(n, listed.shape[1]):
            value[i, slot], error[i, slot], indices[i, slot] = np.nan, np.nan, -1


@jit
def compensated_product(x: Any, i: int, ctrs: Any, j: int) -> Any:
    """Returns (hi, lo, error) of sum x_q c_q."""
    s, low, m, lossy = 0.0, 0.0, 0.0, 0
    for q in range(x.shape[1]):
        f, g = np.float64(x[i, q]), np.float64(ctrs[j, q])
        p = f * g
        t = s + p
        z = t - s
        rest = ((s - (t - z)) + (p - z)) + fma(f, g, -p)
        s = t
        low += rest
        m += abs(rest)
        lossy += (abs(p) < SMALL) & (f != 0.0) & (g != 0.0)
    return total(s, low, m, lossy, x.shape[1])


@jit
def compensated_square(x: Any, i: int, ctrs: Any, j: int) -> Any:
    """Returns (hi, lo, error) of sum (x_q - c_q)^2."""
    s, low, m, lossy = 0.0, 0.0, 0.0, 0
    for q in range(x.shape[1]):
        f, g = np.float64(x[i, q]), np.float64(ctrs[j, q])
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
    return total(s, low, m, lossy, x.shape[1])


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
                found = compensated_square(x, i, ctrs, j)
            elif j >= 0 and own:
                found = compensated_product(ctrs, j, ctrs, j)
            elif j >= 0:
                found = compensated_product(x, i, ctrs, j)
            hi[i, slot], lo[i, slot], error[i, slot] = found
