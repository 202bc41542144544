"""torch_cluster's neighbours under their own names, exact: `from janelia_core.compat.torch_cluster import knn_graph`.

As there, x (n, d) is searched and y (m, d) asks; answers (2, p) int64 have rows of y above rows of x; where there are
fewer neighbours there are fewer pairs. Batch vectors ascend, one left out is all zeros. Points (n,) have one
coordinate. What is r away is outside.

On purpose different: neighbours come nearest first, ties by lowest index, and if there are more than
`max_num_neighbors` the nearest stay, not those met first. A row is no neighbour of itself by index: its copies stay,
and it has k neighbours even so. Inside a radius is what is no farther than the float64 below r, decided exactly; r is
positive. `cosine` is there on CPUs, too, and 1 from a zero vector. `num_workers` and `batch_size` change nothing.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from janelia_core.ml import neighbors

Batch = Tensor | None
_METRICS = ("euclidean", "cosine")


def knn(
    x: Tensor, y: Tensor, k: int, batch_x: Batch = None, batch_y: Batch = None, cosine: bool = False,
    num_workers: int = 1, batch_size: int | None = None,
) -> Tensor:  # fmt: skip
    """Return the pairs of a row of y and each of the k nearest rows of x."""
    y, x, batch_y, batch_x = _checked(y, x, batch_y, batch_x)
    found = neighbors.knn_graph(y, k, x, metric=_METRICS[cosine], x_batch=batch_y, ctrs_batch=batch_x)
    return _directed(found, "target_to_source")


def knn_graph(
    x: Tensor, k: int, batch: Batch = None, loop: bool = False, flow: str = "source_to_target", cosine: bool = False,
    num_workers: int = 1, batch_size: int | None = None,
) -> Tensor:  # fmt: skip
    """Return edges from the k nearest neighbours to each row of x; the other way, if the flow is "target_to_source"."""
    x, *_ = _checked(x, x, batch, batch)
    found = neighbors.knn_graph(x, k, metric=_METRICS[cosine], x_batch=batch, include_self=loop)
    return _directed(found, flow)


def radius(
    x: Tensor, y: Tensor, r: float, batch_x: Batch = None, batch_y: Batch = None, max_num_neighbors: int = 32,
    num_workers: int = 1, batch_size: int | None = None,
) -> Tensor:  # fmt: skip
    """Return the pairs of a row of y and each row of x less than r away."""
    y, x, batch_y, batch_x = _checked(y, x, batch_y, batch_x)
    most = max_num_neighbors
    found = neighbors.radius(y, x, _below(r), max_neighbors=most, x_batch=batch_y, ctrs_batch=batch_x)
    return torch.stack([found.rows, found.indices])


def radius_graph(
    x: Tensor, r: float, batch: Batch = None, loop: bool = False, max_num_neighbors: int = 32,
    flow: str = "source_to_target", num_workers: int = 1, batch_size: int | None = None,
) -> Tensor:  # fmt: skip
    """Return edges to each row of x from the others less than r away; the other way, if "target_to_source"."""
    x, *_ = _checked(x, x, batch, batch)
    return _directed(neighbors.radius_graph(x, _below(r), batch, max_neighbors=max_num_neighbors, loop=loop), flow)


def nearest(x: Tensor, y: Tensor, batch_x: Batch = None, batch_y: Batch = None) -> Tensor:
    """Return the nearest row of y to each row of x (n,)."""
    x, y, batch_x, batch_y = _checked(x, y, batch_x, batch_y)
    found = neighbors.knn(x, y, x_batch=batch_x, ctrs_batch=batch_y).indices[:, 0]
    if (found < 0).any():
        raise ValueError("a batch of batch_x has no row in batch_y")
    return found


def _checked(x: Tensor, y: Tensor, batch_x: Batch, batch_y: Batch) -> tuple[Tensor, Tensor, Batch, Batch]:
    """Return points (n, d), and either no batch vector or both."""
    if batch_x is None and batch_y is not None:
        batch_x = batch_y.new_zeros(len(x))
    elif batch_y is None and batch_x is not None:
        batch_y = batch_x.new_zeros(len(y))
    x, y = (points[:, None] if points.ndim == 1 else points for points in (x, y))
    return x, y, batch_x, batch_y


def _below(r: float) -> float:
    if not r > 0:
        raise ValueError(f"r must be positive, for nothing is less than that away, got {r}")
    return math.nextafter(r, 0)


def _directed(edges: Tensor, flow: str) -> Tensor:
    """Turn edges from neighbour to row round, if the flow is from target to source."""
    if flow not in ("source_to_target", "target_to_source"):
        raise ValueError(f"flow must be 'source_to_target' or 'target_to_source', got {flow!r}")
    return edges if flow == "source_to_target" else edges.flip(0)
