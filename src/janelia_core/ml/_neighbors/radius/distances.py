"""Distances of ragged pairs: cut into short lists of one row each, which `derivatives` takes as k neighbours."""

from __future__ import annotations

import torch
from torch import Tensor

from janelia_core.ml._knn.distances.distances import result_dtype
from janelia_core.ml._knn.distances.ragged import of_ragged
from janelia_core.ml._knn.radius.ragged import Ragged
from janelia_core.ml._neighbors.derivatives.distances import distances
from janelia_core.ml._neighbors.groups import Flat
from janelia_core.ml._runtime.transforms import is_transformed

_LONGEST = 16  # of a list
_PER_MEMBER = 80  # bytes, beside the row, in lists that are not full


def ragged_distances(flat: Flat, found: Ragged, metric: str, budget: int) -> Tensor:
    """Return the distances (p,) of all pairs, differentiable with respect to flat.x (n, d) and flat.ctrs (m, d).

    A row of x is there once for each of its lists; without derivatives only some rows are at a time.
    """
    x, ctrs = flat.x, flat.ctrs
    if flat.first_ctrs is not None:  # indices count from 0 in each batch
        size = len(x) // max(1, len(flat.first_ctrs))
        firsts = flat.first_ctrs.repeat_interleave(size)
        by = torch.repeat_interleave(firsts, found.offsets.diff(), output_size=len(found.indices))
        found = found._replace(indices=found.indices + by)
    if is_transformed() or (torch.is_grad_enabled() and (x.requires_grad or ctrs.requires_grad)):
        return _some(x, ctrs, found, slice(0, len(x)), metric, budget)
    by_kernels = of_ragged(x.detach(), ctrs.detach(), *found, metric, budget)
    if by_kernels is not None:
        return by_kernels
    out = torch.empty(len(found.indices), dtype=result_dtype(x, ctrs), device=x.device)
    most = max(1, budget // 2 // (_PER_MEMBER + x.shape[1] * x.element_size() // _LONGEST))
    ends = found.offsets.cpu()
    start = 0
    while start < len(x):  # as many rows as have that many members, or one
        stop = max(start + 1, int(torch.searchsorted(ends, ends[start] + most, right=True)) - 1)
        out[ends[start] : ends[stop]] = _some(x, ctrs, found, slice(start, stop), metric, budget // 2)
        start = stop
    return out


def _some(x: Tensor, ctrs: Tensor, found: Ragged, rows: slice, metric: str, budget: int) -> Tensor:
    offsets = found.offsets[rows.start : rows.stop + 1]
    counts = offsets.diff()
    lists = (counts + _LONGEST - 1) // _LONGEST
    row = torch.repeat_interleave(torch.arange(len(counts), device=counts.device), lists)
    number = torch.arange(len(row), device=row.device) - (lists.cumsum(0) - lists)[row]  # of a list, in its row
    slots = torch.arange(_LONGEST, device=row.device)
    left = counts[row] - number * _LONGEST
    there = slots < left[:, None]
    if not len(row):
        return distances(x[:0], ctrs, found.indices.new_empty(0, 1), metric, budget).reshape(-1)
    places = (offsets[:-1][row] + number * _LONGEST)[:, None] + slots
    listed = found.indices[places.clamp(max=len(found.indices) - 1)].masked_fill(~there, -1)
    return distances(x[rows][row], ctrs, listed, metric, budget)[there]
