"""Numba twins of pairs.py for float32 and float64 on a CPU: no pair is ever stored, sums run in float64.

Sums by centre visit the pairs row by row, whatever the threads: each thread owns a range of centres and passes over
the pairs of the others. So nothing is sorted, and every sum has one order.

All take the rows start .. stop - 1; `first` and `per` are `Pairs.first` and `rows_of_batch`; weights w lie in flat
memory, row i and slot s at w[i * at[0] + s * at[1]], so that an expanded gradient is not written out. `half` is 1, or
1/2 where differences of x and c overflow: the result counts half then.

No slices in loops: they count references, and threads contend for the counter.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from janelia_core.ml._runtime.jit import jit


@jit
def base_of(first: Any, per: int, i: int) -> int:
    """Returns the centre that row i's indices call 0."""
    return first[i // per] if first.shape[0] > 0 else 0


@jit
def products(
    u: Any,
    v: Any,
    x: Any,
    c: Any,
    indices: Any,
    first: Any,
    per: int,
    differences: bool,
    factor: float,
    half: float,
    start: int,
    stop: int,
    out: Any,
) -> None:
    """Write factor times <u_i - v_j, x_i - c_j>, or <u_i, c_j> + <v_j, x_i>, to out (n, k); 0 for empty slots."""
    for i in range(start, stop):
        base = base_of(first, per, i)
        for slot in range(indices.shape[1]):
            j = indices[i, slot]
            total = 0.0
            if j >= 0:
                j += base
                if differences:
                    for q in range(x.shape[1]):
                        gap = np.float64(u[i, q]) - np.float64(v[j, q])
                        total += gap * (np.float64(x[i, q]) * half - np.float64(c[j, q]) * half)
                else:
                    for q in range(x.shape[1]):
                        total += np.float64(u[i, q]) * np.float64(c[j, q]) + np.float64(v[j, q]) * np.float64(x[i, q])
            out[i, slot] = total * factor


@jit
def by_row(
    w: Any,
    at: Any,
    x: Any,
    c: Any,
    indices: Any,
    first: Any,
    per: int,
    differences: bool,
    factor: float,
    half: float,
    start: int,
    stop: int,
    out: Any,
) -> None:
    """Write factor times the sum of w (x_i - c_j), or of w c_j, over each row's pairs to out (n, d)."""
    total = np.empty(x.shape[1])
    for i in range(start, stop):
        base = base_of(first, per, i)
        total[:] = 0.0
        for slot in range(indices.shape[1]):
            j = indices[i, slot]
            if j < 0:
                continue
            j += base
            weight = np.float64(w[i * at[0] + slot * at[1]]) * factor
            if differences:
                for q in range(total.shape[0]):
                    total[q] += weight * (np.float64(x[i, q]) * half - np.float64(c[j, q]) * half)
            else:
                for q in range(total.shape[0]):
                    total[q] += weight * np.float64(c[j, q])
        for q in range(total.shape[0]):
            out[i, q] = total[q]


@jit
def by_centre(
    w: Any,
    at: Any,
    x: Any,
    c: Any,
    indices: Any,
    first: Any,
    per: int,
    differences: bool,
    factor: float,
    half: float,
    lowest: int,
    totals: Any,
) -> None:
    """Add factor times w (c_j - x_i), or w x_i, over the pairs of centres lowest, lowest + 1, ... to totals."""
    for i in range(indices.shape[0]):
        base = base_of(first, per, i) - lowest
        for slot in range(indices.shape[1]):
            j = indices[i, slot]
            at_row = j + base
            if j < 0 or at_row < 0 or at_row >= totals.shape[0]:
                continue
            j = at_row + lowest
            weight = np.float64(w[i * at[0] + slot * at[1]]) * factor
            if differences:
                for q in range(totals.shape[1]):
                    totals[at_row, q] += weight * (np.float64(c[j, q]) * half - np.float64(x[i, q]) * half)
            else:
                for q in range(totals.shape[1]):
                    totals[at_row, q] += weight * np.float64(x[i, q])
