"""A box tree over centres: built once, of the centres alone."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from janelia_core.ml._knn.data.points import Points
from janelia_core.ml._knn.data.single import BLOCK, Lattice, as_float32, is_narrow
from janelia_core.ml._knn.screens.tree import build, thin
from janelia_core.ml._knn.screens.tree import order as tree_order
from janelia_core.ml._knn.screens.tree.layout import Boxes, put, right_child, unbuilt
from janelia_core.ml._runtime.arrays import F64
from janelia_core.ml._runtime.workers import Workers
from janelia_core.ml._simd.packet_keys import LEAF

_ROWS_OF_CELL = 4  # at least, on average, in what a leaf's box is halved to
_SUBTREES = 2  # for each of several workers; the levels above them are split level by level,
_FEWEST_LEAVES = 32  # as long as a part has so many leaves


_FILLED = 1 << 15  # centres put into a tree at a time
_CLASSES = (16, 32)


def copies_for(k: int) -> int:
    """Return how many copies of a point a tree keeps that is to serve more than one k, k at least.

    A row at a pile of copies lists all that were kept, or proves nothing (`TreeScreen`): so they are not many more.
    """
    return next((most for most in _CLASSES if k <= most), max(128, k))


class BoxTree:
    """A balanced box tree, for any number of searches and threads at the same time.

    Args:
        ctrs: Finite centres, any real dtype that float64 holds, CPU, d >= 1. Values of at most 2^55.
        k: How many neighbours will be asked for at most: of identical centres, only the k of lowest position can be
            answered; where they are many, the others are dropped.
        workers: Threads that share the building.

    Attributes:
        boxes: The tree, for kernels.
        live: Centres in it.
        complete: No copy was dropped.
        residual: Bound of the distance between a centre and its float32 coordinates.
        stored: The float32 coordinates are the stored values.
        lattice: On which grids they lie.
        nbytes: What is held.

    Memory:
        4 (d + 1) bytes a centre for coordinates and positions, (8 d + 20) / 8 for nodes.
    """

    def __init__(self, ctrs: Points, k: int, workers: Workers | None = None) -> None:
        workers = workers or Workers(1, pool=False)
        boxes, raw, residual = _filled(ctrs, workers)
        live = _build(boxes, raw, k, workers)
        self._set(ctrs, boxes, k, live, residual)

    def _set(self, ctrs: Points, boxes: Boxes, k: int, live: int, residual: float) -> None:
        self.ctrs, self.k, self.n_ctrs, self.d = ctrs, k, len(ctrs), ctrs.d
        self.boxes, self.live, self.residual, self.stored = boxes, live, residual, residual == 0.0
        self.complete = live == self.n_ctrs
        self.lattice = Lattice(ctrs)
        self.nbytes = sum(array.nbytes for array in boxes if isinstance(array, np.ndarray))

    @classmethod
    def over(cls, ctrs: Points, boxes: Boxes, k: int, live: int, residual: float) -> BoxTree:
        """Return the tree that was built before, of which these are the attributes."""
        tree = cls.__new__(cls)
        tree._set(ctrs, boxes, k, live, residual)
        return tree

    def serves(self, k: int) -> bool:
        """Tell whether k nearest can be asked for: no copy was dropped that could be among them, few that could not."""
        return self.complete or k == self.k or k < self.k <= copies_for(k)

    def order(self, x: Tensor, workers: Workers, is_ctrs: bool = False) -> Tensor:
        """Return the row numbers of x (r, d), (r,) int64, in the order of the cells in which rows lie.

        Where a leaf has many rows, its box is halved until a cell has few: rows that share a walk are near one another.

        is_ctrs tells that x are the centres, which stand in this order already.
        """
        if is_ctrs:
            return torch.from_numpy(self.boxes.ids[: self.n_ctrs].astype(np.int64))
        cells, order = np.empty(len(x), np.int32), np.empty(len(x), np.int64)
        n_leaves = len(self.boxes.ids) // LEAF
        halvings = max(0, (len(x) // (_ROWS_OF_CELL * n_leaves)).bit_length() - 1)
        axes = np.zeros((n_leaves, halvings), np.int8)
        if halvings:
            tree_order.halving_axes(self.boxes, axes)

        def route(start: int) -> None:
            rows = as_float32(x[start : start + BLOCK])[0]
            tree_order.route(self.boxes, rows, axes, cells[start : start + BLOCK])
            order[start : start + BLOCK] = 0  # fresh pages take as long as the sort below: all workers have them made

        workers.each(route, range(0, len(x), BLOCK))
        tree_order.order_by_cell(cells, n_leaves << halvings, order)
        return torch.from_numpy(order)


def _filled(ctrs: Points, workers: Workers) -> tuple[Boxes, F64, float]:
    """Return a tree that is yet to be split, and of its float32 coordinates what `as_float32` tells."""
    n = len(ctrs)
    boxes = unbuilt(n, ctrs.d)
    if not is_narrow(ctrs.values.dtype):
        # By a worker, like all of torch: its own threads, once woken, would spin beside the building.
        z, raw, residual = workers.once(lambda: as_float32(ctrs.block(0, n)))
        put(boxes, 0, z)
        return boxes, raw, residual
    workers.each(
        lambda start: put(boxes, start, as_float32(ctrs.block(start, min(start + _FILLED, n)))[0]),
        range(0, n, _FILLED),
    )
    return boxes, np.empty((0, 0)), 0.0


def _build(tree: Boxes, raw: F64, k: int, workers: Workers) -> int:
    """Split a tree: the top levels one by one, then the subtrees below them; return how many points are scanned."""
    n_leaves, n_nodes = -(-tree.n // LEAF), len(tree.axis)
    level, above = [(0, 0, n_leaves)], []
    many = _SUBTREES * workers.count if workers.count > 1 else 1
    while len(level) < many and n_leaves >= _FEWEST_LEAVES * len(level):
        split = workers.each(lambda part: _split(tree, part), level)
        if not all(split):
            break  # a pile of identical points on top: whoever splits what is left splits it again
        above += level
        level = [child for children in split for child in children]

    def below(part: tuple[int, int, int]) -> tuple[bool, int]:
        node, first, span = part
        build.build_below(tree, node, first, span, k, raw)
        stop = node + 2 * span - 1
        return bool(thin.has_piles(tree, node, stop)), thin.note_lowest(tree, node, stop)

    told = workers.each(below, level)
    if k < tree.n and any(piles for piles, _ in told):  # else no copy is one too many
        thin.thin(tree, k, raw)
        return int(thin.note_lowest(tree, 0, n_nodes))
    for node, _, span in reversed(above):
        tree.lowest[node] = min(tree.lowest[node + 1], tree.lowest[right_child(node, span)])
    return sum(live for _, live in told)


def _split(tree: Boxes, part: tuple[int, int, int]) -> list[tuple[int, int, int]]:
    """Split a node of the top levels and return its children, none if it is a leaf or a pile."""
    node, first, span = part
    if not build.split_alone(tree, node, first, span):
        return []
    left = (span + 1) // 2
    return [(node + 1, first, left), (right_child(node, span), first + left, span - left)]
