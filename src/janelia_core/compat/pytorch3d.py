"""pytorch3d's neighbours of point clouds, exact: `from janelia_core.compat.pytorch3d import knn_points`.

As there, clouds are padded: of p1 (N, P1, D), which asks, and p2 (N, P2, D) the first lengths1[n] and lengths2[n]
points count. Distances are squared (norm 2) or sums of magnitudes (norm 1). Where no more points are, `knn_points`
gives distance 0 and index 0, `ball_query` distance 0, index -1 and the point 0. A ball holds the first K by index of
all points that are strictly nearer than the float32 radius.

On purpose different: neighbours of `knn_points` always come nearest first, ties by lowest index; what is in a ball is
decided exactly (no farther than the float64 below the squared radius); a radius is positive. Distances are float64
for float64, dtypes may be half precision or integers, and derivatives of every order are there. `knn_gather` gives 0
for index -1, too. Nothing depends on `version`.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from janelia_core.ml import neighbors
from janelia_core.ml.neighbors import Neighbors


class KNN(NamedTuple):
    """Distances (N, P1, K), indices (N, P1, K) int64, and the neighbours (N, P1, K, D) if they were asked for."""

    dists: Tensor
    idx: Tensor
    knn: Tensor | None


def knn_points(
    p1: Tensor, p2: Tensor, lengths1: Tensor | None = None, lengths2: Tensor | None = None, norm: int = 2, K: int = 1,
    version: int = -1, return_nn: bool = False, return_sorted: bool = True,
) -> KNN:  # fmt: skip
    """Return the K nearest points of p2[n] to each of p1[n]."""
    _check_clouds(p1, p2)
    if norm not in (1, 2):
        raise ValueError(f"norm must be 1 or 2, got {norm}")
    metric = "sqeuclidean" if norm == 2 else "manhattan"
    found = neighbors.knn(p1, p2, K, metric=metric, lengths=lengths1, ctrs_lengths=lengths2)
    there, idx = found.indices >= 0, found.indices.clamp(min=0)
    return KNN(found.distances.where(there, 0), idx, knn_gather(p2, idx, lengths2) if return_nn else None)


def knn_gather(x: Tensor, idx: Tensor, lengths: Tensor | None = None) -> Tensor:
    """Return x[n, idx[n, l, k]] as (N, L, K, U), and 0 where k is not below lengths[n], for x (N, M, U)."""
    if len(x) != len(idx):
        raise ValueError(f"x and idx must have the same number of clouds, got {len(x)} and {len(idx)}")
    counts = torch.full(idx.shape[:1], x.shape[1], device=idx.device) if lengths is None else lengths
    beyond = torch.arange(idx.shape[2], device=idx.device) >= counts[:, None, None]
    return Neighbors(idx, idx.masked_fill(beyond, -1)).gather(x)


def ball_query(
    p1: Tensor, p2: Tensor, lengths1: Tensor | None = None, lengths2: Tensor | None = None, K: int = 500,
    radius: float = 0.2, return_nn: bool = True,
) -> KNN:  # fmt: skip
    """Return the first K points of p2[n] that are nearer than the radius to each of p1[n]."""
    _check_clouds(p1, p2)
    stored = torch.tensor(float(radius), dtype=torch.float32).item()
    if not stored > 0:
        raise ValueError(f"radius must be above 0, got {radius}")
    below = math.nextafter(stored * stored, 0)  # which is exact: a product of two float32 is a float64
    found = neighbors.radius(
        p1, p2, below, metric="sqeuclidean", sort_by="index", lengths=lengths1, ctrs_lengths=lengths2
    )
    dists, idx = (part.reshape(*p1.shape[:2], K) for part in found.padded(K))
    dists = dists.where(idx >= 0, 0)
    return KNN(dists, idx, Neighbors(dists, idx).gather(p2) if return_nn else None)


def _check_clouds(p1: Tensor, p2: Tensor) -> None:
    if not (p1.ndim == p2.ndim == 3 and p1.shape[0] == p2.shape[0] and p1.shape[2] == p2.shape[2]):
        got = f"{tuple(p1.shape)} and {tuple(p2.shape)}"
        raise ValueError(f"p1 and p2 must be as many clouds, (N, P1, D) and (N, P2, D), got {got}")
