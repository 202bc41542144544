"""Numba kernels of verification: float64 distances of listed centres, by differences, and their order.

D is summed as (x - c)^2 term by term, never expanded. Each term carries at most three roundings of 2^-53
(none in the difference of float32 values that lie within 29 binades) and each sum of d terms, whatever its
order, d - 1 more: the relative error is at most (d + 2) 2^-53, see bounds.py. Several accumulators only
change that order.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from janelia_core.ml._jit import jit
from janelia_core.ml._knn.row_sums import squared_distance


@jit
def precedes(far: float, j: int, other: float, other_j: int) -> bool:
    """Whether (far, j) comes before (other, other_j): finite < inf < NaN, ties by index."""
    if far < other:
        return True
    if far == other or (np.isnan(far) and np.isnan(other)):
        return j < other_j
    return bool(np.isnan(other))


@jit
def verify(x: Any, ctrs: Any, listed: Any, distances: Any, indices: Any) -> None:
    """Fills each row with the first of its listed centres, by (squared distance, index).

    Args:
        x: (r, d) rows; ctrs: (n_ctrs, d) centres; C order, any real dtype.
        ctrs: See x.
        listed: (r, w) int64 row numbers of centres, -1 for an empty slot, without duplicates.
        distances: (r, keep) float64, written; NaN where the list is shorter.
        indices: (r, keep) int64, written; -1 where the list is shorter.
    """
    keep = distances.shape[1]
    for i in range(x.shape[0]):
        n = 0
        for slot in range(listed.shape[1]):
            j = listed[i, slot]
            if j < 0:
                continue
            far = squared_distance(x, i, ctrs, j)
            if n == keep and not precedes(far, j, distances[i, n - 1], indices[i, n - 1]):
                continue
            # Insertion keeps the row sorted: lists are short.
            place = min(n, keep - 1)
            while place > 0 and precedes(far, j, distances[i, place - 1], indices[i, place - 1]):
                distances[i, place] = distances[i, place - 1]
                indices[i, place] = indices[i, place - 1]
                place -= 1
            distances[i, place] = far
            indices[i, place] = j
            n = min(n + 1, keep)
        for slot in range(n, keep):
            distances[i, slot] = np.nan
            indices[i, slot] = -1
