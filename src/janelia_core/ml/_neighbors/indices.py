"""The operator janelia_core::knn_indices: the exact search, group by group, as torch.compile takes it whole."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.library import custom_op

from janelia_core.ml._knn.among import Among
from janelia_core.ml._knn.brief.door import nearest_briefly
from janelia_core.ml._knn.clouds.at_once import Clouds
from janelia_core.ml._knn.data.mask import Allowed, Table
from janelia_core.ml._knn.find import find
from janelia_core.ml._knn.metrics.mapped import both_points, points_of, searched_by
from janelia_core.ml._neighbors.group_by_group import search_groups
from janelia_core.ml._neighbors.groups import of_batch_vectors
from janelia_core.ml._runtime.machine import check_not_captured
from janelia_core.ml._runtime.transforms import NOT_FOR_GRAPHS, Batch, InDims, bare, batch_first, is_plain, one_by_one

_SHIFTED = 1 << 14  # indices taken at a time


class Settings(NamedTuple):
    """Checked settings of a call.

    Attributes:
        k: At least 1.
        metric: One of METRICS.
        m: Bounds how many scores are held at once; None: as many as the memory allows.
        max_memory: Bytes of workspace.
        but_self: Row i of a group does not meet centre i of the group.
    """

    k: int
    metric: str
    m: int | None
    max_memory: int
    but_self: bool


def search(
    x: Tensor,
    ctrs: Tensor,
    settings: Settings,
    *,
    subset: Tensor | None = None,
    allowed: Allowed | None = None,
    groups: Tensor | None = None,
    kept: Among | None = None,
) -> Tensor:
    """Return the k nearest centres (n, k) int64 of each row of x, -1 where there are fewer, as numbers of columns.

    Args:
        x: (n, d).
        ctrs: (m, d).
        settings: Of the call.
        subset: Ascending int64 numbers of the columns that may be answered, or None.
        allowed: (rows, first, last) -> whether those rows may be answered columns first .. last - 1, or None.
        groups: (n_groups, 5), see groups.py, or None.
        kept: What an index keeps of ctrs, and who of them is left.
    """
    check_not_captured(x)
    x, ctrs, kept, metric = as_searched(x, ctrs, kept, settings.metric)
    settings = settings._replace(metric=metric)
    n, k = x.shape[0], settings.k
    # Workers could not write to what inference mode makes; it is a setting of the thread.
    with torch.inference_mode(False):
        if groups is None:
            out = torch.empty(n, k, dtype=torch.int64, device=x.device)
            _search_group(x, ctrs, settings, subset, allowed, out, kept)
            return out
        out = torch.empty(n, k, dtype=torch.int64, device=x.device)
        if int((groups[:, 1] - groups[:, 0]).sum()) < n:
            out.fill_(-1)  # rows of no group: padding

        def one(group: list[int], max_memory: int) -> None:
            first, last, first_ctr, last_ctr, column = group
            rows = x[first:last]
            centres = rows if x is ctrs and (first, last) == (first_ctr, last_ctr) else ctrs[first_ctr:last_ctr]
            part = part_of(subset, column, column + last_ctr - first_ctr)
            call, shown = settings._replace(max_memory=max_memory), shifted(allowed, first, column)
            _search_group(rows, centres, call, part, shown, out[first:last], kept)
            _shift(out[first:last], column)

        plain = subset is None and allowed is None and kept is None
        clouds = Clouds(x, ctrs, k, settings.metric, settings.but_self, settings.max_memory, out) if plain else None
        search_groups(groups, x.shape[1], settings.max_memory, one, clouds, alone=kept is not None)
        return out


def as_searched(x: Tensor, ctrs: Tensor, kept: Among | None, metric: str) -> tuple[Tensor, Tensor, Among | None, str]:
    """Return what to search where the metric maps points: these, once for all groups, and by which metric."""
    by = searched_by(metric)
    if by == metric:
        return x, ctrs, kept, metric
    if kept is None:
        return *both_points(metric, x, ctrs), None, by
    kept = kept.of_points(metric)
    return kept.values if x is ctrs else points_of(metric, x, "x"), kept.values, kept, by


def _search_group(
    x: Tensor,
    ctrs: Tensor,
    settings: Settings,
    subset: Tensor | None,
    allowed: Allowed | None,
    out: Tensor,
    kept: Among | None = None,
) -> None:
    k, metric, m, max_memory, but_self = settings
    if kept is not None and subset is not None:
        subset = kept.of(subset)
    available = len(ctrs if kept is None else kept) if subset is None else len(subset)
    wanted = min(k + but_self, available)
    if wanted < k:
        out[:, wanted:] = -1
    if wanted and x.shape[0]:
        among = functools.partial(find, x, ctrs) if kept is None else functools.partial(kept.find, x)
        among(
            wanted,
            m=m,
            max_memory=max_memory,
            subset=subset,
            metric=metric,
            allowed=allowed,
            out=out.T,
            but_self=but_self,
        )


def _shift(indices: Tensor, by: int) -> None:
    """Add to indices (n, k) that are not -1, in place and block by block."""
    if by == 0:
        return
    for part in torch.split(indices, max(1, _SHIFTED // indices.shape[1])):
        part.copy_(torch.where(part < 0, -1, part + by))


def part_of(subset: Tensor | None, first: int, last: int) -> Tensor | None:
    """Return what a subset of all columns leaves of columns first .. last - 1, counted from first."""
    if subset is None:
        return None
    bounds = torch.tensor([first, last], dtype=subset.dtype, device=subset.device)
    start, stop = torch.searchsorted(subset, bounds).tolist()
    return subset[start:stop] - first


def shifted(allowed: Allowed | None, first_row: int, first_column: int) -> Allowed | None:
    if allowed is None or (first_row == 0 and first_column == 0):
        return allowed
    if isinstance(allowed, Table):
        return allowed.shifted(first_row, first_column)
    return lambda rows, start, stop: allowed(rows + first_row, start + first_column, stop + first_column)


def nearest(x: Tensor, ctrs: Tensor, k: int, m: int, max_memory: int, subset: Tensor | None = None) -> Tensor:
    """Return the k nearest centres (k, n) int64 of each row of x (n, d) among ctrs (m, d), or a subset of them.

    The operator costs some tens of microseconds a call, as much as a small search: plain tensors do without.
    """
    if is_plain(x, ctrs):
        brief = nearest_briefly(x, ctrs, k, m, "euclidean", max_memory) if subset is None else None
        if brief is not None:
            return brief.indices
        return find(x, ctrs, k, m=m, max_memory=max_memory, subset=subset)
    x, ctrs = x.detach(), ctrs.detach()  # torch.func would look for a derivative of the search
    found: Tensor = knn_indices(x, ctrs, k, "euclidean", m, max_memory, False, subset, None, None, None, None)
    return found.T.contiguous()


@custom_op("janelia_core::knn_indices", mutates_args=(), tags=NOT_FOR_GRAPHS)
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
        k: At least 1.
        metric: One of METRICS.
        m: Bounds how many scores are held at once; None: as many as the memory allows.
        max_memory: Bytes of workspace.
        but_self: Row i of a group does not meet centre i of the group.
        subset: Ascending int64 numbers of the columns that may be answered, or None.
        mask: (columns,), or (..., columns) bool with leading dimensions of n rows in all: True = allowed.
        groups: (n_groups, 5), see groups.py, or None.
        x_batch: (n,) int64, ascending, with ctrs_batch and without groups.
        ctrs_batch: (m,) int64, ascending.
    """
    same = _is_same(x, ctrs)
    x = bare(x)
    ctrs = x if same else bare(ctrs)
    if x_batch is not None and ctrs_batch is not None:
        groups = of_batch_vectors(x_batch, ctrs_batch)
    subset, allowed = shown_by(mask, subset)
    settings = Settings(k, metric, m, max_memory, but_self)
    return search(x, ctrs, settings, subset=subset, allowed=allowed, groups=groups)


def shown_by(mask: Tensor | None, subset: Tensor | None) -> tuple[Tensor | None, Allowed | None]:
    """Return what a mask leaves of a subset of the columns, and what it allows each row where that differs by row."""
    if mask is None or mask.ndim > 1:
        return subset, None if mask is None else Table(bare(mask))
    return mask.nonzero()[:, 0] if subset is None else subset[mask[subset]], None


def _is_same(x: Tensor, ctrs: Tensor) -> bool:
    """Whether both are the very same values in memory, so that one look at them serves both."""
    return (x.data_ptr(), x.shape, x.stride(), x.dtype) == (ctrs.data_ptr(), ctrs.shape, ctrs.stride(), ctrs.dtype)


@knn_indices.register_fake
def _(x: Tensor, ctrs: Tensor, k: int, *_: Any) -> Tensor:
    return x.new_empty((x.shape[0], k), dtype=torch.int64)


@knn_indices.register_vmap
def _(info: Batch, in_dims: InDims, *args: Any) -> tuple[Tensor, int]:
    if info.batch_size == 0 or any(dim is not None for dim in in_dims[2:]) or args[10] is not None:
        x, x_dim, k = args[0], in_dims[0], args[2]
        n = x.shape[0] if x_dim is None else x.movedim(x_dim, 0).shape[1]
        found = one_by_one(knn_indices, info, in_dims, args)
        return torch.stack(found) if found else x.new_empty((0, n, k), dtype=torch.int64), 0
    x, ctrs, k, metric, m, max_memory, but_self, subset, mask, groups, *batches = args
    (x,) = batch_first(info, in_dims[:1], x)
    n, n_ctrs = x.shape[1], 0  # centres that are the same for all are shared
    if in_dims[1] is not None:
        ctrs = ctrs.movedim(in_dims[1], 0)
        n_ctrs = ctrs.shape[1]
        ctrs = ctrs.flatten(0, 1)
    number = torch.arange(info.batch_size, device=x.device)[:, None, None]
    alike = not (n_ctrs or but_self or (mask is not None and mask.ndim > 1))  # rows of one search, whatever their batch
    if groups is not None or not alike:
        if groups is None:
            groups = torch.tensor([[0, n, 0, n_ctrs or ctrs.shape[0], 0]], device=x.device)
        groups = (groups + number * torch.tensor([n, n, n_ctrs, n_ctrs, 0], device=x.device)).flatten(0, 1)
    if mask is not None and mask.ndim > 1:
        mask = mask.expand(info.batch_size, *mask.shape)
    found = knn_indices(x.flatten(0, 1), ctrs, k, metric, m, max_memory, but_self, subset, mask, groups, *batches)
    return found.unflatten(0, (info.batch_size, n)), 0
