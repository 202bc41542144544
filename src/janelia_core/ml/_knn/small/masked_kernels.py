"""Numba kernels of small problems under a mask: as `kernels`, of the centres that each row may have.

What a row may not have enters no list. A row that may have fewer than k centres lists all of them: then the gaps
between their error intervals alone tell whether it is clear. Bounds are those of `kernels`: the product's 2 E is
measured from the k-th best score of an allowed centre, so a centre that it leaves out is farther than k allowed ones.
"""

from __future__ import annotations

import numpy as np

from janelia_core.ml._knn.small.kernels import (
    FAR,
    HUGE,
    TINY,
    fill_distances,
    gaps_are_clear,
    halved_squares,
    insert,
    is_whole,
)
from janelia_core.ml._knn.small.tournament import play, rounds_of, winner, withdraw
from janelia_core.ml._runtime.arrays import B8, F32, I64, Reals
from janelia_core.ml._runtime.jit import inlined, jit
from janelia_core.ml._simd.row_sums import squared_distance


@inlined
def _deny(allowed: B8, i: int, keys: Reals) -> int:
    """Makes keys inf where row i may not have the centre; returns how many it may have."""
    count, row = 0, np.uint64(i)
    for j in range(np.uint64(allowed.shape[1])):
        may = allowed[row, j]
        keys[j] = keys[j] if may else np.inf
        count += may
    return count


@inlined
def _write(ids: I64, n: int, i: int, indices: I64) -> None:
    """Writes the first n centres of row i, and -1 behind them."""
    for place in range(indices.shape[0]):
        indices[place, i] = ids[place] if place < n else -1


@jit
def allowed_directly(
    x: Reals, ctrs: Reals, allowed: B8, relative: float, absolute: float, indices: I64, clear: B8
) -> None:
    """Searches rows x (n, d) by float64 distances: indices (k, n) are written where a row is clear (n,).

    Rows and centres are in C order, both float32 or both float64; allowed (n, n_ctrs) says what a row may have.
    """
    n_ctrs, d = ctrs.shape
    k = indices.shape[0]
    columns = np.empty((d, n_ctrs))
    for j in range(n_ctrs):
        for q in range(d):
            columns[q, j] = ctrs[j, q]
    whole, starts = is_whole(x) and is_whole(ctrs), rounds_of(n_ctrs)
    keys = np.full(starts[-1], np.inf)
    best, ids = np.empty(min(k + 1, n_ctrs)), np.empty(min(k + 1, n_ctrs), np.int64)
    for i in range(x.shape[0]):
        fill_distances(x, i, columns, keys)
        count = _deny(allowed, i, keys)
        play(keys, starts)
        n = min(count, best.shape[0])
        for place in range(n):
            ids[place] = winner(keys, starts)
            best[place] = keys[ids[place]]
            withdraw(keys, starts, ids[place])
        least = min(count, k)
        near = least == 0 or best[least - 1] < FAR
        clear[i] = near and (whole or gaps_are_clear(n, best, relative, absolute))
        if clear[i]:
            _write(ids, least, i, indices)


@jit
def allowed_by_product(
    x: F32, ctrs: F32, allowed: B8, product: F32, g: float, bound: tuple[float, float], indices: I64, clear: B8
) -> None:
    """Searches by scores, and by the float64 distances of the centres that those leave open, as `allowed_directly`.

    Args:
        x: (n, d) in C order.
        ctrs: (n_ctrs, d) likewise.
        allowed: (n, n_ctrs), which centres a row may have.
        product: (n, n_ctrs), <x, c> in float32.
        g: gamma(d + 8) in float32.
        bound: `bounds.DistanceBound`: (relative, absolute) of a distance.
        indices: (k, n), written where a row is clear.
        clear: (n,), written.
    """
    (n_ctrs, d), k, (relative, absolute) = ctrs.shape, indices.shape[0], bound
    half, largest, finite = halved_squares(ctrs)
    reach, whole, starts = np.sqrt(largest), is_whole(x) and is_whole(ctrs), rounds_of(n_ctrs)
    keys = np.full(starts[-1], np.inf, np.float32)
    best, ids = np.empty(min(k + 1, n_ctrs)), np.empty(min(k + 1, n_ctrs), np.int64)
    for i in range(x.shape[0]):
        square = 0.0
        for q in range(d):
            square += np.float64(x[i, q]) * np.float64(x[i, q])
        if not (finite and max(square, largest) < HUGE):
            clear[i] = False
            continue
        for j in range(n_ctrs):
            keys[j] = half[j] - product[i, j]
        count = _deny(allowed, i, keys)
        play(keys, starts)
        error = g * (np.sqrt(square) * reach + largest) * (1.0 + 2.0**-20) + (d + 4) * TINY
        n, limit = 0, np.inf
        for drawn in range(count):
            j = winner(keys, starts)
            key = np.float64(keys[j])
            if drawn == k - 1:
                limit = key + 2.0 * error
            if key > limit:
                break
            n = insert(squared_distance(x, i, ctrs, j), j, n, best, ids)
            withdraw(keys, starts, j)
        clear[i] = whole or gaps_are_clear(n, best, relative, absolute)
        if clear[i]:
            _write(ids, min(count, k), i, indices)
