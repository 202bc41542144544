"""Numba kernels of the sorted screen: which centres of a row may be among its first k."""

from __future__ import annotations

import math

import numpy as np

from janelia_core.ml._runtime.arrays import I32, Reals
from janelia_core.ml._runtime.jit import inlined, jit
from janelia_core.ml._simd.bits import reached_by

SAMPLE = 1024
"""Of the distances of a row, at least half as many and fewer than twice as many tell a limit for all."""
_GROUP = 32
_MOST_RANK = 2**31 - 1


@inlined
def _ranks(bits: Reals, i: int, n: int, step: int, ranks: I32) -> int:
    """Writes the high halves, or all of 32 bits, of every step-th of the first n of row i; returns how many."""
    row, some, away = np.uint64(i), n // step, bits.itemsize * 8 - 32
    for q in range(np.uint64(some)):
        ranks[q] = np.int32(bits[row, q * np.uint64(step)] >> away)
    return some


@jit
def limit_of(bits: Reals, i: int, n: int, k: int, spare: int, ranks: I32) -> int:
    """A value, as bits, that about k + spare of the first n of row i do not exceed; the largest where that is all.

    Args:
        bits: (r, at least n) non-negative distances as integers of as many bits.
        i: The row.
        n: How many distances.
        k: How many must not exceed the limit, nearly always.
        spare: How many more.
        ranks: (2 * SAMPLE + LANES,), scratch.
    """
    step = max(1, n // SAMPLE)
    some = _ranks(bits, i, n, step, ranks)
    wanted = (k + spare) / step
    if step > 1:
        wanted += 3.0 * math.sqrt(wanted) + 1.0
    most = np.int64(_MOST_RANK)
    if wanted < some:
        # by bisection: too few do not exceed `least`, enough do not exceed `most`
        least, enough = np.int64(-1), wanted + wanted / 16
        while most - least > 1:
            middle = (most + least) // 2
            below = some - reached_by(ranks, 0, some, np.int32(middle + 1))
            if below < wanted:
                least = middle
            else:
                most = middle
                if below <= enough:
                    break
    away = bits.itemsize * 8 - 32
    return int((most + 1 << away) - 1)


@jit
def listed(bits: Reals, i: int, n: int, limit: int, ids: I32) -> int:
    """Writes which of the first n of row i do not exceed the limit, ascending; returns how many."""
    row, found, most = np.uint64(i), np.uint64(0), bits.dtype.type(limit)
    whole = n - n % _GROUP
    for group in range(np.uint64(0), np.uint64(whole), np.uint64(_GROUP)):
        hits = 0
        for t in range(np.uint64(_GROUP)):
            hits += bits[row, group + t] <= most
        if hits > 0:
            for t in range(np.uint64(_GROUP)):
                ids[found] = np.int32(group + t)
                found += np.uint64(bits[row, group + t] <= most)
    for t in range(np.uint64(whole), np.uint64(n)):
        ids[found] = np.int32(t)
        found += np.uint64(bits[row, t] <= most)
    return int(found)
