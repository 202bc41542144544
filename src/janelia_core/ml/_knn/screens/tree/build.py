"""Numba kernels that build the tree: median splits in place, leaves transposed in place.

All release the GIL and none starts a thread: subtrees are disjoint, so the caller's threads build them at
once.
"""

import numpy as np

from janelia_core.ml._knn.screens.tree.layout import STACK, Boxes, kernel, right_child
from janelia_core.ml._knn.screens.tree.select import Scratch, new_scratch, select
from janelia_core.ml._knn.screens.tree.thin import are_identical, lowest_first
from janelia_core.ml._runtime.arrays import F32, F64
from janelia_core.ml._simd.packet_keys import LEAF


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
    select(z, ids, start, stop - 1, middle, d, axis, scratch)
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
    return bool(split(tree, node, first, span, new_scratch()))


@kernel
def build_below(tree: Boxes, node: int, first: int, span: int, keep: int, raw: F64) -> None:
    """Build the subtree of `span` leaves that starts at leaf `first`."""
    stack = np.empty((STACK, 3), np.int64)
    column, scratch = np.empty(LEAF * tree.d, np.float32), new_scratch()
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
