"""Numba kernels that build the tree: median splits in place, leaves transposed in place, copies thinned.

All release the GIL and none starts a thread: subtrees are disjoint, so the caller's threads build them at
once.
"""

from typing import NamedTuple

import numpy as np

from janelia_core.ml._runtime.arrays import F32, F64, I32, I64
from janelia_core.ml._runtime.jit import jit_with
from janelia_core.ml._simd.packet_keys import LEAF, NO_ID

STACK = 96  # a depth-first walk holds at most one node a level; a tree over 2^31 centres has 28 levels
SAMPLE = 63


class Tree(NamedTuple):
    """A balanced box tree over centres, nodes in preorder: the left child of node i is i + 1.

    A node of m leaves has (m + 1) // 2 of them in its left child; so the right child is
    i + 2 * ((m + 1) // 2). Every leaf but the last is full.

    Attributes:
        z: (n_leaves * d * LEAF,) coordinates: leaf by leaf, coordinate by coordinate; NaN in unused lanes.
        ids: (n_leaves * LEAF,) positions among the centres; NO_ID after the last.
        boxes: (n_nodes * d * 2,) lo, hi of each coordinate.
        first: (n_nodes,) first leaf of a node.
        span: (n_nodes,) number of leaves below an inner node; number of leaves to scan where `axis` is -1.
        axis: (n_nodes,) coordinate in which an inner node was split; -1 for a leaf or a pile of identical
            points.
        at: (n_nodes,) where an inner node was split.
        lowest: (n_nodes,) lowest id below a node.
    """

    z: F32
    ids: I32
    boxes: F32
    first: I32
    span: I32
    axis: I32
    at: F32
    lowest: I32


kernel = jit_with(error_model="numpy")


@kernel
def _pivot(rows: F32, lo: int, hi: int, nth: int, d: int, axis: int, sample: F32) -> float:
    """Guess the nth value of rows lo .. hi from a small sorted sample, one value a stratum."""
    count = hi - lo + 1
    size = 5 if count < 256 else (15 if count < 8192 else SAMPLE)
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
def _select(rows: F32, ids: I32, lo: int, hi: int, nth: int, d: int, axis: int, sample: F32) -> None:
    """Partition rows lo .. hi (inclusive) so that none before nth is above it and none after it below."""
    while hi > lo:
        pivot = _pivot(rows, lo, hi, nth, d, axis, sample)
        i, j = lo, hi
        while i <= j:  # the pivot is a value of the range: both scans stop, and i, j move at least once
            while rows[i * d + axis] < pivot:
                i += 1
            while rows[j * d + axis] > pivot:
                j -= 1
            if i <= j:
                ids[i], ids[j] = ids[j], ids[i]
                for q in range(d):
                    rows[i * d + q], rows[j * d + q] = rows[j * d + q], rows[i * d + q]
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
def split(tree: Tree, node: int, first: int, span: int, n: int, d: int, sample: F32) -> bool:
    """Bound a node and partition its rows between two children; return False at a leaf or a single point."""
    z, ids, boxes = tree.z, tree.ids, tree.boxes
    start, stop = first * LEAF, min((first + span) * LEAF, n)
    axis = _bound(z, start, stop, d, boxes, node * 2 * d)
    tree.first[node], tree.span[node], tree.axis[node] = first, span, -1
    if span == 1 or axis < 0:
        return False
    middle = (first + (span + 1) // 2) * LEAF
    _select(z, ids, start, stop - 1, middle, d, axis, sample)
    tree.axis[node], tree.at[node] = axis, z[middle * d + axis]
    return True


@kernel
def _front(ids: I32 | I64, lo: int, hi: int, nth: int) -> None:
    """Partition ids lo .. hi (inclusive, all different) so that the lowest come before position nth."""
    while hi > lo:
        pivot = ids[(lo + hi) // 2]
        i, j = lo, hi
        while i <= j:
            while ids[i] < pivot:
                i += 1
            while ids[j] > pivot:
                j -= 1
            if i <= j:
                ids[i], ids[j] = ids[j], ids[i]
                i += 1
                j -= 1
        if nth <= j:
            hi = j
        elif nth >= i:
            lo = i
        else:
            return


@kernel
def _identical(raw: F64, a: int, b: int) -> bool:
    """Tell whether centres with equal float32 coordinates are equal; raw is empty if those are the values."""
    if raw.shape[0] == 0:
        return True
    for q in range(raw.shape[1]):  # noqa: SIM110 - Numba knows no all()
        if raw[a, q] != raw[b, q]:
            return False
    return True


@kernel
def _pack(tree: Tree, node: int, n: int, d: int, keep: int, raw: F64, column: F32) -> None:
    """Transpose a leaf. Of a pile of identical points, only the `keep` lowest ids are left to scan."""
    z, ids = tree.z, tree.ids
    first, span = tree.first[node], tree.span[node]
    start, stop = first * LEAF, min((first + span) * LEAF, n)
    if span > 1 and stop - start > keep:
        same = True
        for row in range(start + 1, stop):
            same = same and _identical(raw, ids[start], ids[row])
        if same:
            _front(ids, start, stop - 1, start + keep)
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
def build_below(tree: Tree, node: int, first: int, span: int, n: int, d: int, keep: int, raw: F64) -> None:
    """Build the subtree of `span` leaves that starts at leaf `first`."""
    stack = np.empty((STACK, 3), np.int64)
    column, sample = np.empty(LEAF * d, np.float32), np.empty(SAMPLE, np.float32)
    stack[0, 0], stack[0, 1], stack[0, 2] = node, first, span
    top = 1
    while top > 0:
        top -= 1
        node, first, span = stack[top, 0], stack[top, 1], stack[top, 2]
        if split(tree, node, first, span, n, d, sample):
            left = (span + 1) // 2
            stack[top, 0], stack[top, 1], stack[top, 2] = node + 2 * left, first + left, span - left
            stack[top + 1, 0], stack[top + 1, 1], stack[top + 1, 2] = node + 1, first, left
            top += 2
        else:
            _pack(tree, node, n, d, keep, raw, column)


@kernel
def _covers(boxes: F32, node: int, pile: int, d: int) -> bool:
    """Tell whether the box of a node contains the single point that is the box of `pile`."""
    for q in range(d):
        point = boxes[(pile * d + q) * 2]
        if point < boxes[(node * d + q) * 2] or point > boxes[(node * d + q) * 2 + 1]:
            return False
    return True


@kernel
def _is_point(boxes: F32, node: int, d: int) -> bool:
    """Tell whether a box is a single point."""
    for q in range(d):  # noqa: SIM110
        if boxes[(node * d + q) * 2] != boxes[(node * d + q) * 2 + 1]:
            return False
    return True


@kernel
def _copies(tree: Tree, pile: int, n: int, d: int, raw: F64, found: I64, stack: I64) -> int:
    """Write the positions of scanned copies of a pile's point; 0 if a pile before has the same point."""
    z, ids, boxes, axis, span = tree.z, tree.ids, tree.boxes, tree.axis, tree.span
    point = tree.first[pile] * LEAF
    stack[0], top, count = 0, 1, 0
    while top > 0:
        top -= 1
        node = stack[top]
        if not _covers(boxes, node, pile, d):
            continue
        if axis[node] >= 0:
            stack[top], stack[top + 1] = node + 2 * ((span[node] + 1) // 2), node + 1
            top += 2
            continue
        first = tree.first[node]
        if node < pile and _covers(boxes, pile, node, d) and _identical(raw, ids[point], ids[first * LEAF]):
            return 0
        for position in range(first * LEAF, min((first + span[node]) * LEAF, n)):
            same = True
            for q in range(d):
                cell = (position // LEAF * d + q) * LEAF + position % LEAF
                same = same and z[cell] == boxes[(pile * d + q) * 2]
            if same and count < found.shape[0] and _identical(raw, ids[point], ids[position]):
                found[count] = np.int64(ids[position]) << 32 | position
                count += 1
    return count


@kernel
def thin(tree: Tree, n: int, d: int, keep: int, raw: F64) -> None:
    """Drop copies that cannot be answered: those with `keep` identical centres of lower id.

    Starts from the leaves that are one point, which a point with many copies nearly always has. Spare copies
    of a point without such a leaf cost time and may cost a certificate, never an answer.
    """
    z, boxes, axis = tree.z, tree.boxes, tree.axis
    stack = np.empty(STACK, np.int64)
    found = np.empty(0, np.int64)
    for node in range(axis.shape[0]):
        if axis[node] != -1 or not _is_point(boxes, node, d):
            continue
        if found.shape[0] == 0:
            found = np.empty(min(n, 64 * (keep + LEAF)), np.int64)
        count = _copies(tree, node, n, d, raw, found, stack)
        if count > keep:
            _front(found, 0, count - 1, keep)
            for drop in range(keep, count):
                position = found[drop] & NO_ID
                z[position // LEAF * d * LEAF + position % LEAF] = np.float32(np.nan)


@kernel
def note_lowest(tree: Tree, n: int, d: int) -> int:
    """Write the lowest id below every node, children first, and return the number of points left to scan."""
    z, ids, first, span, axis, lowest = tree.z, tree.ids, tree.first, tree.span, tree.axis, tree.lowest
    live = 0
    for node in range(axis.shape[0] - 1, -1, -1):
        if axis[node] == -1:
            least = NO_ID
            for position in range(first[node] * LEAF, min((first[node] + span[node]) * LEAF, n)):
                cell = position // LEAF * d * LEAF + position % LEAF
                if z[cell] == z[cell]:
                    live += 1
                    least = min(least, ids[position])
            lowest[node] = least
        elif axis[node] >= 0:
            lowest[node] = min(lowest[node + 1], lowest[node + 2 * ((span[node] + 1) // 2)])
    return live
