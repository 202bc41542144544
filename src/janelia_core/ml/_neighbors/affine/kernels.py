"""Numba twins of sums.py for float32 and float64 on a CPU: no pair is ever stored, sums run in float64.

Sums by centre are shared out among threads as in pair_kernels.py, so that each has one order.
"""

from __future__ import annotations

import numpy as np

from janelia_core.ml._runtime.arrays import F64, I64, Reals
from janelia_core.ml._runtime.jit import jit


@jit
def values(weight: Reals, bias: Reals, x: Reals, c: Reals, indices: I64, rows: tuple[int, int], out: Reals) -> None:
    """Write sum_j W_j (x_i - c_j) + b_j to out (n, outputs), for some rows."""
    total = np.empty(out.shape[1])
    gap = np.empty(x.shape[1])
    for i in range(rows[0], rows[1]):
        total[:] = 0.0
        for slot in range(indices.shape[1]):
            j = indices[i, slot]
            if j < 0:
                continue
            for q in range(gap.shape[0]):
                gap[q] = np.float64(x[i, q]) - np.float64(c[j, q])
            for a in range(total.shape[0]):
                mapped = np.float64(bias[j, a])
                for q in range(gap.shape[0]):
                    mapped += np.float64(weight[j, a, q]) * gap[q]
                total[a] += mapped
        for a in range(total.shape[0]):
            out[i, a] = total[a]


@jit
def maps(g: Reals, x: Reals, c: Reals, indices: I64, first: int, weight: F64, bias: F64) -> None:
    """Add g_i (x_i - c_j)^T and g_i over the pairs of centres first, first + 1, ... to weight and bias."""
    gap = np.empty(x.shape[1])
    for i in range(indices.shape[0]):
        for slot in range(indices.shape[1]):
            j = indices[i, slot]
            at = j - first
            if at < 0 or at >= bias.shape[0]:
                continue
            for q in range(gap.shape[0]):
                gap[q] = np.float64(x[i, q]) - np.float64(c[j, q])
            for a in range(bias.shape[1]):
                gradient = np.float64(g[i, a])
                bias[at, a] += gradient
                for q in range(gap.shape[0]):
                    weight[at, a, q] += gradient * gap[q]


@jit
def points(g: Reals, weight: Reals, indices: I64, rows: tuple[int, int], out: Reals) -> None:
    """Write sum_j W_j^T g_i to out (n, d), for some rows."""
    total = np.empty(out.shape[1])
    for i in range(rows[0], rows[1]):
        total[:] = 0.0
        for slot in range(indices.shape[1]):
            j = indices[i, slot]
            if j < 0:
                continue
            for a in range(g.shape[1]):
                gradient = np.float64(g[i, a])
                for q in range(total.shape[0]):
                    total[q] += gradient * np.float64(weight[j, a, q])
        for q in range(total.shape[0]):
            out[i, q] = total[q]
