"""Numba twins of few_pairs.py: the same sums in the same order, bit for bit, in one pass over the pairs.

All arrays are in C order: w, r (n, k) and x (n, d), c (m, d) of one type, float32 or float64; j (n, k) int64, -1 for
none; by_row (n, d) and by_centre (m, d) float64, zeros, written. They return whether these pairs are for here.
"""

from __future__ import annotations

import numpy as np

from janelia_core.ml._runtime.arrays import F64, I64, Reals
from janelia_core.ml._runtime.jit import jit


@jit
def norm_sums(
    w: Reals,
    x: Reals,
    c: Reals,
    r: Reals,
    j: I64,
    limits: tuple[float, float, float],
    by_row: F64,
    by_centre: F64,
) -> bool:
    """Adds up w (x - c) / r; limits: the least and the largest distance and, of float64, the least quotient."""
    least, most, tiny = limits
    total = 0.0
    for i in range(j.shape[0]):
        for slot in range(j.shape[1]):
            centre, far = j[i, slot], np.float64(r[i, slot])
            if centre < 0 or far == 0.0:
                continue
            if not least <= far <= most:
                return False
            weight = np.float64(w[i, slot]) / far
            if weight != 0.0 and abs(weight) < tiny:
                return False
            total += weight
            for q in range(x.shape[1]):
                part = (np.float64(x[i, q]) - np.float64(c[centre, q])) * weight
                by_row[i, q] += part
                by_centre[centre, q] -= part
    return bool(np.isfinite(total))


@jit
def sums(w: Reals, x: Reals, c: Reals, j: I64, differences: bool, factor: float, by_row: F64, by_centre: F64) -> bool:
    """Adds up w (x - c) by row, and its negative by centre, or w c and w x, times a factor."""
    total = 0.0
    for i in range(j.shape[0]):
        for slot in range(j.shape[1]):
            centre = j[i, slot]
            if centre < 0:
                continue
            weight = np.float64(w[i, slot]) * factor
            total += weight
            for q in range(x.shape[1]):
                own, other = np.float64(x[i, q]), np.float64(c[centre, q])
                if differences:
                    by_row[i, q] += (own - other) * weight
                    by_centre[centre, q] -= (own - other) * weight
                else:
                    by_row[i, q] += other * weight
                    by_centre[centre, q] += own * weight
    return bool(np.isfinite(total))
