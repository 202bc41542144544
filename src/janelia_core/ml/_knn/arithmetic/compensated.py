"""Numba kernels of compensated sums over the coordinates of two rows, with a measured error.

Of every product and every sum the rounding error is computed exactly (a fused multiply-add; Knuth's
two-sum) and these errors are added up in plain float64. With m = sum |errors| this second sum, of n terms in any order,
is off by at most gamma(n) m (Higham, section 3.1), which is the bound handed back: zero if nothing was rounded.

Source: T. Ogita, S. M. Rump, S. Oishi, Accurate sum and dot product, SIAM J. Sci. Comput. 26 (2005), algorithm 5.3.
"""

from __future__ import annotations

import numpy as np

from janelia_core.ml._knn.arithmetic.bounds import LOSS, SMALL, UNIT64
from janelia_core.ml._runtime.arrays import F64, I64, Reals
from janelia_core.ml._runtime.jit import inlined, jit
from janelia_core.ml._simd.fused import fma


@inlined
def two_sum(a: float, b: float) -> tuple[float, float]:
    """Returns a + b as a sum of two numbers, without error."""
    s = a + b
    t = s - a
    return s, (a - (s - t)) + (b - t)


@jit
def compensated_product(x: Reals, i: int, ctrs: Reals, j: int) -> tuple[float, float, float]:
    """Returns (hi, lo, error) of sum x_q c_q."""
    s, low, m, lossy = 0.0, 0.0, 0.0, 0
    for q in range(x.shape[1]):
        f, g = np.float64(x[i, q]), np.float64(ctrs[j, q])
        p = f * g
        s, rest = two_sum(s, p)
        rest += fma(f, g, -p)
        low += rest
        m += abs(rest)
        lossy += (abs(p) < SMALL) & (f != 0.0) & (g != 0.0)
    return total(s, low, m, lossy, x.shape[1])


@jit
def compensated_square(x: Reals, i: int, ctrs: Reals, j: int) -> tuple[float, float, float]:
    """Returns (hi, lo, error) of sum (x_q - c_q)^2."""
    s, low, m, lossy = 0.0, 0.0, 0.0, 0
    for q in range(x.shape[1]):
        s, low, m, lossy = with_square(np.float64(x[i, q]), np.float64(ctrs[j, q]), s, low, m, lossy)
    return total(s, low, m, lossy, x.shape[1])


@inlined
def with_square(f: float, g: float, s: float, low: float, m: float, lossy: int) -> tuple[float, float, float, int]:
    """Adds (f - g)^2 to a sum s, to the errors of its terms, to the sum of their sizes, and counts what is lossy."""
    gap, gap_low = two_sum(f, -g)
    p = gap * gap
    s, first = two_sum(s, p)
    second = fma(gap, gap, -p)
    third = (2.0 * gap + gap_low) * gap_low
    low += first + second + third
    m += abs(first) + abs(second) + abs(third)
    return s, low, m, lossy + ((p < SMALL) & (gap != 0.0))


@inlined
def total(s: float, low: float, m: float, lossy: int, d: int) -> tuple[float, float, float]:
    """Returns hi + lo = s + low, and a bound of what is lost: six roundings a term, of parts that add up to m."""
    error = 2.0 * (6.0 * d + 16.0) * UNIT64 * m + lossy * LOSS
    if error > 0.0:
        error += (d + 1) * 2.0**-900  # squares of what a difference lost may underflow
    return *two_sum(s, low), error


@jit
def sums_of_pairs(square: bool, own: bool, x: Reals, ctrs: Reals, indices: I64, hi: F64, lo: F64, error: F64) -> None:
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
