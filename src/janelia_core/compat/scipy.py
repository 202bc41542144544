"""SciPy's k-d tree under its own names, exact: `from janelia_core.compat.scipy import KDTree`.

As in SciPy, data are float64 and finite; `query` gives what is nearer than `distance_upper_bound`, strictly, and for
missing neighbours the index n and the distance inf; `query_ball_point` gives what is at most r away.

On purpose different: distances are the true ones, rounded once; ties go to the lowest index; lists of indices ascend;
what is at most r away is decided exactly, and a negative r is an error. p is 1, 2 or inf. `eps` changes nothing (an
exact answer is within any), nor do `workers` (`torch.set_num_threads` counts) and what shapes a tree. Data are copied;
space is not periodic; `count_neighbors` has no weights and bins.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from janelia_core.ml.index import CenterIndex
from janelia_core.ml.neighbors import radius_count

_METRICS = {1: "manhattan", 2: "euclidean", np.inf: "chebyshev"}


class KDTree:
    """Points `data` (n, m) that are searched again and again; `mins` and `maxes` (m,) of their coordinates."""

    def __init__(
        self, data: ArrayLike, leafsize: int = 10, compact_nodes: bool = True, copy_data: bool = False,
        balanced_tree: bool = True, boxsize: None = None,
    ) -> None:  # fmt: skip
        if boxsize is not None:
            raise NotImplementedError("space is not periodic here: leave boxsize out, and copy points across borders")
        if np.ndim(data) != 2 or not np.shape(data)[1]:
            raise ValueError(f"data must be of shape (n, m), n points of m coordinates, got {np.shape(data)}")
        _check_real(data)
        self.data = np.array(data, np.float64, order="C")
        (self.n, self.m), self.leafsize = self.data.shape, leafsize
        self._index = CenterIndex(self._checked("data", self.data)[0])
        self.mins, self.maxes = (of(self.data, axis=0) if self.n else np.zeros(self.m) for of in (np.min, np.max))

    def query(
        self, x: ArrayLike, k: int | list[int] = 1, eps: float = 0.0, p: float = 2.0,
        distance_upper_bound: float = np.inf, workers: int = 1,
    ) -> tuple[Any, Any]:  # fmt: skip
        """Return distances and indices (..., k) of the k nearest points to each of x (..., m); k = 1 gives (...).

        Of a list k those of these ranks, counted from 1.
        """
        asked = np.asarray(k)
        if not asked.size or asked.dtype.kind not in "iufb" or (asked % 1 != 0).any() or asked.min() < 1:
            raise ValueError(f"k must be an integer of at least 1, or a list of ranks counted from 1, got {k!r}")
        ranks = asked.astype(np.int64) if asked.ndim else np.arange(1, int(asked) + 1)
        rows, shape = self._checked("x", x)
        found = self._index.knn(rows, int(ranks.max()), metric=_metric(p))
        distances, indices = (part.numpy()[:, ranks - 1].reshape(*shape, ranks.size) for part in found)
        missing = ~(distances < distance_upper_bound)
        distances[missing], indices[missing] = np.inf, self.n
        return (distances[..., 0][()], indices[..., 0][()]) if np.array_equal(k, 1) else (distances, indices)

    def query_ball_point(
        self, x: ArrayLike, r: ArrayLike, p: float = 2.0, eps: float = 0.0, workers: int = 1,
        return_sorted: bool | None = None, return_length: bool = False,
    ) -> Any:  # fmt: skip
        """Return the list of points at most r away from x (m,), or how many; an array (...) of these for x (..., m)."""
        rows, shape = self._checked("x", x)
        each = torch.from_numpy(np.array(np.broadcast_to(r, shape), float).reshape(-1))
        if return_length:
            return radius_count(rows, self._index.ctrs, each, metric=_metric(p)).numpy().reshape(shape)[()]
        found = self._index.radius(rows, each, metric=_metric(p), sort_by="index")
        lists, indices, offsets = np.empty(len(rows), object), found.indices.tolist(), found.offsets.tolist()
        for i in range(len(rows)):
            lists[i] = indices[offsets[i] : offsets[i + 1]]
        return lists.reshape(shape)[()]

    def query_ball_tree(self, other: KDTree, r: float, p: float = 2.0, eps: float = 0.0) -> list[list[int]]:
        """Return for each point the list of those of another tree that are at most r away."""
        return list(other.query_ball_point(self.data, r, p))

    def query_pairs(self, r: float, p: float = 2.0, eps: float = 0.0, output_type: str = "set") -> Any:
        """Return the pairs (i, j), i < j, of points at most r apart: a set, or an "ndarray" (n_pairs, 2)."""
        if output_type not in ("set", "ndarray"):
            raise ValueError(f"output_type must be 'set' or 'ndarray', got {output_type!r}")
        found = self._index.radius(r=r, metric=_metric(p), sort_by="index")
        pairs = torch.stack([found.rows, found.indices], dim=1)[found.rows < found.indices]
        return pairs.numpy() if output_type == "ndarray" else set(map(tuple, pairs.tolist()))

    def count_neighbors(self, other: KDTree, r: ArrayLike, p: float = 2.0) -> Any:
        """Return how many pairs of a point here and one of another tree are at most r apart, for each r."""
        points, ctrs = self._index.ctrs, other._index.ctrs
        counts = [int(radius_count(points, ctrs, float(one), metric=_metric(p)).sum()) for one in np.ravel(r)]
        return np.reshape(counts, np.shape(r))[()]

    def _checked(self, name: str, x: ArrayLike) -> tuple[Tensor, tuple[int, ...]]:
        """Return points x (..., m) as (n, m), and their leading dimensions."""
        _check_real(x)
        rows = np.array(x, np.float64, order="C")
        if rows.shape[-1:] != (self.m,):
            raise ValueError(f"{name} must consist of vectors of length {self.m} but has shape {rows.shape}")
        if not np.isfinite(rows).all():
            raise ValueError(f"{name} must be finite, check for nan or inf values")
        return torch.from_numpy(rows.reshape(-1, self.m)), rows.shape[:-1]


cKDTree = KDTree


def _check_real(points: ArrayLike) -> None:
    if np.iscomplexobj(points):
        raise TypeError("KDTree does not work with complex data")


def _metric(p: float) -> str:
    if p not in _METRICS:
        raise ValueError(f"p must be 1, 2 or inf, got {p}")
    return _METRICS[p]
