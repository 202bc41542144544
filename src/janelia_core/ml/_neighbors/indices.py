"""The operator janelia_core::knn_indices: the exact search, group by group, as torch.compile takes it whole."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.library import custom_op

from janelia_core.ml._knn.find import find
from janelia_core.ml._knn.mask import Allowed
from janelia_core.ml._neighbors.groups import of_batch_vectors
from janelia_core.ml._transforms import batch_first


def search(
    x: Tensor,
    ctrs: Tensor,
    k: int,
    metric: str,
    m: int | None,
    max_memory: int,
    but_self: bool,
    *,
    subset: Tensor | None = None,
    allowed: Allowed | None = None,
    groups: Tensor | None = None,
) -> Tensor:
    """Return the k nearest centres (n, k) int64 of each row of x, -1 where there are fewer, as numbers of columns.

    Args:
        x: (n, d).
        ctrs: (m, d).
        k: At least 1.
        metric: As for `find`.
        m: As for `find`.
        max_memory: As for `find`.
        but_self: Row i of a group does not meet centre i of the group.
        subset: Ascending int64 numbers of the columns that may be answered, or None.
        allowed: (rows, first, last) -> whether those rows may be answered columns first .. last - 1, or None.
        groups: (n_groups, 5), see groups.py, or None.
    """
    if groups is None:
        return _search_group(x, ctrs, k, metric, m, max_memory, but_self, subset, allowed)
    out = torch.full((x.shape[0], k), -1, dtype=torch.int64, device=x.device)
    for first, last, first_ctr, last_ctr, column in groups.tolist():
        rows = x[first:last]
        centres = rows if x is ctrs and (first, last) == (first_ctr, last_ctr) else ctrs[first_ctr:last_ctr]
        part = _part(subset, column, column + last_ctr - first_ctr)
        found = _search_group(rows, centres, k, metric, m, max_memory, but_self, part, _shifted(allowed, first, column))
        out[first:last] = found if column == 0 else torch.where(found < 0, -1, found + column)
    return out


def _search_group(
    x: Tensor,
    ctrs: Tensor,
    k: int,
    metric: str,
    m: int | None,
    max_memory: int,
    but_self: bool,
    subset: Tensor | None,
    allowed: Allowed | None,
) -> Tensor:
    available = ctrs.shape[0] if subset is None else subset.shape[0]
    wanted = min(k + but_self, available)
    if wanted == 0 or x.shape[0] == 0:
        return torch.full((x.shape[0], k), -1, dtype=torch.int64, device=x.device)
    found = find(x, ctrs, wanted, m=m, max_memory=max_memory, subset=subset, metric=metric, allowed=allowed)
    if wanted == k and not but_self:
        return found.T.contiguous()
    out = torch.full((x.shape[0], k), -1, dtype=torch.int64, device=x.device)
    if but_self:
        _copy_but_self(found, out)
    else:
        out[:, :wanted] = found.T
    return out


def _copy_but_self(found: Tensor, out: Tensor) -> None:
    """Write found (k + 1, n), or all there are, without each row's own number to out (n, k).

    The first k of all others are what is left of the first k + 1 of all when the row itself is taken away, and
    if it is not among those (copies of lower index come first), the first k of them are all others.
    """
    if found.shape[0] <= out.shape[1]:  # a row that was not among those searched keeps them all
        found = torch.nn.functional.pad(found, (0, 0, 0, 1), value=-1)
    width = found.shape[0] - 1
    step = max(1, (1 << 20) // found.shape[0])
    for start in range(0, found.shape[1], step):
        part = found[:, start : start + step].T  # (r, k + 1)
        own = part == torch.arange(start, start + len(part), device=part.device)[:, None]
        own[:, width] = ~own[:, :width].any(dim=1)
        out[start : start + step, :width] = part[~own].view(len(part), width)


def _part(subset: Tensor | None, first: int, last: int) -> Tensor | None:
    """Return what a subset of all columns leaves of columns first .. last - 1, counted from first."""
    if subset is None:
        return None
    bounds = torch.tensor([first, last], dtype=subset.dtype, device=subset.device)
    start, stop = torch.searchsorted(subset, bounds).tolist()
    return subset[start:stop] - first


def _shifted(allowed: Allowed | None, first_row: int, first_column: int) -> Allowed | None:
    if allowed is None or (first_row == 0 and first_column == 0):
        return allowed
    return lambda rows, start, stop: allowed(rows + first_row, start + first_column, stop + first_column)


@custom_op("janelia_core::knn_indices", mutates_args=())
def knn_indices(
    x: Tensor,
    ctrs: Tensor,
    k: int,
    metric: str,
    m: int | None,
    max_memory: int,
    but_self: bool,
    subset: Tensor | None,
    mask: Tensor | None,
    groups: Tensor | None,
    x_batch: Tensor | None,
    ctrs_batch: Tensor | None,
) -> Tensor:
    """Search as `search` does; groups may come as batch vectors, and what is allowed as a mask.

    Args:
        x: (n, d).
        ctrs: (m, d).
        k: See `search`.
        metric: See `search`.
        m: See `search`.
        max_memory: See `search`.
        but_self: See `search`.
        subset: See `search`.
        mask: (columns,), or (..., columns) bool with leading dimensions of n rows in all: True = allowed.
        groups: See `search`.
        x_batch: (n,) int64, ascending, with ctrs_batch and without groups.
        ctrs_batch: (m,) int64, ascending.
    """
    x = x.detach()
    ctrs = x if _is_same(x, ctrs) else ctrs.detach()
    if x_batch is not None and ctrs_batch is not None:
        groups = of_batch_vectors(x_batch, ctrs_batch)
    allowed: Allowed | None = None
    if mask is not None and mask.ndim == 1:
        subset = mask.nonzero()[:, 0] if subset is None else subset[mask[subset]]
    elif mask is not None:
        allowed = _of_mask(mask)
    return search(x, ctrs, k, metric, m, max_memory, but_self, subset=subset, allowed=allowed, groups=groups)


def _is_same(x: Tensor, ctrs: Tensor) -> bool:
    """Whether both are the very same values in memory, so that one look at them serves both."""
    return (x.data_ptr(), x.shape, x.stride(), x.dtype) == (ctrs.data_ptr(), ctrs.shape, ctrs.stride(), ctrs.dtype)


def _of_mask(mask: Tensor) -> Allowed:
    """Read a mask block by block; its leading dimensions may be expanded, and are not copied."""

    def allowed(rows: Tensor, first: int, last: int) -> Tensor:
        where: Any = (*torch.unravel_index(rows, mask.shape[:-1]), slice(first, last))
        return mask[where]

    return allowed


@knn_indices.register_fake
def _(x: Tensor, ctrs: Tensor, k: int, *_: Any) -> Tensor:
    return x.new_empty((x.shape[0], k), dtype=torch.int64)


@knn_indices.register_vmap
def _(info: Any, in_dims: tuple[Any, ...], *args: Any) -> tuple[Tensor, int]:
    if any(dim is not None for dim in in_dims[2:]) or args[10] is not None:
        raise NotImplementedError("vmap of knn goes over x and ctrs, not over masks, lengths or batch vectors")
    x, ctrs, k, metric, m, max_memory, but_self, subset, mask, groups, *batches = args
    (x,) = batch_first(info, in_dims[:1], x)
    n, n_ctrs = x.shape[1], 0  # centres that are the same for all are shared
    if in_dims[1] is not None:
        ctrs = ctrs.movedim(in_dims[1], 0)
        n_ctrs = ctrs.shape[1]
        ctrs = ctrs.flatten(0, 1)
    if groups is None:
        groups = torch.tensor([[0, n, 0, n_ctrs or ctrs.shape[0], 0]], device=x.device)
    number = torch.arange(info.batch_size, device=x.device)[:, None, None]
    groups = (groups + number * torch.tensor([n, n, n_ctrs, n_ctrs, 0], device=x.device)).flatten(0, 1)
    if mask is not None and mask.ndim > 1:
        mask = mask.expand(info.batch_size, *mask.shape)
    found = knn_indices(x.flatten(0, 1), ctrs, k, metric, m, max_memory, but_self, subset, mask, groups, *batches)
    return found.unflatten(0, (info.batch_size, n)), 0
