"""Numba twins of pairs.py for float32 and float64 on a CPU: no pair is ever stored, sums run in float64.

Sums by centre visit the pairs row by row, whatever the threads: each thread owns a range of centres and passes over
the pairs of the others. So nothing is sorted, and every sum has one order.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from janelia_core.ml._jit import jit


@jit
def products(u: Any, v: Any, x: Any, c: Any, indices: Any, differences: bool, out: Any) -> None:
    """Write <u_i - v_j, x_i - c_j>, or <u_i, c_j> + <v_j, x_i>, of each pair to out (n, k); 0 for empty slots."""
    for i in range(indices.shape[0]):
        for slot in range(indices.shape[1]):
            j = indices[i, slot]
            total = 0.0
            if j >= 0:
                ui, vj, xi, cj = u[i], v[j], x[i], c[j]
                if differences:
                    for q in range(xi.shape[0]):
                        total += (np.float64(ui[q]) - np.float64(vj[q])) * (np.float64(xi[q]) - np.float64(cj[q]))
                else:
                    for q in range(xi.shape[0]):
                        total += np.float64(ui[q]) * np.float64(cj[q]) + np.float64(vj[q]) * np.float64(xi[q])
            out[i, slot] = total


@jit
def by_row(w: Any, x: Any, c: Any, indices: Any, differences: bool, out: Any) -> None:
    """Write the sum of w (x_i - c_j), or of w c_j, over each row's pairs to out (n, d)."""
    total = np.empty(x.shape[1])
    for i in range(indices.shape[0]):
        total[:] = 0.0
        xi = x[i]
        for slot in range(indices.shape[1]):
            j = indices[i, slot]
            if j < 0:
                continue
            weight, cj = np.float64(w[i, slot]), c[j]
            if differences:
                for q in range(total.shape[0]):
                    total[q] += weight * (np.float64(xi[q]) - np.float64(cj[q]))
            else:
                for q in range(total.shape[0]):
                    total[q] += weight * np.float64(cj[q])
        out[i] = total


@jit
def by_centre(w: Any, x: Any, c: Any, indices: Any, differences: bool, first: int, totals: Any) -> None:
    """Add w (c_j - x_i), or w x_i, over the pairs of centres first, first + 1, ... to totals (rows of them, d)."""
    for i in range(indices.shape[0]):
        xi = x[i]
        for slot in range(indices.shape[1]):
            j = indices[i, slot]
            if j < first or j >= first + totals.shape[0]:
                continue
            weight, cj, total = np.float64(w[i, slot]), c[j], totals[j - first]
            if differences:
                for q in range(total.shape[0]):
                    total[q] += weight * (np.float64(cj[q]) - np.float64(xi[q]))
            else:
                for q in range(total.shape[0]):
                    total[q] += weight * np.float64(xi[q])
