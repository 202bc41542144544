"""Numba kernels of small problems: all float64 distances, or one product and the distances it leaves open.

Both list, row by row, the k + 1 first centres by (D^, index), drawn from a tournament. What is NaN, infinite or
overflows enters no list: it is farther than all below 2^1000, and so must the k-th be where a row is `clear`. A row is
if it lists k or more and the error intervals (`bounds.DistanceBound`) of its list are disjoint, or if its distances are
integers that float64 holds: then equal means tied.

The product's scores s = <x, c> - |c|^2 / 2 are off by at most E = g (|x| C + C^2) + tiny, with C the largest norm of a
centre and g = gamma(d + 8) in float32: gamma(d) |x| |c| for the product in any order (Higham, section 3.1), one
rounding of |c|^2 / 2 and one of the difference. So a centre that scores 2 E less than the k-th best is farther than k
others. The tournament's keys are -s.
"""

from __future__ import annotations

import numpy as np

from janelia_core.ml._knn.small.tournament import lowest, play, rounds_of, winner, withdraw
from janelia_core.ml._runtime.arrays import B8, F32, F64, I64, Reals
from janelia_core.ml._runtime.jit import jit
from janelia_core.ml._simd.row_sums import squared_distance

_LARGEST, _MOST = 2.0**20, 1 << 10  # so many whole coordinates up to so much: squared distances stay below 2^53
TINY = 2.0**-70  # a coordinate: what underflows or is flushed to zero, of points whose squared norm is below 2^100
HUGE = 2.0**100
FAR = 2.0**1000


@jit
def is_whole(values: Reals) -> bool:
    """Whether all squared distances between such points are integers that float64 holds."""
    if values.shape[1] > _MOST:
        return False
    for i in range(values.shape[0]):
        for q in range(values.shape[1]):
            value = np.float64(values[i, q])
            if not (np.floor(value) == value and abs(value) <= _LARGEST):
                return False
    return True


@jit
def insert(far: float, j: int, n: int, best: F64, ids: I64) -> int:
    """Puts (far, j) into lists that hold n entries in order; returns how many they hold then."""
    place = n
    if n == best.shape[0]:
        place = n - 1
        if not (far < best[place] or (far == best[place] and j < ids[place])):
            return n
    while place > 0 and (far < best[place - 1] or (far == best[place - 1] and j < ids[place - 1])):
        best[place], ids[place] = best[place - 1], ids[place - 1]
        place -= 1
    best[place], ids[place] = far, j
    return min(n + 1, len(best))


@jit
def gaps_are_clear(n: int, best: F64, relative: float, absolute: float) -> bool:
    """Whether the error intervals of a list's n entries are disjoint."""
    clear = True
    for place in range(1, n):
        clear &= best[place] * (1.0 - relative) - absolute > best[place - 1] * (1.0 + relative) + absolute
    return clear


@jit
def nearest_directly(x: Reals, ctrs: Reals, relative: float, absolute: float, indices: I64, clear: B8) -> None:
    """Searches rows x (n, d) by all float64 distances: indices (k, n) are written where a row is clear (n,).

    Rows and centres are in C order, both float32 or both float64; relative and absolute are those of `DistanceBound`.
    """
    n_ctrs, d = ctrs.shape
    k = indices.shape[0]
    columns = np.empty((d, n_ctrs))
    for j in range(n_ctrs):
        for q in range(d):
            columns[q, j] = ctrs[j, q]
    whole = is_whole(x) and is_whole(ctrs)
    starts = rounds_of(n_ctrs)
    keys = np.full(starts[-1], np.inf)
    best, ids = np.empty(min(k + 1, n_ctrs)), np.empty(min(k + 1, n_ctrs), np.int64)
    for i in range(x.shape[0]):
        fill_distances(x, i, columns, keys)
        play(keys, starts)
        n = 0
        while n < best.shape[0]:
            best[n] = lowest(keys, starts)
            if best[n] == np.inf:
                break
            n += 1
            if n <= k:  # of the one after the k-th, only the distance matters
                ids[n - 1] = winner(keys, starts)
                withdraw(keys, starts, ids[n - 1])
        clear[i] = n >= k and best[k - 1] < FAR and (whole or gaps_are_clear(n, best, relative, absolute))
        if clear[i]:
            for place in range(k):
                indices[place, i] = ids[place]


@jit
def fill_distances(x: Reals, i: int, columns: F64, far: F64) -> None:
    """Writes the squared distances between row i and centres (d, n_ctrs) to far, inf for NaN."""
    n_ctrs = columns.shape[1]
    at = np.float64(x[i, 0])
    for j in range(n_ctrs):
        gap = at - columns[0, j]
        far[j] = gap * gap
    for q in range(1, columns.shape[0]):
        at = np.float64(x[i, q])
        for j in range(n_ctrs):
            gap = at - columns[q, j]
            far[j] += gap * gap
    for j in range(n_ctrs):
        far[j] = far[j] if far[j] < np.inf else np.inf


@jit
def nearest_by_product(
    x: F32, ctrs: F32, product: F32, g: float, relative: float, absolute: float, indices: I64, clear: B8
) -> None:
    """Searches by scores, and by the float64 distances of the centres that those leave open, as `nearest_directly`.

    product (n, n_ctrs) is x times ctrs transposed, off by g as above.
    """
    n_ctrs, d = ctrs.shape
    k = indices.shape[0]
    half, largest, finite = halved_squares(ctrs)
    reach = np.sqrt(largest)
    whole = is_whole(x) and is_whole(ctrs)
    starts = rounds_of(n_ctrs)
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
        play(keys, starts)
        error = g * (np.sqrt(square) * reach + largest) * (1.0 + 2.0**-20) + (d + 4) * TINY
        n, limit = 0, np.inf
        for drawn in range(n_ctrs):
            j = winner(keys, starts)
            key = np.float64(keys[j])
            if drawn == k - 1:
                limit = key + 2.0 * error
            if key > limit:
                break
            n = insert(squared_distance(x, i, ctrs, j), j, n, best, ids)
            withdraw(keys, starts, j)
        clear[i] = n >= k and (whole or gaps_are_clear(n, best, relative, absolute))
        if clear[i]:
            for place in range(k):
                indices[place, i] = ids[place]


@jit
def halved_squares(ctrs: F32) -> tuple[F32, float, bool]:
    """Returns |c|^2 / 2 (n_ctrs,), the largest |c|^2, and whether all are finite."""
    half = np.empty(ctrs.shape[0], np.float32)
    largest, finite = 0.0, True
    for j in range(ctrs.shape[0]):
        square = 0.0
        for q in range(ctrs.shape[1]):
            square += np.float64(ctrs[j, q]) * np.float64(ctrs[j, q])
        half[j] = np.float32(0.5 * square)
        largest = max(largest, square)
        finite &= np.isfinite(square)
    return half, largest, finite
