"""Numba kernels that part rows at their nth value of a coordinate, in place; hardly a branch depends on the values."""

from typing import NamedTuple

import numpy as np

from janelia_core.ml._knn.screens.tree.layout import kernel
from janelia_core.ml._runtime.arrays import F32, I32, I64

_SAMPLE = 63
_BLOCK = 32  # rows
_FEW = 256  # rows whose values are copied to find the nth


class Scratch(NamedTuple):
    """Room for what a partition notes.

    Attributes:
        sample: A few values.
        off: Which rows change sides.
        keys: Values of a few rows.
        below: Those of them below a pivot.
        above: Those above.
    """

    sample: F32
    off: I64
    keys: F32
    below: F32
    above: F32


@kernel
def new_scratch() -> Scratch:
    """Return some."""
    keys, below, above = np.empty(_FEW, np.float32), np.empty(_FEW + 1, np.float32), np.empty(_FEW + 1, np.float32)
    return Scratch(np.empty(_SAMPLE, np.float32), np.empty(2 * _FEW + 2, np.int64), keys, below, above)


@kernel
def _pivot(rows: F32, lo: int, hi: int, nth: int, d: int, axis: int, sample: F32) -> float:
    """Guess the nth value of rows lo .. hi from a small sorted sample, one value a stratum."""
    count = hi - lo + 1
    size = 5 if count < 256 else (15 if count < 8192 else _SAMPLE)
    for s in range(size):
        scatter = ((s * 2654435761 + count) & 1023) / 1024.0
        value = rows[(lo + int((s + scatter) * count / size)) * d + axis]
        t = s
        while t > 0 and sample[t - 1] > value:
            sample[t] = sample[t - 1]
            t -= 1
        sample[t] = value
    return float(sample[int((nth - lo) * size / count)])


@kernel
def _swap(rows: F32, ids: I32, i: int, j: int, d: int) -> None:
    ids[i], ids[j] = ids[j], ids[i]
    for q in range(d):
        rows[i * d + q], rows[j * d + q] = rows[j * d + q], rows[i * d + q]


@kernel
def _exchange_blocks(
    rows: F32, ids: I32, i: int, j: int, d: int, axis: int, pivot: np.float32, off: I64
) -> tuple[int, int]:
    """Partition rows i .. j from both ends by blocks, and return what is left: fewer than two blocks, or one begun.

    Which rows of a block are on the wrong side of the pivot is noted without a branch that a processor could guess
    wrong (S. Edelkamp, A. Weiss, BlockQuicksort, ESA 2016). Rows that equal the pivot change sides, as in a scan.
    """
    above, below, next_above, next_below = 0, 0, 0, 0
    while j - i + 1 >= 2 * _BLOCK:
        if above == next_above:
            above, next_above = 0, 0
            for t in range(_BLOCK):
                off[above] = t
                above += rows[(i + t) * d + axis] >= pivot
        if below == next_below:
            below, next_below = 0, 0
            for t in range(_BLOCK):
                off[_BLOCK + below] = t
                below += rows[(j - t) * d + axis] <= pivot
        pairs = min(above - next_above, below - next_below)
        for t in range(pairs):
            _swap(rows, ids, i + off[next_above + t], j - off[_BLOCK + next_below + t], d)
        next_above += pairs
        next_below += pairs
        if above == next_above:
            i += _BLOCK
        if below == next_below:
            j -= _BLOCK
    return i, j


@kernel
def _nth(keys: F32, n: int, nth: int, below: F32, above: F32) -> np.float32:
    """Return the nth of n keys in ascending order. Every key is copied to both sides of a pivot; one of them counts."""
    source, spare = keys, above
    while True:
        a, b, c = source[0], source[n // 2], source[n - 1]
        pivot: np.float32 = max(min(a, b), min(max(a, b), c))
        less, more = 0, 0
        for t in range(n):
            key = source[t]
            below[less], spare[more] = key, key
            less += key < pivot
            more += key > pivot
        if nth < less:
            n, source = less, below
        elif nth >= n - more:
            nth, n = nth - (n - more), more
            source, below, spare = spare, spare, below
        else:
            return pivot


@kernel
def _select_few(rows: F32, ids: I32, lo: int, n: int, nth: int, d: int, axis: int, scratch: Scratch) -> None:
    """Partition n <= _FEW rows from lo on, as `select`: find the nth value first, then let rows change sides."""
    keys, off, less, ties, above, below = scratch.keys, scratch.off, 0, 0, 0, 0
    for t in range(n):
        keys[t] = rows[(lo + t) * d + axis]
    pivot = _nth(keys, n, nth, scratch.below, scratch.above)
    for t in range(n):
        less += keys[t] < pivot
    for t in range(nth):  # of rows that equal the pivot, the first so many stay before it
        tie = keys[t] == pivot
        off[above] = t
        above += not (keys[t] < pivot or (tie and ties < nth - less))
        ties += tie
    for t in range(nth, n):
        tie = keys[t] == pivot
        off[_FEW + 1 + below] = t
        below += keys[t] < pivot or (tie and ties < nth - less)
        ties += tie
    for t in range(above):
        _swap(rows, ids, lo + off[t], lo + off[_FEW + 1 + t], d)
    own = lo + nth
    while rows[own * d + axis] != pivot:
        own += 1
    _swap(rows, ids, lo + nth, own, d)


@kernel
def select(rows: F32, ids: I32, lo: int, hi: int, nth: int, d: int, axis: int, scratch: Scratch) -> None:
    """Partition rows lo .. hi (inclusive) so that none before nth is above it and none after it below."""
    while hi > lo:
        if hi - lo < _FEW:
            _select_few(rows, ids, lo, hi - lo + 1, nth - lo, d, axis, scratch)
            return
        pivot = np.float32(_pivot(rows, lo, hi, nth, d, axis, scratch.sample))
        # The pivot is a value of the range, and whoever changes sides stops a scan as well: neither leaves the range,
        # and i, j move at least once.
        i, j = _exchange_blocks(rows, ids, lo, hi, d, axis, pivot, scratch.off)
        while i <= j:
            while rows[i * d + axis] < pivot:
                i += 1
            while rows[j * d + axis] > pivot:
                j -= 1
            if i <= j:
                _swap(rows, ids, i, j, d)
                i += 1
                j -= 1
        if nth <= j:
            hi = j
        elif nth >= i:
            lo = i
        else:
            return
