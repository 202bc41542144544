"""Numba twins of sign_pairs.py for float32 and float64 on a CPU: no pair is ever stored.

As in pair_kernels.py, sums run in float64, those by centre visit the pairs row by row, and no function of arrays is
called for a pair: hence the long loops. A look at the pair comes first: whether all coordinates are finite, and how
large the largest difference is, of quarters of the coordinates where differences overflow.
"""

from __future__ import annotations

import numpy as np

from janelia_core.ml._neighbors.derivatives.pair_kernels import Block, Listed, Weights
from janelia_core.ml._runtime.arrays import F64, Reals
from janelia_core.ml._runtime.jit import jit


@jit
def evaluate_signs(
    u: Reals, v: Reals, x: Reals, c: Reals, pairs: Listed, largest: bool, block: Block, out: F64
) -> None:
    """Write <u_i - v_j, t> for each pair to out (n, k), and a zero for each empty slot."""
    indices, first, per = pairs
    for i in range(block[0], block[1]):
        base = first[i // per] if first.shape[0] > 0 else 0
        for slot in range(indices.shape[1]):
            out[i, slot] = 0.0
            j = indices[i, slot]
            if j < 0:
                continue
            j += base
            wild, top, part = 0, 0.0, 1.0
            for q in range(x.shape[1]):
                a, b = np.float64(x[i, q]), np.float64(c[j, q])
                wild += not (abs(a) < np.inf and abs(b) < np.inf)
                top = max(top, abs(a - b))
            if wild > 0:
                continue
            if top == np.inf:
                part, top = 0.25, 0.0
                for q in range(x.shape[1]):
                    top = max(top, abs(np.float64(x[i, q]) * part - np.float64(c[j, q]) * part))
            least, count, total = top if largest else 0.0, 0, 0.0
            for q in range(x.shape[1]):
                gap = np.float64(x[i, q]) * part - np.float64(c[j, q]) * part
                if abs(gap) >= least and gap != 0.0:
                    count += 1
                    move = np.float64(u[i, q]) - np.float64(v[j, q])
                    total += move if gap > 0.0 else -move
            if largest and count > 1:
                total *= 1.0 / count
            out[i, slot] = total


@jit
def add_signs(
    weights: Weights,
    own: Reals,
    others: Reals,
    pairs: Listed,
    largest: bool,
    by_row: bool,
    block: Block,
    totals: F64,
    out: Reals,
) -> None:
    """Add up w t of each pair: by row to out (n, d), or by centre to totals of centres lowest, lowest + 1, ...

    By row `own` are the rows and `others` the centres, and totals (1, d) are room. By centre it is the other way round,
    and nothing is written to out.
    """
    (w, at), (indices, first, per), (start, stop, lowest) = weights, pairs, block
    d = totals.shape[1]
    for i in range(start, stop):
        base = first[i // per] if first.shape[0] > 0 else 0
        if by_row:
            totals[0, :] = 0.0
        for slot in range(indices.shape[1]):
            j = indices[i, slot]
            a, b, place = i, j + base, 0
            if not by_row:
                a, b, place = j + base, i, j + base - lowest
            if j < 0 or place < 0 or place >= totals.shape[0]:
                continue
            wild, top, part = 0, 0.0, 1.0
            for q in range(d):
                one, other = np.float64(own[a, q]), np.float64(others[b, q])
                wild += not (abs(one) < np.inf and abs(other) < np.inf)
            if wild > 0:
                continue
            weight = np.float64(w[i * at[0] + slot * at[1]])
            if not largest:
                for q in range(d):
                    one, other = np.float64(own[a, q]), np.float64(others[b, q])
                    totals[place, q] += weight if one > other else -weight if one < other else 0.0
                continue
            for q in range(d):
                top = max(top, abs(np.float64(own[a, q]) - np.float64(others[b, q])))
            if top == np.inf:
                part, top = 0.25, 0.0
                for q in range(d):
                    top = max(top, abs(np.float64(own[a, q]) * part - np.float64(others[b, q]) * part))
            count = 0
            for q in range(d):
                count += abs(np.float64(own[a, q]) * part - np.float64(others[b, q]) * part) == top
            if count > 1:
                weight *= 1.0 / count
            for q in range(d if top > 0.0 else 0):
                gap = np.float64(own[a, q]) * part - np.float64(others[b, q]) * part
                if abs(gap) == top:
                    totals[place, q] += weight if gap > 0.0 else -weight
        if by_row:
            for q in range(d):
                out[i, q] = totals[0, q]
