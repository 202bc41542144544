"""Numba kernels that tell centres of a row apart by the difference of their order values, in double-double.

With r the first centre of a cluster of near-ties, and a any of them,

    |x - a|^2 - |x - r|^2  =  sum_q (a_q - r_q) ((a_q - x_q) + (r_q - x_q))
    <x, r> - <x, a>        =  sum_q (a_q - r_q) (-x_q)

order the cluster as its order values do. What all of them share is gone before anything is rounded: so 106 bits tell
apart what those of the order values themselves could not, a tiny cluster far away, say, or tiny centres beside a row
that is not. Differences are taken without error, as sums of two or three numbers (Knuth's two-sum), their products as
sums of two (a fused multiply-add), and what adding these up discards is known exactly, and added up in its turn: the
error is zero where nothing was discarded, which is how exact ties are recognised.
"""

from __future__ import annotations

import math

import numpy as np

from janelia_core.ml._knn.arithmetic.bounds import LOSS, OUTWARD, SMALL, UNIT64
from janelia_core.ml._knn.arithmetic.compensated import two_sum
from janelia_core.ml._runtime.arrays import F64, I64, Reals
from janelia_core.ml._runtime.jit import inlined, jit
from janelia_core.ml._simd.fused import fma

Number = tuple[float, float]
"""A number as a sum of two."""
Keys = tuple[F64, F64, F64, F64]
"""Of the members of clusters: hi and lo, the error of their sum, and how many parts of it were small."""


@inlined
def _gap(a: float, a_low: float, b: float, b_low: float) -> tuple[float, float, float]:
    """Returns (a + a_low) - (b + b_low) as a sum of two numbers, and how far that can be off."""
    s, t = two_sum(a, -b)
    w, rest = two_sum(a_low, -b_low)
    t, lost = two_sum(t, w)
    s, t = two_sum(s, t)
    t, first = two_sum(t, lost)
    t, second = two_sum(t, rest)
    return s, t, abs(first) + abs(second)


@inlined
def _add(hi: float, lo: float, p: float, e: float) -> tuple[float, float, float]:
    """Returns (hi + lo) + (p + e) as a sum of two numbers, and what was discarded."""
    s, t = two_sum(hi, p)
    u, v = two_sum(lo, e)
    t, first = two_sum(t, u)
    s, t = two_sum(s, t)
    t, second = two_sum(t, v)
    s, t = two_sum(s, t)
    return s, t, abs(first) + abs(second)


@inlined
def _is_lost(part: float, made: float) -> float:
    """Counts a number of which scaling or multiplying left too little to be exact, or nothing."""
    return 1.0 if part != 0.0 and abs(made) < SMALL else 0.0


@inlined
def _key_with(
    product: bool, c: Number, r: Number, x: Number, scales: tuple[float, float], hi: float, lo: float
) -> tuple[float, float, float, float]:
    """Returns hi + lo + a coordinate's part of a key as a sum of two numbers, its error, and a count of small parts.

    c, r and x are values in two parts. Without a branch or a call, so that a loop over centres becomes vectors.
    """
    fu, fv = scales
    t, t_low, t_lost = _gap(r[0], r[1], x[0], x[1])
    u, u_low, u_lost = _gap(c[0], c[1], r[0], r[1])
    s, s_low, s_lost = _gap(c[0], c[1], x[0], x[1])
    v, rest = two_sum(s, t)
    v_low, least = two_sum(s_low, t_low)
    v_low, more = two_sum(rest, v_low)
    v, v_low = two_sum(v, v_low)
    v_least = least + more
    v_lost = s_lost + t_lost + UNIT64 * abs(v_least)
    if product:
        v, v_low, v_least, v_lost = -x[0], -x[1], 0.0, 0.0
    a, a_low, b, b_low, b_least = u * fu, u_low * fu, v * fv, v_low * fv, v_least * fv
    first, second, third = a * b, a * b_low, a_low * b
    hi, lo, first_lost = _add(hi, lo, first, fma(a, b, -first))
    hi, lo, second_lost = _add(hi, lo, second, fma(a, b_low, -second))
    hi, lo, third_lost = _add(hi, lo, third, fma(a_low, b, -third))
    hi, lo, rest_lost = _add(hi, lo, a_low * b_low + (a + a_low) * b_least, 0.0)
    size = abs(a_low * b_low) + (abs(a) + abs(a_low)) * abs(b_least)
    error = first_lost + second_lost + third_lost + rest_lost + 8.0 * UNIT64 * size
    error += 2.0 * (abs(a) * v_lost * fv + u_lost * fu * (abs(b) + abs(b_low) + abs(b_least)))
    small = (
        _is_lost(u, a) + _is_lost(u_low, a_low) + _is_lost(v, b) + _is_lost(v_low, b_low) + _is_lost(v_least, b_least)
    )
    small += (
        _is_lost(a, first) * (b != 0.0) + _is_lost(a, second) * (b_low != 0.0) + _is_lost(a_low, third) * (b != 0.0)
    )
    small += _is_lost(a_low, size) * (b_low != 0.0) + _is_lost(b_least, size)
    return hi, lo, error, small if u != 0.0 else 0.0


@jit
def _add_coordinate(
    product: bool, x: Number, c: F64, c_low: F64, q: int, members: tuple[int, int], scales: Number, keys: Keys
) -> None:
    """Adds coordinate q to the keys of a cluster: of members first .. stop - 1, whose difference is from the first."""
    (first, stop), (hi, lo, error, small) = members, keys
    r = (c[q, first], c_low[q, first])
    for j in range(np.uint64(first), np.uint64(stop)):
        hi[j], lo[j], lost, n = _key_with(product, (c[q, j], c_low[q, j]), r, x, scales, hi[j], lo[j])
        error[j] += lost
        small[j] += n


@jit
def settle_run(x: Reals, i: int, ctrs: Reals, ids: I64, first: int, stop: int, keys: F64) -> bool:
    """Puts centres ids[first:stop] in the order of their distances from row i; returns whether that is proven.

    Args:
        x: (r, d) rows, any real dtype that float64 holds.
        i: The row.
        ctrs: (n_ctrs, d) centres, likewise.
        ids: (w,) int64 row numbers of centres; those in question are sorted.
        first: See ids.
        stop: See ids.
        keys: (2, at least stop - first) float64, scratch.
    """
    r, worst, small = ids[first], 0.0, 0.0
    for member in range(stop - first):
        hi, lo, error = 0.0, 0.0, 0.0
        j = ids[first + member]
        for q in range(ctrs.shape[1]):
            c, reference = (np.float64(ctrs[j, q]), 0.0), (np.float64(ctrs[r, q]), 0.0)
            row = (np.float64(x[i, q]), 0.0)
            hi, lo, lost, n = _key_with(False, c, reference, row, (1.0, 1.0), hi, lo)
            error += lost
            small += n
        worst = max(worst, error * (1.0 + 2.0**-30))
        place = member
        while place > 0 and _follows(keys[0, place - 1], keys[1, place - 1], ids[first + place - 1], hi, lo, j):
            keys[0, place], keys[1, place] = keys[0, place - 1], keys[1, place - 1]
            ids[first + place] = ids[first + place - 1]
            place -= 1
        keys[0, place], keys[1, place], ids[first + place] = hi, lo, j
        if not np.isfinite(hi + error):
            return False
    proven = small == 0.0
    for place in range(1, stop - first):
        proven = proven and (worst == 0.0 or _are_apart(keys, place, worst))
    return proven


@inlined
def _follows(hi: float, lo: float, j: int, other_hi: float, other_lo: float, other_j: int) -> bool:
    """Whether key hi + lo of centre j comes after another, equal ones by index."""
    if hi != other_hi:
        return hi > other_hi
    return lo > other_lo or (lo == other_lo and j > other_j)


@inlined
def _are_apart(keys: F64, place: int, error: float) -> bool:
    """Whether a key is above the one before, each off by at most error."""
    gap = (keys[0, place] - keys[0, place - 1]) + (keys[1, place] - keys[1, place - 1])
    size = abs(keys[0, place]) + abs(keys[0, place - 1])
    return bool(gap > 2.0 * error * OUTWARD + 2.0**-100 * size)


@jit
def _scales(product: bool, x: F64, row: int, c: F64, first: int, stop: int) -> tuple[float, float]:
    """Returns powers of two that bring a cluster's largest differences, and what they are multiplied by, near 1."""
    u, v = 0.0, 0.0
    for q in range(c.shape[0]):
        for j in range(first, stop):
            u = max(u, abs(c[q, j] - c[q, first]))
            v = max(v, abs(x[row, q]) if product else abs(c[q, j] - x[row, q]))
    if not (u > 0.0 and v > 0.0 and u < np.inf and v < np.inf):
        return 1.0, 1.0
    return math.ldexp(1.0, min(1000, -math.frexp(u)[1])), math.ldexp(1.0, min(1000, -math.frexp(v)[1]))


@jit
def difference_keys(
    product: bool, x: F64, x_low: F64, c: F64, c_low: F64, starts: I64, hi: F64, lo: F64, error: F64
) -> None:
    """Writes what orders the members of each cluster, times some powers of two; of the first member it is 0.

    Args:
        product: The larger inner product comes first; else the smaller distance.
        x: (clusters, d) float64, the row of each cluster; its values are x + x_low.
        x_low: (clusters, d) float64.
        c: (d, p) float64, the members' centres, cluster by cluster; their values are c + c_low.
        c_low: (d, p) float64.
        starts: (clusters + 1,) int64: where each cluster starts in c, and p.
        hi: (p,) float64, written: keys are within error of hi + lo.
        lo: (p,) float64, written.
        error: (p,) float64, written; inf where a difference overflows.
    """
    small = np.empty(hi.shape[0])
    for cluster in range(starts.shape[0] - 1):
        first, stop = starts[cluster], starts[cluster + 1]
        scales = (1.0, 1.0)
        for again in range(2):
            for j in range(first, stop):
                hi[j], lo[j], error[j], small[j] = 0.0, 0.0, 0.0, 0.0
            for q in range(c.shape[0]):
                row = (x[cluster, q], x_low[cluster, q])
                _add_coordinate(product, row, c, c_low, q, (first, stop), scales, (hi, lo, error, small))
            lost = 0.0
            for j in range(first, stop):
                lost += small[j]
                error[j] = error[j] * (1.0 + 2.0**-30) + small[j] * LOSS
                if not np.isfinite(hi[j] + error[j]):
                    hi[j], lo[j], error[j], lost = 0.0, 0.0, np.inf, 1.0
            if lost == 0.0 or again == 1:
                break
            scales = _scales(product, x, cluster, c, first, stop)
