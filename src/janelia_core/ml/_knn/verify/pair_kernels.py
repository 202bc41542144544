"""Numba kernels of listed pairs: float64 order values of every known form, with their errors, and their order."""

from __future__ import annotations

import math

import numpy as np

from janelia_core.ml._knn.metrics.dot import LARGEST_SQUARE, LEAST_SQUARE
from janelia_core.ml._knn.metrics.metric import CHEBYSHEV, DISTANCE, DOT, MANHATTAN, Bound
from janelia_core.ml._knn.verify.kernels import precedes
from janelia_core.ml._runtime.arrays import F64, I64, Reals
from janelia_core.ml._runtime.jit import inlined, jit
from janelia_core.ml._simd.gaps import Largest, Sizes
from janelia_core.ml._simd.row_sums import distance, product, squared_distance

_SIZES, _LARGEST = Sizes(), Largest()

Value = tuple[float, float]  # and its error
_SHORT = 16  # coordinates: of fewer a call takes longer than their sum


@inlined
def square_of_gap(x: Reals, i: int, ctrs: Reals, j: int) -> float:
    """Returns the squared distance, for loops over pairs of few coordinates, too."""
    if x.shape[1] >= _SHORT:
        far: float = squared_distance(x, i, ctrs, j)
        return far
    total, row, ctr = 0.0, np.uint64(i), np.uint64(j)  # no index from the end: Numba need not ask
    for q in range(np.uint64(x.shape[1])):
        gap = np.float64(x[row, q]) - np.float64(ctrs[ctr, q])
        total += gap * gap
    return total


@jit
def dot_value(x: Reals, i: int, ctrs: Reals, j: int, x_square: float, within: Bound) -> Value:
    """Returns -<x, c> and its error, by |x| |c| >= sum |x_q c_q|, or by that sum where a norm might lie."""
    c_square = product(ctrs, j, ctrs, j)
    if not is_moderate(x_square, c_square):
        return dot_of_extremes(x, i, ctrs, j, within)
    return -product(x, i, ctrs, j), within[0] * np.sqrt(x_square) * np.sqrt(c_square) + within[1]


@jit
def cosine_value(x: Reals, i: int, ctrs: Reals, j: int, x_square: float, absolute: float) -> Value:
    """Returns 1 - cosine and its error, as `Cosine.pair_values` does."""
    c_square = product(ctrs, j, ctrs, j)
    if not is_moderate(x_square, c_square):
        return cosine_of_extremes(x, i, ctrs, j, absolute)
    return 1.0 - product(x, i, ctrs, j) / (np.sqrt(x_square) * np.sqrt(c_square)), absolute


@jit
def is_moderate(x_square: float, c_square: float) -> bool:
    """Whether both squared norms are what they seem, and so are their products; not for zero vectors, nor NaN."""
    return bool(min(x_square, c_square) >= LEAST_SQUARE and max(x_square, c_square) <= LARGEST_SQUARE)


@jit
def dot_of_extremes(x: Reals, i: int, ctrs: Reals, j: int, within: Bound) -> Value:
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
    return -total, size * within[0] + within[1]


@jit
def cosine_of_extremes(x: Reals, i: int, ctrs: Reals, j: int, absolute: float) -> Value:
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
def value_of_pair(form: int, within: Bound, x: Reals, i: int, ctrs: Reals, j: int, x_square: float) -> Value:
    """Returns the order value and its error, of one `Metric.form`, `within` the `Metric.bound`."""
    if form == DISTANCE:
        far = squared_distance(x, i, ctrs, j)
        return far, far * within[0] + within[1]
    if form == DOT:
        return dot_value(x, i, ctrs, j, x_square, within)
    if form == MANHATTAN:
        far = distance(_SIZES, x, i, ctrs, j)
        return far, far * within[0] + within[1]
    if form == CHEBYSHEV:
        far = distance(_LARGEST, x, i, ctrs, j)
        return far, far * within[0] + within[1]
    return cosine_value(x, i, ctrs, j, x_square, within[1])


@jit
def verify_pairs(
    form: int, within: Bound, x: Reals, ctrs: Reals, listed: I64, value: F64, error: F64, indices: I64
) -> None:
    """Fills each row with its listed centres, sorted by (order value, index), as `verify.kernels.verify`.

    Args:
        form: As for `value_of_pair`, like the next three.
        within: How far values can be off.
        x: (r, d) rows.
        ctrs: (n_ctrs, d) centres.
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
            far, off = value_of_pair(form, within, x, i, ctrs, j, x_square)
            place = n
            while place > 0 and precedes(far, j, value[i, place - 1], indices[i, place - 1]):
                value[i, place], error[i, place] = value[i, place - 1], error[i, place - 1]
                indices[i, place] = indices[i, place - 1]
                place -= 1
            value[i, place], error[i, place], indices[i, place] = far, off, j
            n += 1
        for slot in range(n, listed.shape[1]):
            value[i, slot], error[i, slot], indices[i, slot] = np.nan, np.nan, -1
