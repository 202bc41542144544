"""Numba kernels that thin copies of a point, of which only those of lowest position can be answered."""

import numpy as np

from janelia_core.ml._knn.screens.tree.layout import STACK, Boxes, cell_of, kernel, right_child
from janelia_core.ml._runtime.arrays import F32, F64, I32, I64
from janelia_core.ml._simd.packet_keys import LEAF, NO_ID


@kernel
def lowest_first(ids: I32 | I64, lo: int, hi: int, nth: int) -> None:
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
def are_identical(raw: F64, a: int, b: int) -> bool:
    """Tell whether centres with equal float32 coordinates are equal; raw is empty if those are the values."""
    if raw.shape[0] == 0:
        return True
    for q in range(raw.shape[1]):  # noqa: SIM110 - Numba knows no all()
        if raw[a, q] != raw[b, q]:
            return False
    return True


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
def _copies(tree: Boxes, pile: int, raw: F64, found: I64, stack: I64) -> int:
    """Write the positions of scanned copies of a pile's point; 0 if a pile before has the same point."""
    z, ids, boxes, axis, span, d = tree.z, tree.ids, tree.boxes, tree.axis, tree.span, tree.d
    point = tree.first[pile] * LEAF
    stack[0], top, count = 0, 1, 0
    while top > 0:
        top -= 1
        node = stack[top]
        if not _covers(boxes, node, pile, d):
            continue
        if axis[node] >= 0:
            stack[top], stack[top + 1] = right_child(node, span[node]), node + 1
            top += 2
            continue
        first = tree.first[node]
        if node < pile and _covers(boxes, pile, node, d) and are_identical(raw, ids[point], ids[first * LEAF]):
            return 0
        for position in range(first * LEAF, min((first + span[node]) * LEAF, tree.n)):
            same, cell = True, cell_of(position, d)
            for q in range(d):
                same = same and z[cell + q * LEAF] == boxes[(pile * d + q) * 2]
            if same and count < found.shape[0] and are_identical(raw, ids[point], ids[position]):
                found[count] = np.int64(ids[position]) << 32 | position
                count += 1
    return count


@kernel
def thin(tree: Boxes, keep: int, raw: F64) -> None:
    """Drop copies that cannot be answered: those with `keep` identical centres of lower id.

    Starts from the leaves that are one point, which a point with many copies nearly always has. Spare copies
    of a point without such a leaf cost time and may cost a certificate, never an answer.
    """
    z, boxes, axis, d = tree.z, tree.boxes, tree.axis, tree.d
    stack = np.empty(STACK, np.int64)
    found = np.empty(0, np.int64)
    for node in range(axis.shape[0]):
        if axis[node] != -1 or not _is_point(boxes, node, d):
            continue
        if found.shape[0] == 0:
            found = np.empty(min(tree.n, 64 * (keep + LEAF)), np.int64)
        count = _copies(tree, node, raw, found, stack)
        if count > keep:
            lowest_first(found, 0, count - 1, keep)
            for drop in range(keep, count):
                for q in range(d):  # the largest of gaps would forget a NaN before others
                    z[cell_of(found[drop] & NO_ID, d) + q * LEAF] = np.float32(np.nan)


@kernel
def has_piles(tree: Boxes, start: int, stop: int) -> bool:
    """Tell whether any of the nodes start .. stop - 1 is a leaf of one point, from which `thin` would start."""
    for node in range(start, stop):  # noqa: SIM110
        if tree.axis[node] == -1 and _is_point(tree.boxes, node, tree.d):
            return True
    return False


@kernel
def note_lowest(tree: Boxes, start: int, stop: int) -> int:
    """Write the lowest id below each of the nodes start .. stop - 1, which are all below the first, or all there are.

    Returns:
        The number of points below them that are left to scan.
    """
    z, ids, first, span, axis, lowest = tree.z, tree.ids, tree.first, tree.span, tree.axis, tree.lowest
    live, d = 0, tree.d
    for node in range(stop - 1, start - 1, -1):
        if axis[node] == -1:
            least = NO_ID
            for leaf in range(first[node], first[node] + span[node]):
                place, cell = leaf * LEAF, leaf * LEAF * d
                for lane in range(LEAF):  # those after the last centre are NaN too
                    is_there = z[cell + lane] == z[cell + lane]
                    live += is_there
                    least = min(least, ids[place + lane] if is_there else NO_ID)
            lowest[node] = least
        elif axis[node] >= 0:
            lowest[node] = min(lowest[node + 1], lowest[right_child(node, span[node])])
    return live
