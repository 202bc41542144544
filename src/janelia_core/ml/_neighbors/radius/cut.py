"""Nearest neighbours cut at a radius: those within it stay, as they come first."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.library import custom_op

from janelia_core.ml._knn.metrics.mapped import both_points, searched_by
from janelia_core.ml._knn.radius.blocks import Settings
from janelia_core.ml._knn.radius.find import RadiusSearch, find_among
from janelia_core.ml._knn.radius.ragged import of_table
from janelia_core.ml._runtime.transforms import NOT_FOR_GRAPHS, Batch, InDims, bare, is_plain, one_by_one


def cut(x: Tensor, ctrs: Tensor, indices: Tensor, r: Tensor, metric: str, budget: int, first: Tensor | None) -> Tensor:
    """Return indices (n, k) with -1 in place of those that are farther than the radius of their row.

    Args:
        x: (n, d).
        ctrs: (m, d).
        indices: (n, k) int64, nearest first, -1 behind.
        r: (n,) float64.
        metric: One of METRICS.
        budget: Bytes of workspace.
        first: (n_batches,) int64: for each batch of rows the centre that its indices call 0; None: row numbers.
    """
    if is_plain(x, ctrs):
        return _cut(x, ctrs, indices, r, metric, budget, first)
    found: Tensor = knn_cut(x.detach(), ctrs.detach(), indices, r, metric, budget, first)
    return found


def _cut(x: Tensor, ctrs: Tensor, indices: Tensor, r: Tensor, metric: str, budget: int, first: Tensor | None) -> Tensor:
    (x, ctrs), metric = both_points(metric, x, ctrs), searched_by(metric)
    counts = torch.zeros(len(x), dtype=torch.int64, device=x.device)
    table = indices
    if first is not None:
        by = first.repeat_interleave(len(x) // max(1, len(first)))[:, None]
        table = torch.where(indices < 0, -1, indices + by)

    def put(numbers: Tensor, found: Tensor, _: Tensor) -> None:
        counts[numbers.to(counts.device)] = found.to(counts.device)

    find_among(x, ctrs, r, of_table(table), put, RadiusSearch(metric, None, budget, Settings(count_only=True)))
    return indices.masked_fill(torch.arange(indices.shape[1], device=x.device) >= counts[:, None], -1)


@custom_op("janelia_core::knn_cut", mutates_args=(), tags=NOT_FOR_GRAPHS)
def knn_cut(
    x: Tensor, ctrs: Tensor, indices: Tensor, r: Tensor, metric: str, budget: int, first: Tensor | None
) -> Tensor:
    """Cut as `cut` does."""
    return _cut(bare(x), bare(ctrs), bare(indices), bare(r), metric, budget, first)


@knn_cut.register_fake
def _(x: Tensor, ctrs: Tensor, indices: Tensor, *_: Any) -> Tensor:
    return torch.empty_like(indices)


@knn_cut.register_vmap
def _(info: Batch, in_dims: InDims, *args: Any) -> tuple[Tensor, int]:
    found = one_by_one(knn_cut, info, in_dims, args)
    return torch.stack(found) if found else args[2], 0
