"""Numba twins of pairs.py and norm_pairs.py for float32 and float64 on a CPU: no pair is ever stored.

    evaluate    a number for each pair
    add_up      vectors for each pair, added up by row, or by centre where the ends of each pair change places

What they are is told by arguments that may be None, which decides at compilation. A `Form` asks for the forms of
pairs.py; `Lengths` ask for unit vectors, the first order of norm_pairs.py, and with `Moves` for how these turn, the
second. Sums run in float64.

Sums by centre visit the pairs row by row, whatever the threads: each thread owns a range of centres and passes over
the pairs of the others. So nothing is sorted, and every sum has one order.

No slices in loops: they count references, and threads contend for the counter. A function of arrays that is called for
each pair does so too, hence the long loops. Arguments that go together come as plain tuples: Numba takes microseconds
to recognise one that has names.
"""

from __future__ import annotations

import numpy as np

from janelia_core.ml._runtime.arrays import F64, I64, Reals
from janelia_core.ml._runtime.jit import jit

Listed = tuple[I64, I64, int]
"""`Pairs` as arrays: indices (n, k), -1 where there is no neighbour; first (n_batches,) or none; rows of a batch."""

Weights = tuple[Reals, tuple[int, int]]
"""Flat memory w and strides: row i, slot s have w[i * at[0] + s * at[1]]. An expanded gradient is not written out."""

Form = tuple[bool, float, float]
"""Differences, or products; a factor of the result; 1, or 1/2 where differences overflow: the result counts half."""

Lengths = tuple[Reals, tuple[float, float, float]]
"""Distances r (n, k), and the least and the largest r and the least quotient that are far from the ends of a format.

Ordinary pairs take w / r, rounded, times the difference. Where r or that quotient comes near the ends, the unit vector
is formed first, from the difference divided by its largest coordinate.
"""

Moves = tuple[Reals, Reals]
"""Directions in which both ends of the pairs move, like the points: own ones, for which sums are taken, and others."""

Block = tuple[int, int, int]
"""The first row that a call visits, the row after its last one, and the first of the centres that it adds up for."""

LARGE = 2.0**1000  # from here on differences of float64 numbers may overflow


@jit
def is_ordinary(r: float, quotient: float, limits: tuple[float, float, float]) -> bool:
    """Whether r and a quotient w / r are far from the ends of the format."""
    return limits[0] <= r and r <= limits[1] and (quotient == 0.0 or limits[2] <= abs(quotient) < np.inf)


@jit
def polar(x: Reals, i: int, c: Reals, j: int, u: F64) -> tuple[float, float]:
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
def evaluate(
    u: Reals,
    v: Reals,
    x: Reals,
    c: Reals,
    pairs: Listed,
    form: Form | None,
    lengths: Lengths | None,
    block: Block,
    out: Reals,
) -> None:
    """Write a number for each pair to out (n, k), and a zero for each empty slot.

    With a form it is factor times <u_i - v_j, x_i - c_j>, or <u_i, c_j> + <v_j, x_i>; with lengths <u_i - v_j, unit>.
    """
    indices, first, per = pairs
    if form is not None:
        differences, factor, half = form
    if lengths is not None:
        r, limits = lengths
        unit = np.empty(x.shape[1])
    for i in range(block[0], block[1]):
        base = first[i // per] if first.shape[0] > 0 else 0
        for slot in range(indices.shape[1]):
            j, total = indices[i, slot], 0.0
            there = j >= 0
            j += base
            if form is not None:
                if there and differences:
                    for q in range(x.shape[1]):
                        gap = np.float64(u[i, q]) - np.float64(v[j, q])
                        total += gap * (np.float64(x[i, q]) * half - np.float64(c[j, q]) * half)
                elif there:
                    for q in range(x.shape[1]):
                        total += np.float64(u[i, q]) * np.float64(c[j, q]) + np.float64(v[j, q]) * np.float64(x[i, q])
                out[i, slot] = total * factor
            if lengths is not None:
                far = r[i, slot]
                out[i, slot] = 0.0
                if not (there and far > 0.0):
                    continue
                for q in range(x.shape[1]):
                    gap = np.float64(u[i, q]) - np.float64(v[j, q])
                    total += gap * (np.float64(x[i, q]) - np.float64(c[j, q]))
                out[i, slot] = total
                if is_ordinary(far, out[i, slot], limits):
                    out[i, slot] = out[i, slot] / far
                    continue
                polar(x, i, c, j, unit)
                total = 0.0
                for q in range(x.shape[1]):
                    if unit[q] != 0.0:
                        total += (np.float64(u[i, q]) - np.float64(v[j, q])) * unit[q]
                out[i, slot] = total


@jit
def add_up(
    weights: Weights,
    own: Reals,
    others: Reals,
    pairs: Listed,
    form: Form | None,
    lengths: Lengths | None,
    moves: Moves | None,
    block: Block,
    totals: F64,
    out: Reals | None,
) -> None:
    """Add up w times a vector of each pair: by row, where there is an out (n, d), else by centre.

    By row `own` are the rows and `others` the centres, and totals (1, d) are room. By centre it is the other way round,
    and totals are those of centres lowest, lowest + 1, ...

    With a form the vector is factor times (own - other), or the other; with lengths it is the unit vector u of
    own - other; with moves as well (e - <e, u> u) / r, e = own's move less the other's: how the unit vector turns.
    """
    (w, at), (indices, first, per), (start, stop, lowest) = weights, pairs, block
    d = totals.shape[1]
    if form is not None:
        differences, factor, half = form
    if lengths is not None:
        r, limits = lengths
        u = np.empty(d)
    if moves is not None:
        own_moves, other_moves = moves
    for i in range(start, stop):
        base = first[i // per] if first.shape[0] > 0 else 0
        if out is not None:
            totals[0, :] = 0.0
        for slot in range(indices.shape[1]):
            j = indices[i, slot]
            a, b, place = i, j + base, 0
            if out is None:
                a, b, place = j + base, i, j + base - lowest
            if j < 0 or place < 0 or place >= totals.shape[0]:
                continue
            weight = w[i * at[0] + slot * at[1]]
            if form is not None:
                factored = np.float64(weight) * factor
                if differences:
                    for q in range(d):
                        totals[place, q] += factored * (np.float64(own[a, q]) * half - np.float64(others[b, q]) * half)
                else:
                    for q in range(d):
                        totals[place, q] += factored * np.float64(others[b, q])
            if lengths is not None and r[i, slot] > 0.0:
                if moves is None:
                    quotient = weight / r[i, slot]
                    if is_ordinary(r[i, slot], quotient, limits):
                        for q in range(d):
                            gap = np.float64(own[a, q]) - np.float64(others[b, q])
                            totals[place, q] += np.float64(quotient) * gap
                        continue
                    polar(own, a, others, b, u)
                    for q in range(d):
                        if u[q] != 0.0:
                            totals[place, q] += np.float64(weight) * u[q]
                if moves is not None:
                    one, other = polar(own, a, others, b, u)
                    along = 0.0
                    for q in range(d):
                        along += (np.float64(own_moves[a, q]) - np.float64(other_moves[b, q])) * u[q]
                    for q in range(d):
                        across = (np.float64(own_moves[a, q]) - np.float64(other_moves[b, q])) - along * u[q]
                        if one > 0.0 and weight != 0.0 and across != 0.0:
                            totals[place, q] += np.float64(weight) * across / one / other
        if out is not None:
            for q in range(d):
                out[i, q] = totals[0, q]
