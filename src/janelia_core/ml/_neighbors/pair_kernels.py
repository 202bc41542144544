"""Numba twins of pairs.py for float32 and float64 on a CPU: no pair is ever stored, sums run in float64.

Sums by centre visit the pairs row by row, whatever the threads: each thread owns a range of centres and passes over
the pairs of the others. So nothing is sorted, and every sum has one order.

No slices in loops: they count references, and threads contend for the counter.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from janelia_core.ml._runtime.jit import jit


@jit
def products(u: Any, v: Any, x: Any, c: Any, indices: Any, differences: bool, out: Any) -> None:
    """Write <u_i - v_j, x_i - c_j>, or <u_i, c_j> + <v_j, x_i>, of each pair to out (n, k); 0 for empty slots."""
    for i in range(indices.shape[0]):
        for slot in range(indices.shape[1]):
            j = indices[i, slot]
            total = 0.0
            if j >= 0:
                if differences:
                    for q in range(x.shape[1]):
                        gap = np.float64(u[i, q]) - np.float64(v[j, q])
                        total += gap * (np.float64(x[i, q]) - np.float64(c[j, q]))
                else:
                    for q in range(x.shape[1]):
                        total += np.float64(u[i, q]) * np.float64(c[j, q]) + np.float64(v[j, q]) * np.float64(x[i, q])
            out[i, slot] = total


@jit
def by_row(w: Any, x: Any, c: Any, indices: Any, differences: bool, out: Any) -> None:
    """Write the sum of w (x_i - c_j), or of w c_j, over each row's pairs to out (n, d)."""
    total = np.empty(x.shape[1])
    for i in range(indices.shape[0]):
        total[:] = 0.0
        for slot in range(indices.shape[1]):
            j = indices[i, slot]
            if j < 0:
                continue
            weight = np.float64(w[i, slot])
            if differences:
                for q in range(total.shape[0]):
                    total[q] += weight * (np.float64(x[i, q]) - np.float64(c[j, q]))
            else:
                for q in range(total.shape[0]):
                    total[q] += weight * np.float64(c[j, q])
        for q in range(total.shape[0]):
            out[i, q] = total[q]


@jit
def by_centre(w: Any, x: Any, c: Any, indices: Any, differences: bool, first: int, totals: Any) -> None:
    """Add w (c_j - x_i), or w x_i, over the pairs of centres first, first + 1, ... to totals (rows of them, d)."""
    for i in range(indices.shape[0]):
        for slot in range(indices.shape[1]):
            j = indices[i, slot]
            at = j - first
            if at < 0 or at >= totals.shape[0]:
                continue
            weight = np.float64(w[i, slot])
            if differences:
                for q in range(totals.shape[1]):
                    totals[at, q] += weight * (np.float64(c[j, q]) - np.float64(x[i, q]))
            else:
                for q in range(totals.shape[1]):
                    totals[at, q] += weight * np.float64(x[i, q])
