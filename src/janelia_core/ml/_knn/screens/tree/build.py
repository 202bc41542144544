"""Numba kernels that build the tree: median splits in place, leaves transposed in place.

All release the GIL and none starts a thread: subtrees are disjoint, so the caller's threads build them at
once.
"""

from typing import NamedTuple

import numpy as np

from janelia_core.ml._knn.screens.tree.layout import STACK, Boxes, kernel, right_child
from janelia_core.ml._knn.screens.tree.thin import are_identical, lowest_first
from janelia_core.ml._runtime.arrays import F32, F64, I32, I64
from janelia_core.ml._simd.packet_keys import LEAF

_SAMPLE = 63
_BLOCK = 32  # rows


class Scratch(NamedTuple):
    """Room for what a partition notes: a sample of values, and who of two blocks of rows changes sides."""

    sample: F32
    off: I64


@kernel
def _scratch() -> Scratch:
    return Scratch(np.empty(_SAMPLE, np.float32), np.empty(2 * _BLOCK, np.int64))


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
def _select(rows: F32, ids: I32, lo: int, hi: int, nth: int, d: int, axis: int, scratch: Scratch) -> None:
    """Partition rows lo .. hi (inclusive) so that none before nth is above it and none after it below."""
    while hi > lo:
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


@kernel
def _bound(rows: F32, start: int, stop: int, d: int, boxes: F32, base: int) -> int:
    """Write the box of rows start .. stop-1, and return its widest coordinate, or -1 if it is one point."""
    axis, width = -1, np.float32(0.0)
    for q in range(d):
        lo = rows[start * d + q]
        hi = lo
        for row in range(start + 1, stop):
            lo = min(lo, rows[row * d + q])
            hi = max(hi, rows[row * d + q])
        boxes[base + 2 * q], boxes[base + 2 * q + 1] = lo, hi
        # hi - lo may underflow to 0 where subnormals are flushed: compare the ends as well
        if hi - lo > width or (axis < 0 and hi > lo):
            axis, width = q, hi - lo
    return axis


@kernel
def split(tree: Boxes, node: int, first: int, span: int, scratch: Scratch) -> bool:
    """Bound a node and partition its rows between two children; return False at a leaf or a single point."""
    z, ids, d = tree.z, tree.ids, tree.d
    start, stop = first * LEAF, min((first + span) * LEAF, tree.n)
    axis = _bound(z, start, stop, d, tree.boxes, node * 2 * d)
    tree.first[node], tree.span[node], tree.axis[node] = first, span, -1
    if span == 1 or axis < 0:
        return False
    middle = (first + (span + 1) // 2) * LEAF
    _select(z, ids, start, stop - 1, middle, d, axis, scratch)
    tree.axis[node], tree.at[node] = axis, z[middle * d + axis]
    return True


@kernel
def _pack(tree: Boxes, node: int, keep: int, raw: F64, column: F32) -> None:
    """Transpose a leaf. Of a pile of identical points, only the `keep` lowest ids are left to scan."""
    z, ids, d = tree.z, tree.ids, tree.d
    first, span = tree.first[node], tree.span[node]
    start, stop = first * LEAF, min((first + span) * LEAF, tree.n)
    if span > 1 and stop - start > keep:
        same = True
        for row in range(start + 1, stop):
            same = same and are_identical(raw, ids[start], ids[row])
        if same:
            lowest_first(ids, start, stop - 1, start + keep)
            stop = start + keep
            tree.span[node] = (keep + LEAF - 1) // LEAF
    for leaf in range(first, first + tree.span[node]):
        base = leaf * LEAF * d
        used = min(LEAF, stop - leaf * LEAF)
        for cell in range(used * d):
            column[cell] = z[base + cell]
        for q in range(d):
            for t in range(LEAF):
                z[base + q * LEAF + t] = column[t * d + q] if t < used else np.float32(np.nan)


@kernel
def split_alone(tree: Boxes, node: int, first: int, span: int) -> bool:
    """Split as `split`."""
    return bool(split(tree, node, first, span, _scratch()))


@kernel
def build_below(tree: Boxes, node: int, first: int, span: int, keep: int, raw: F64) -> None:
    """Build the subtree of `span` leaves that starts at leaf `first`."""
    stack = np.empty((STACK, 3), np.int64)
    column, scratch = np.empty(LEAF * tree.d, np.float32), _scratch()
    stack[0, 0], stack[0, 1], stack[0, 2] = node, first, span
    top = 1
    while top > 0:
        top -= 1
        node, first, span = stack[top, 0], stack[top, 1], stack[top, 2]
        if split(tree, node, first, span, scratch):
            left = (span + 1) // 2
            stack[top, 0], stack[top, 1], stack[top, 2] = right_child(node, span), first + left, span - left
            stack[top + 1, 0], stack[top + 1, 1], stack[top + 1, 2] = node + 1, first, left
            top += 2
        else:
            _pack(tree, node, keep, raw, column)
