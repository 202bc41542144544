"""Numba twins of affine.py for float32 and float64 on a CPU: no pair is ever stored, sums run in float64.

Sums by centre are shared out among threads as in pair_kernels.py, so that each has one order.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from janelia_core.ml._jit import jit


@jit
def values(weight: Any, bias: Any, x: Any, c: Any, indices: Any, out: Any) -> None:
    """Write sum_j W_j (x_i - c_j) + b_j to out (n, outputs)."""
    total = np.empty(out.shape[1])
    gap = np.empty(x.shape[1])
    for i in range(indices.shape[0]):
        total[:] = 0.0
        for slot in range(indices.shape[1]):
            j = indices[i, slot]
            if j < 0:
                continue
            for q in range(gap.shape[0]):
                gap[q] = np.float64(x[i, q]) - np.float64(c[j, q])
            for a in range(total.shape[0]):
                row, mapped = weight[j, a], np.float64(bias[j, a])
                for q in range(gap.shape[0]):
                    mapped += np.float64(row[q]) * gap[q]
                total[a] += mapped
        out[i] = total


@jit
def maps(g: Any, x: Any, c: Any, indices: Any, first: int, weight: Any, bias: Any) -> None:
    """Add g_i (x_i - c_j)^T and g_i over the pairs of centres first, first + 1, ... to weight and bias."""
    gap = np.empty(x.shape[1])
    for i in range(indices.shape[0]):
        for slot in range(indices.shape[1]):
            j = indices[i, slot]
            if j < first or j >= first + bias.shape[0]:
                continue
            for q in range(gap.shape[0]):
                gap[q] = np.float64(x[i, q]) - np.float64(c[j, q])
            for a in range(bias.shape[1]):
                gradient, row = np.float64(g[i, a]), weight[j - first, a]
                bias[j - first, a] += gradient
                for q in range(gap.shape[0]):
                    row[q] += gradient * gap[q]


@jit
def points(g: Any, weight: Any, indices: Any, out: Any) -> None:
    """Write sum_j W_j^T g_i to out (n, d)."""
    total = np.empty(out.shape[1])
    for i in range(indices.shape[0]):
        total[:] = 0.0
        for slot in range(indices.shape[1]):
            j = indices[i, slot]
            if j < 0:
                continue
            for a in range(g.shape[1]):
                gradient, row = np.float64(g[i, a]), weight[j, a]
                for q in range(total.shape[0]):
                    total[q] += gradient * np.float64(row[q])
        out[i] = total
