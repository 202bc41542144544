"""A Numba kernel that cuts points into runs of near ones, by halving again and again."""

from __future__ import annotations

import numpy as np

from janelia_core.ml._runtime.arrays import F32, I64
from janelia_core.ml._runtime.jit import inlined, jit

_DEPTH = 64  # runs waiting to be halved: one a level, and as many levels as an int64 has bits


@inlined
def _widest(y: F32, ids: I64, start: int, stop: int) -> int:
    """The coordinate in which some points spread most, or -1 where they are one."""
    widest, most = -1, np.float32(0.0)
    for q in range(y.shape[1]):
        low = high = y[ids[start], q]
        for i in range(start + 1, stop):
            low, high = min(low, y[ids[i], q]), max(high, y[ids[i], q])
        if high - low > most:
            widest, most = q, high - low
    return widest


@inlined
def _part(values: F32, ids: I64, start: int, stop: int, middle: int) -> None:
    """Move those of the lowest values before `middle` (Hoare's selection): values and ids from start to stop - 1."""
    low, high = start, stop - 1
    while low < high:
        pivot, i, j = values[(low + high) // 2], low, high
        while i <= j:
            while values[i] < pivot:
                i += 1
            while values[j] > pivot:
                j -= 1
            if i <= j:
                values[i], values[j] = values[j], values[i]
                ids[i], ids[j] = ids[j], ids[i]
                i, j = i + 1, j - 1
        if middle <= j:
            high = j
        elif middle >= i:
            low = i
        else:
            break


@jit
def halve(y: F32, ids: I64, first: int, last: int, run: int) -> None:
    """Put ids[first : last] in such an order that every `run` of them from `first` on are near one another.

    Args:
        y: (n, p) finite points.
        ids: Which of them.
        first: See above.
        last: See above.
        run: See above.
    """
    values, stack, top = np.empty(last, np.float32), np.empty((_DEPTH, 2), np.int64), 1
    stack[0, 0], stack[0, 1] = first, last
    while top > 0:
        top -= 1
        start, stop = stack[top, 0], stack[top, 1]
        if stop - start <= run:
            continue
        axis = _widest(y, ids, start, stop)
        if axis < 0:
            continue
        middle = start + ((stop - start + run - 1) // run + 1) // 2 * run
        for i in range(start, stop):
            values[i] = y[ids[i], axis]
        _part(values, ids, start, stop, middle)
        stack[top, 0], stack[top, 1] = middle, stop
        stack[top + 1, 0], stack[top + 1, 1] = start, middle
        top += 2
