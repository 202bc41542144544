"""A box tree as plain arrays and facts, to be written to a file and mapped back; whatever comes back is checked."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from janelia_core.ml._knn.data.points import Points
from janelia_core.ml._knn.data.single import as_float32
from janelia_core.ml._knn.screens.keeping import UnsuitedError
from janelia_core.ml._knn.screens.tree import thin
from janelia_core.ml._knn.screens.tree.layout import Boxes
from janelia_core.ml._knn.screens.tree.planted import BoxTree
from janelia_core.ml._runtime.arrays import F32, I32, I64
from janelia_core.ml._simd.packet_keys import LEAF, NO_ID

Array = NDArray[Any]

_LAYOUT = 1  # of `Boxes` and the order of nodes: another number is another program's
_FACTS = {"layout": int, "n": int, "d": int, "k": int, "residual": float, "stored": bool}
_SAMPLE = 256  # leaves whose coordinates are compared with the centres'


def arrays_of(tree: BoxTree) -> tuple[dict[str, Array], dict[str, int | float | bool]]:
    """Return the arrays of a tree, not to be written to, and facts that JSON holds: all that `from_arrays` asks for.

    A file should let every array begin at a multiple of 64 bytes: leaves then fill lines of the cache.
    """
    arrays = {name: value for name, value in tree.boxes._asdict().items() if isinstance(value, np.ndarray)}
    facts = {"layout": _LAYOUT, "n": tree.n_ctrs, "d": tree.d, "k": tree.k}
    return arrays, {**facts, "residual": tree.residual, "stored": tree.stored}


def from_arrays(ctrs: Points, arrays: Mapping[str, Array], facts: Mapping[str, Any]) -> BoxTree:
    """Return the tree over finite centres whose arrays and facts these are; it keeps the arrays, and never writes.

    Args:
        ctrs: The centres it was planted over, with the same values.
        arrays: As `arrays_of` gave them. Those that are read-only may be mapped from a file by several processes.
        facts: Likewise.

    Raises:
        UnsuitedError: Another version made them.
        ValueError: They are no tree, or not over these centres. Kernels read nothing beyond arrays that pass. Their
            values are compared with a sample of the centres': that no bit of them has changed is for a checksum of the
            file to say.
    """
    for name, kind in _FACTS.items():
        if not isinstance(facts.get(name), kind) or (kind is int and isinstance(facts[name], bool)):
            raise ValueError(f"the stored tree lacks {name!r}, or it is of another type")
    if facts["layout"] != _LAYOUT:
        raise UnsuitedError(f"the stored tree has layout {facts['layout']}; this version reads {_LAYOUT}")
    if (facts["n"], facts["d"]) != (len(ctrs), ctrs.d) or len(ctrs) == 0:
        raise ValueError(
            f"the stored tree is over {facts['n']} centres of {facts['d']} coordinates, not {len(ctrs)} of {ctrs.d}"
        )
    if not (facts["k"] >= 1 and 0.0 <= facts["residual"] < math.inf and facts["stored"] == (facts["residual"] == 0.0)):
        raise ValueError("the stored tree says impossible things of itself")
    boxes = _boxes(arrays, len(ctrs), ctrs.d)
    _check_nodes(boxes)
    live = _check_places(boxes)
    _check_sample(boxes, ctrs, facts["residual"])
    return BoxTree.over(ctrs, boxes, facts["k"], live, facts["residual"])


def _boxes(arrays: Mapping[str, Array], n: int, d: int) -> Boxes:
    """Return the arrays, checked for types and sizes, as kernels take them."""
    n_leaves = -(-n // LEAF)
    n_nodes = 2 * n_leaves - 1
    floats = {"z": n_leaves * LEAF * d, "boxes": n_nodes * d * 2, "at": n_nodes}
    integers = {"ids": n_leaves * LEAF, **dict.fromkeys(("first", "span", "axis", "lowest"), n_nodes)}
    taken = {}
    for dtype, sizes in ((np.float32, floats), (np.int32, integers)):
        for name, size in sizes.items():
            array = arrays.get(name)
            if array is None or array.dtype != dtype or array.shape != (size,) or not array.flags.c_contiguous:
                raise ValueError(f"the stored tree wants {size} contiguous {np.dtype(dtype)} as {name!r}")
            taken[name] = _for_kernels(array)
    return Boxes(n=n, d=d, **taken)


def _for_kernels(array: Array) -> Array:
    """Return the same memory as an array that may be written to: kernels are compiled for those, and do not."""
    if not array.flags.aligned:
        return array.copy()
    if array.flags.writeable and type(array) is np.ndarray:
        return array
    interface = {**array.__array_interface__, "data": (array.ctypes.data, False)}
    return np.asarray(SimpleNamespace(__array_interface__=interface, holds=array))


def _check_nodes(tree: Boxes) -> None:
    """Raise ValueError unless nodes stand in the balanced order of `Boxes`, level by level."""
    nodes, first, span = np.array([0]), np.array([0]), np.array([len(tree.ids) // LEAF])
    built = 0
    while len(nodes):
        built += len(nodes)
        axis, own = tree.axis[nodes], tree.span[nodes]
        inner = axis >= 0
        as_inner = inner & (axis < tree.d) & (span > 1) & (own == span)
        as_leaf = (axis == -1) & (own >= 1) & (own <= span)
        if not ((as_inner | as_leaf) & (tree.first[nodes] == first)).all():
            raise ValueError("the stored tree has a node that is none")
        nodes, first, span = nodes[inner], first[inner], span[inner]
        left = (span + 1) // 2
        nodes, first = np.concatenate([nodes + 1, nodes + 2 * left]), np.concatenate([first, first + left])
        span = np.concatenate([left, span - left])
    if int((tree.axis != -2).sum()) != built:
        raise ValueError("the stored tree has nodes that no other leads to")


def _check_places(tree: Boxes) -> int:
    """Raise ValueError unless every centre has one place, and no other place is listed; return how many are."""
    n, ids = tree.n, tree.ids
    if (ids[n:] != NO_ID).any() or (ids[:n] < 0).any() or (ids[:n] >= n).any():
        raise ValueError("the stored tree names centres that there are not")
    there = np.zeros(n, np.bool_)
    there[ids[:n]] = True
    z, names = _leaf_by_leaf(tree, _scanned(tree)[-1:])
    if not there.all() or not np.isnan(z[names == NO_ID]).all():
        raise ValueError("the stored tree lacks centres")
    lowest = np.zeros_like(tree.lowest)
    live: int = thin.note_lowest(tree._replace(lowest=lowest), 0, len(lowest))
    built = tree.axis != -2
    if not np.array_equal(lowest[built], tree.lowest[built]):
        raise ValueError("the stored tree says of a node what is not below it")
    return live


def _check_sample(tree: Boxes, ctrs: Points, residual: float) -> None:
    """Raise ValueError if a sample of the centres has other coordinates, or leaves a larger residual."""
    leaves = _scanned(tree)
    z, names = _leaf_by_leaf(tree, leaves[:: -(-len(leaves) // _SAMPLE)])
    kept = ~np.isnan(z[:, 0])
    own, _, most = as_float32(ctrs.take(ctrs.row_numbers(torch.from_numpy(names[kept].astype(np.int64)))))
    if most > residual or not np.array_equal(own, z[kept]):
        raise ValueError("the stored tree is over other centres")


def _scanned(tree: Boxes) -> I64:
    """Return the leaves that walks scan, ascending: of a pile, the first few."""
    ends = np.flatnonzero(tree.axis == -1)
    scanned = np.zeros(len(tree.ids) // LEAF, np.bool_)
    scanned[tree.first[ends]] = True
    for pile in ends[tree.span[ends] > 1]:
        scanned[tree.first[pile] : tree.first[pile] + tree.span[pile]] = True
    return np.flatnonzero(scanned)


def _leaf_by_leaf(tree: Boxes, leaves: I64) -> tuple[F32, I32]:
    """Return the coordinates (r, d) of all places of some leaves, and what they are called (r,)."""
    z = tree.z.reshape(-1, tree.d, LEAF)[leaves].transpose(0, 2, 1).reshape(-1, tree.d)
    return z, tree.ids.reshape(-1, LEAF)[leaves].reshape(-1)
