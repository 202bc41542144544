"""The layout of a box tree in memory."""

from typing import Any, NamedTuple

import numpy as np

from janelia_core.ml._runtime.arrays import F32, I32
from janelia_core.ml._runtime.jit import jit_with
from janelia_core.ml._simd.packet_keys import LEAF, NO_ID

STACK = 96  # a depth-first walk holds at most one node a level; a tree over 2^31 centres has 28 levels

kernel = jit_with(error_model="numpy")


class Boxes(NamedTuple):
    """The arrays of a balanced box tree over n centres of d coordinates.

    Nodes stand in preorder: the left child of node i is i + 1. A node of m leaves has (m + 1) // 2 of them there
    (`right_child`). Every leaf but the last is full.

    Attributes:
        n: See above.
        d: See above.
        z: (n_leaves * d * LEAF,) coordinates: leaf by leaf, coordinate by coordinate (`cell_of`); NaN in unused lanes.
            Leaves of a pile that are not scanned hold copies in any order.
        ids: (n_leaves * LEAF,) positions among the centres; NO_ID after the last.
        boxes: (n_nodes * d * 2,) lo, hi of each coordinate.
        first: (n_nodes,) first leaf of a node.
        span: (n_nodes,) number of leaves below an inner node; number of leaves to scan where `axis` is -1.
        axis: (n_nodes,) coordinate in which an inner node was split; -1 for a leaf or a pile of identical
            points; -2 for nodes below a pile, which are never built.
        at: (n_nodes,) where an inner node was split.
        lowest: (n_nodes,) lowest id below a node.
    """

    n: int
    d: int
    z: F32
    ids: I32
    boxes: F32
    first: I32
    span: I32
    axis: I32
    at: F32
    lowest: I32


def unbuilt(n: int, d: int) -> Boxes:
    """Return a tree of n centres that are yet to be put into it, in their own order, and to be split."""
    n_leaves = -(-n // LEAF)
    n_nodes = 2 * n_leaves - 1
    tree = Boxes(
        n=n,
        d=d,
        z=_aligned(n_leaves * LEAF * d, np.float32),
        ids=_aligned(n_leaves * LEAF, np.int32),
        boxes=np.zeros(n_nodes * d * 2, np.float32),
        first=np.zeros(n_nodes, np.int32),
        span=np.zeros(n_nodes, np.int32),
        axis=np.full(n_nodes, -2, np.int32),
        at=np.zeros(n_nodes, np.float32),
        lowest=np.zeros(n_nodes, np.int32),
    )
    tree.z[n * d :], tree.ids[n:] = np.nan, NO_ID
    return tree


def put(tree: Boxes, first: int, z: F32) -> None:
    """Put some of the centres (r, d) into a tree, from number `first` on."""
    stop = first + len(z)
    tree.z[first * tree.d : stop * tree.d] = z.reshape(-1)
    tree.ids[first:stop] = np.arange(first, stop, dtype=np.int32)


def _aligned(count: int, dtype: type[Any]) -> Any:
    """Return an array that begins where a line of the cache does, so that leaves do not straddle lines."""
    room = np.empty(count + 16, dtype)
    start = -room.ctypes.data % 64 // 4
    return room[start : start + count]


@kernel
def right_child(node: int, span: int) -> int:
    """Return the right child of a node with so many leaves."""
    return node + 2 * ((span + 1) // 2)


@kernel
def cell_of(place: int, d: int) -> int:
    """Return where in `z` the first coordinate of a place of a tree stands; each other one stands LEAF further."""
    return place // LEAF * d * LEAF + place % LEAF
