"""Rows in doubt: their lists are put in order by float64 order values, as far as these prove it.

With u = 2^-53: a squared distance is off by `bounds.DistanceBound`; an inner product by gamma(d + 4) |x| |c| and what
underflows. On a grid of step g with 4 d (|v| / g)^2 <= 2^53 for all values v nothing rounds: what is equal is a tie.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from janelia_core.ml._knn.metrics.metric import DISTANCE
from janelia_core.ml._runtime.arrays import F32, F64, I32, Reals
from janelia_core.ml._runtime.jit import inlined, jit_with
from janelia_core.ml._simd.row_sums import product, squared_distance


class Wide(NamedTuple):
    """Centres as they are stored, in float64.

    Fields:
        form: `Metric.form`; distances and inner products are resolved.
        ctrs: (n, d).
        sure: (4,): errors of order values, relative to a distance or to the norm of a row, and absolute; up to a
            magnitude of sure[2] values are exact if sure[3] times the row's coordinates are integers.
    """

    form: int
    ctrs: F64
    sure: F64


@inlined
def _is_exact(wide: Wide, x: Reals, row: int) -> bool:
    sure, other = wide.sure, 0
    for q in range(x.shape[1]):
        value = np.float64(x[row, q])
        whole = value * sure[3]
        whole_one = whole == np.floor(whole) and (whole != 0.0 or value == 0.0)
        other += not (whole_one and np.abs(value) <= sure[2])
    return other == 0


@inlined
def _are_identical(ctrs: F64, i: int, j: int) -> bool:
    other = 0
    for q in range(ctrs.shape[1]):
        other += ctrs[i, q] != ctrs[j, q]
    return other == 0


@inlined
def _are_proven(wide: Wide, x: Reals, row: int, n: int, k: int, who: I32, r: int, values: F64) -> bool:
    """Whether the first k of n sorted centres are the answer: gaps are proven, or what they part is the same point.

    What ties with the k-th must be proven to do so, up to the first gap behind it.
    """
    relative, absolute, distance = wide.sure[0], wide.sure[1], wide.form == DISTANCE
    norm = 0.0 if distance else np.sqrt(product(x, row, x, row))
    for slot in range(n - 1):
        here, there = values[slot], values[slot + 1]
        size = here + there if distance else 2.0 * norm
        if there - here > size * relative + 2.0 * absolute:
            if slot + 1 >= k:
                return True
        elif not _are_identical(wide.ctrs, who[slot, r], who[slot + 1, r]):
            return _is_exact(wide, x, row)
    return True


@jit_with(error_model="numpy")
def in_order(wide: Wide, x: Reals, row: int, k: int, floor: float, scores: F32, who: I32, r: int, values: F64) -> bool:
    """Put the list of a row in order, that of lane r, and tell whether its first k are proven to be the answer.

    Args:
        wide: The centres.
        x: Rows as stored.
        row: Which row.
        k: How many are wanted.
        floor: Centres of lower scores are none of them.
        scores: (w, ROWS) in descending order.
        who: (w, ROWS) whose they are; put in order.
        r: See above.
        values: (w,) scratch.
    """
    ctrs, width, n = wide.ctrs, scores.shape[0], 0
    while n < width and scores[n, r] >= floor and who[n, r] >= 0:
        n += 1
    if n < k or (n == width and width < ctrs.shape[0]):
        return False
    for slot in range(n):
        j = who[slot, r]
        value = squared_distance(x, row, ctrs, j) if wide.form == DISTANCE else -product(x, row, ctrs, j)
        s = slot
        while s > 0 and (values[s - 1] > value or (values[s - 1] == value and who[s - 1, r] > j)):
            values[s], who[s, r] = values[s - 1], who[s - 1, r]
            s -= 1
        values[s], who[s, r] = value, j
    return _are_proven(wide, x, row, n, k, who, r, values)
