"""Numba kernels of small problems: all float64 distances, or one product and the distances it leaves open.

Both keep, row by row, the k + 1 first centres by (D^, index): centres come in ascending order, and a later one must be
strictly nearer to displace an earlier one. What is NaN, infinite or overflows enters no list: it is farther than all
that do. A row is `clear` if it lists k or more and the error intervals (`bounds.DistanceBound`) of its list are
disjoint, or if its distances are integers that float64 holds: then equal means tied.

The product's scores s = <x, c> - |c|^2 / 2 are off by at most E = g (|x| C + C^2) + tiny, with C the largest norm of a
centre and g = gamma(d + 8) in float32: gamma(d) |x| |c| for the product in any order (Higham, section 3.1), one
rounding of |c|^2 / 2 and one of the difference. So a centre that scores 2 E less than the k-th best is farther than k
others.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from janelia_core.ml._jit import jit
from janelia_core.ml._knn.float_bits import LANES, first_bit, float32_below, mask_ge
from janelia_core.ml._knn.verify_kernels import CHAINS, squared_distance

_LARGEST, _MOST = 2.0**20, 1 << 10  # so many whole coordinates up to so much: squared distances stay below 2^53
_TINY = 2.0**-70  # a coordinate: what underflows or is flushed to zero, of points whose squared norm is below 2^100
_HUGE = 2.0**100


@jit
def is_whole(values: Any) -> Any:
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
def insert(far: float, j: int, n: int, best: Any, ids: Any) -> Any:
    """Puts (far, j) behind all that are as near, into lists that hold n; returns how many they hold then."""
    place = n
    if n == best.shape[0]:
        if not far < best[n - 1]:
            return n
        place = n - 1
    while place > 0 and far < best[place - 1]:
        best[place], ids[place] = best[place - 1], ids[place - 1]
        place -= 1
    best[place], ids[place] = far, j
    return min(n + 1, best.shape[0])


@jit
def gaps_are_clear(n: int, best: Any, relative: float, absolute: float) -> Any:
    """Whether the error intervals of a list's n entries are disjoint."""
    clear = True
    for place in range(1, n):
        clear &= best[place] * (1.0 - relative) - absolute > best[place - 1] * (1.0 + relative) + absolute
    return clear


@jit
def nearest_directly(x: Any, ctrs: Any, relative: float, absolute: float, indices: Any, clear: Any) -> None:
    """Searches by all float64 distances.

    Args:
        x: (n, d) rows; ctrs: (n_ctrs, d) centres; both float32 or both float64, C order.
        ctrs: See x.
        relative: Of `DistanceBound`; absolute likewise.
        absolute: See relative.
        indices: (k, n) int64, written where a row is clear.
        clear: (n,) bool, written.
    """
    n_ctrs, d = ctrs.shape
    k = indices.shape[0]
    columns = np.zeros((d, n_ctrs + LANES), ctrs.dtype)  # what lies behind the last centre is computed, never read
    for j in range(n_ctrs):
        for q in range(d):
            columns[q, j] = ctrs[j, q]
    whole = is_whole(x) and is_whole(ctrs)
    far = np.empty(LANES)
    best, ids = np.empty(min(k + 1, n_ctrs)), np.empty(min(k + 1, n_ctrs), np.int64)
    for i in range(x.shape[0]):
        n, worst = 0, np.inf
        for start in range(0, n_ctrs, LANES):
            far[:] = 0.0
            for q in range(d):
                at, column = np.float64(x[i, q]), columns[q, start : start + LANES]
                for j in range(LANES):
                    gap = at - np.float64(column[j])
                    far[j] += gap * gap
            for j in range(min(LANES, n_ctrs - start)):
                if far[j] < worst:
                    n = insert(far[j], start + j, n, best, ids)
                    if n == best.shape[0]:
                        worst = best[n - 1]
        clear[i] = n >= k and (whole or gaps_are_clear(n, best, relative, absolute))
        if clear[i]:
            indices[:, i] = ids[:k]


@jit
def kth_score(score: Any, top: Any) -> Any:
    """Returns the k-th largest of float32 scores, of which there are a multiple of LANES; top (k,) is scratch."""
    k = top.shape[0]
    top[:] = np.float32(-np.inf)
    for start in range(0, score.shape[0], LANES):
        mask = mask_ge(score, start, top[k - 1])
        while mask != 0:
            value = score[start + first_bit(mask)]
            mask &= mask - np.uint64(1)
            if value > top[k - 1]:
                place = k - 1
                while place > 0 and value > top[place - 1]:
                    top[place] = top[place - 1]
                    place -= 1
                top[place] = value
    return top[k - 1]


@jit
def nearest_by_product(
    x: Any, ctrs: Any, product: Any, g: float, relative: float, absolute: float, indices: Any, clear: Any
) -> None:
    """Searches by scores, and by the float64 distances of the centres that those leave open.

    Args:
        x: (n, d) float32, C order; ctrs: (n_ctrs, d) likewise.
        ctrs: See x.
        product: (n, n_ctrs) float32, x times ctrs transposed.
        g: As above.
        relative: As for `nearest_directly`, as for the rest.
        absolute: See there.
        indices: See there.
        clear: See there.
    """
    n_ctrs, d = ctrs.shape
    k = indices.shape[0]
    half, largest, finite = halved_squares(ctrs)
    reach = np.sqrt(largest)
    whole = is_whole(x) and is_whole(ctrs)
    score = np.full(n_ctrs + (-n_ctrs) % LANES, -np.inf, np.float32)
    sums, top = np.zeros(CHAINS), np.empty(k, np.float32)
    best, ids = np.empty(min(k + 1, n_ctrs)), np.empty(min(k + 1, n_ctrs), np.int64)
    for i in range(x.shape[0]):
        square = 0.0
        for q in range(d):
            square += np.float64(x[i, q]) * np.float64(x[i, q])
        if not (finite and max(square, largest) < _HUGE):
            clear[i] = False
            continue
        for j in range(n_ctrs):
            score[j] = product[i, j] - half[j]
        error = g * (np.sqrt(square) * reach + largest) * (1.0 + 2.0**-20) + (d + 4) * _TINY
        least = float32_below(np.float64(kth_score(score, top)) - 2.0 * error)
        n = 0
        for start in range(0, score.shape[0], LANES):
            mask = mask_ge(score, start, least)
            while mask != 0:
                j = start + first_bit(mask)
                mask &= mask - np.uint64(1)
                n = insert(squared_distance(x[i], ctrs[j], sums), j, n, best, ids)
        clear[i] = n >= k and (whole or gaps_are_clear(n, best, relative, absolute))
        if clear[i]:
            indices[:, i] = ids[:k]


@jit
def halved_squares(ctrs: Any) -> Any:
    """Returns |c|^2 / 2 (n_ctrs,) in float32, the largest |c|^2, and whether all are finite."""
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
