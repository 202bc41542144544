"""Numba twins of norm_pairs.py for the first two orders: as pair_kernels.py, with unit vectors that nothing overflows.

Ordinary pairs take w / r, rounded, times the difference. Where r or that quotient comes near the ends of the format
(`limits`: the least and the largest r and the least quotient that are taken so) the unit vector is formed first, from
the difference divided by its largest coordinate.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from janelia_core.ml._neighbors.derivatives.pair_kernels import base_of
from janelia_core.ml._runtime.jit import jit

LARGE = 2.0**1000  # from here on differences of float64 numbers may overflow


@jit
def is_ordinary(r: float, quotient: float, limits: Any) -> bool:
    """Whether r and a quotient w / r are far from the ends of the format."""
    return limits[0] <= r and r <= limits[1] and (quotient == 0.0 or limits[2] <= abs(quotient) < np.inf)


@jit
def polar(x: Any, i: int, c: Any, j: int, u: Any) -> Any:
    """Write the unit vector from c_j to x_i to u, 0 where there is none; returns a, b: the distance is a b."""
    most = 0.0
    for q in range(u.shape[0]):
        most = max(most, abs(np.float64(x[i, q])), abs(np.float64(c[j, q])))
    part = 0.25 if most > LARGE else 1.0
    largest = 0.0
    for q in range(u.shape[0]):
        u[q] = np.float64(x[i, q]) * part - np.float64(c[j, q]) * part
        largest = max(largest, abs(u[q]))
    if largest == 0.0 or not np.isfinite(most) or not np.isfinite(largest):
        u[:] = 0.0
        return 0.0, 0.0
    square = 0.0
    for q in range(u.shape[0]):
        u[q] /= largest
        square += u[q] * u[q]
    norm = np.sqrt(square)
    for q in range(u.shape[0]):
        u[q] /= norm
    return largest, norm / part


@jit
def values(
    du: Any,
    dv: Any,
    x: Any,
    c: Any,
    r: Any,
    indices: Any,
    first: Any,
    per: int,
    limits: Any,
    start: int,
    stop: int,
    out: Any,
) -> None:
    """Write <du_i - dv_j, unit vector> of each pair to out (n, k)."""
    u = np.empty(x.shape[1])
    for i in range(start, stop):
        base = base_of(first, per, i)
        for slot in range(indices.shape[1]):
            j, far = indices[i, slot], r[i, slot]
            out[i, slot] = 0.0
            if j < 0 or not far > 0.0:
                continue
            j += base
            total = 0.0
            for q in range(x.shape[1]):
                gap = np.float64(du[i, q]) - np.float64(dv[j, q])
                total += gap * (np.float64(x[i, q]) - np.float64(c[j, q]))
            out[i, slot] = total
            if is_ordinary(far, out[i, slot], limits):
                out[i, slot] = out[i, slot] / far
                continue
            polar(x, i, c, j, u)
            total = 0.0
            for q in range(x.shape[1]):
                if u[q] != 0.0:
                    total += (np.float64(du[i, q]) - np.float64(dv[j, q])) * u[q]
            out[i, slot] = total


@jit
def by_row(
    w: Any,
    at: Any,
    x: Any,
    c: Any,
    r: Any,
    indices: Any,
    first: Any,
    per: int,
    limits: Any,
    start: int,
    stop: int,
    out: Any,
) -> None:
    """Write the sum of w times the unit vectors from c_j to x_i over each row's pairs to out (n, d)."""
    total, u = np.empty(x.shape[1]), np.empty(x.shape[1])
    for i in range(start, stop):
        base = base_of(first, per, i)
        total[:] = 0.0
        for slot in range(indices.shape[1]):
            j, far = indices[i, slot], r[i, slot]
            if j < 0 or not far > 0.0:
                continue
            j += base
            weight = w[i * at[0] + slot * at[1]]
            quotient = weight / far
            if is_ordinary(far, quotient, limits):
                for q in range(total.shape[0]):
                    total[q] += np.float64(quotient) * (np.float64(x[i, q]) - np.float64(c[j, q]))
                continue
            polar(x, i, c, j, u)
            for q in range(total.shape[0]):
                if u[q] != 0.0:
                    total[q] += np.float64(weight) * u[q]
        for q in range(total.shape[0]):
            out[i, q] = total[q]


@jit
def by_centre(
    w: Any, at: Any, x: Any, c: Any, r: Any, indices: Any, first: Any, per: int, limits: Any, lowest: int, totals: Any
) -> None:
    """Add the sums of w times the unit vectors from x_i to c_j over the pairs of centres lowest, ... to totals."""
    u = np.empty(x.shape[1])
    for i in range(indices.shape[0]):
        base = base_of(first, per, i) - lowest
        for slot in range(indices.shape[1]):
            j, far = indices[i, slot], r[i, slot]
            at_row = j + base
            if j < 0 or at_row < 0 or at_row >= totals.shape[0] or not far > 0.0:
                continue
            j = at_row + lowest
            weight = w[i * at[0] + slot * at[1]]
            quotient = weight / far
            if is_ordinary(far, quotient, limits):
                for q in range(totals.shape[1]):
                    totals[at_row, q] += np.float64(quotient) * (np.float64(c[j, q]) - np.float64(x[i, q]))
                continue
            polar(x, i, c, j, u)
            for q in range(totals.shape[1]):
                if u[q] != 0.0:
                    totals[at_row, q] -= np.float64(weight) * u[q]


@jit
def bend(weight: float, du: Any, i: int, dv: Any, j: int, a: float, b: float, u: Any, out: Any) -> None:
    """Write weight (e - <e, u> u) / (a b), with e = du_i - dv_j, to out: how the unit vector u turns along e."""
    along = 0.0
    for q in range(u.shape[0]):
        along += (np.float64(du[i, q]) - np.float64(dv[j, q])) * u[q]
    for q in range(u.shape[0]):
        across = (np.float64(du[i, q]) - np.float64(dv[j, q])) - along * u[q]
        out[q] = weight * across / a / b if a > 0.0 and weight != 0.0 and across != 0.0 else 0.0


@jit
def bent_by_row(
    w: Any,
    at: Any,
    du: Any,
    dv: Any,
    x: Any,
    c: Any,
    r: Any,
    indices: Any,
    first: Any,
    per: int,
    start: int,
    stop: int,
    out: Any,
) -> None:
    """Write the sum of w times the unit vectors' derivatives along du_i - dv_j over each row's pairs to out (n, d)."""
    d = x.shape[1]
    total, u, bent = np.empty(d), np.empty(d), np.empty(d)
    for i in range(start, stop):
        base = base_of(first, per, i)
        total[:] = 0.0
        for slot in range(indices.shape[1]):
            j = indices[i, slot]
            if j < 0 or not r[i, slot] > 0.0:
                continue
            j += base
            a, b = polar(x, i, c, j, u)
            bend(np.float64(w[i * at[0] + slot * at[1]]), du, i, dv, j, a, b, u, bent)
            for q in range(d):
                total[q] += bent[q]
        for q in range(d):
            out[i, q] = total[q]


@jit
def bent_by_centre(
    w: Any,
    at: Any,
    du: Any,
    dv: Any,
    x: Any,
    c: Any,
    r: Any,
    indices: Any,
    first: Any,
    per: int,
    lowest: int,
    totals: Any,
) -> None:
    """Take the same, over the pairs of centres lowest, lowest + 1, ..., from totals."""
    d = x.shape[1]
    u, bent = np.empty(d), np.empty(d)
    for i in range(indices.shape[0]):
        base = base_of(first, per, i) - lowest
        for slot in range(indices.shape[1]):
            j = indices[i, slot]
            at_row = j + base
            if j < 0 or at_row < 0 or at_row >= totals.shape[0] or not r[i, slot] > 0.0:
                continue
            j = at_row + lowest
            a, b = polar(x, i, c, j, u)
            bend(np.float64(w[i * at[0] + slot * at[1]]), du, i, dv, j, a, b, u, bent)
            for q in range(d):
                totals[at_row, q] -= bent[q]
