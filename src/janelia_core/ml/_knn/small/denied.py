"""Numba kernels that deny rows some centres: keys of a block of rows, one a lane, under a mask."""

from __future__ import annotations

import numpy as np

from janelia_core.ml._runtime.arrays import B8, I64, U16, Reals
from janelia_core.ml._runtime.jit import inlined
from janelia_core.ml._simd.lane_keys import deny


@inlined
def bits_of_block(allowed: B8, first: int, stop: int, but_self: bool, words: U16, counts: I64) -> None:
    """Writes, for each centre, a bit for each of rows first .. stop - 1 that may have it, and how many each may have.

    Args:
        allowed: (n, n_ctrs).
        first: See above.
        stop: At most ROWS more.
        but_self: Rows are centres, and may not have themselves.
        words: (n_ctrs,), written.
        counts: (ROWS,), written.
    """
    words[:] = 0
    for lane in range(stop - first):
        i, bit, count = np.uint64(first + lane), np.uint16(1 << lane), 0
        for j in range(np.uint64(words.shape[0])):
            may = allowed[i, j]
            words[j] |= bit if may else np.uint16(0)
            count += may
        if but_self and allowed[i, i]:
            words[i] ^= bit
            count -= 1
        counts[lane] = count


@inlined
def deny_all(words: U16, keys: Reals, least: Reals, groups: int) -> None:
    """Makes keys inf where a row may not have the centre, and writes the least of each group of centres anew."""
    least[:] = np.inf
    group = 0
    for j in range(words.shape[0]):
        deny(keys, words, j, least, group)
        group = group + 1 if group + 1 < groups else 0
