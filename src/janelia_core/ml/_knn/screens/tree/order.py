"""Numba kernels that put rows in order, so that those which share a walk of the tree are near one another."""

import numpy as np

from janelia_core.ml._knn.screens.tree.layout import Boxes, kernel
from janelia_core.ml._runtime.arrays import F32, I8, I32, I64

_BATCH = 8  # rows routed together, so that their chains of loads overlap


@kernel
def halving_axes(tree: Boxes, axes: I8) -> None:
    """Write along which axes (n_leaves, h) each leaf's box is to be halved: always along its widest side then."""
    boxes, first, d = tree.boxes, tree.first, tree.d
    sides = np.empty(d, np.float32)
    for node in range(first.shape[0]):
        if tree.axis[node] != -1:
            continue
        for q in range(d):
            sides[q] = boxes[(node * d + q) * 2 + 1] - boxes[(node * d + q) * 2]
        for halving in range(axes.shape[1]):
            widest = np.argmax(sides)
            axes[first[node], halving] = widest
            sides[widest] *= np.float32(0.5)


@kernel
def route(tree: Boxes, x: F32, axes: I8, cells: I32) -> None:
    """Write the cell in which each row of x (r, d) lies: a leaf's box, halved along its axes (n_leaves, h)."""
    first, span, axis, at, boxes = tree.first, tree.span, tree.axis, tree.at, tree.boxes
    d, halvings = x.shape[1], axes.shape[1]
    nodes = np.empty(_BATCH, np.int64)
    places = np.empty(d, np.float32)
    for row in range(0, x.shape[0], _BATCH):
        used = min(_BATCH, x.shape[0] - row)
        nodes[:] = 0
        moving = True
        while moving:
            moving = False
            for t in range(used):
                node = nodes[t]
                if axis[node] >= 0:
                    moving = True
                    right = np.int64(x[row + t, axis[node]] >= at[node])
                    nodes[t] = node + 1 + right * (2 * ((span[node] + 1) // 2) - 1)
        for t in range(used):
            leaf, box = first[nodes[t]], nodes[t] * 2 * d
            cell = np.int64(leaf)
            for q in range(d if halvings else 0):
                lo, hi = boxes[box + 2 * q], boxes[box + 2 * q + 1]
                places[q] = (x[row + t, q] - lo) / (hi - lo)  # NaN and infinity are as good a place as any
            for halving in range(halvings):
                q = axes[leaf, halving]
                place = places[q] * np.float32(2.0)
                upper = place >= np.float32(1.0)
                places[q] = place - np.float32(upper)
                cell = 2 * cell + upper
            cells[row + t] = cell


@kernel
def order_by_cell(cells: I32, n_cells: int, order: I64) -> None:
    """Counting sort: write the rows in the order of their cells."""
    start = np.zeros(n_cells + 1, np.int32)
    for row in range(cells.shape[0]):
        start[cells[row] + 1] += 1
    for cell in range(n_cells):
        start[cell + 1] += start[cell]
    for row in range(cells.shape[0]):
        cell = cells[row]
        order[start[cell]] = row
        start[cell] += 1
