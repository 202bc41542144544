"""Who belongs to whom, of a checked call: directly, or as the operators that tracers and transforms take whole."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.library import custom_op

from janelia_core.ml._knn.among import Among
from janelia_core.ml._knn.data.points import Points
from janelia_core.ml._knn.metrics.registry import metric_named
from janelia_core.ml._knn.radius.blocks import Settings
from janelia_core.ml._knn.radius.find import RadiusSearch, find_within
from janelia_core.ml._knn.radius.kept_parts import find_kept
from janelia_core.ml._knn.radius.look import expected_members
from janelia_core.ml._knn.radius.ragged import Collected, Ragged, ascending
from janelia_core.ml._neighbors.groups import Flat, of_batch_vectors
from janelia_core.ml._neighbors.indices import Settings as NearestSettings
from janelia_core.ml._neighbors.indices import as_searched, shown_by
from janelia_core.ml._neighbors.radius.groups import find_by_group
from janelia_core.ml._neighbors.radius.nearest import Shown, nearest_within
from janelia_core.ml._runtime.transforms import NOT_FOR_GRAPHS, bare, is_plain

_MORE = 8  # times as many members as are wanted: then the k nearest are found sooner, and their table is full


class RadiusCall(NamedTuple):
    """A checked call.

    Attributes:
        flat: Rows and centres.
        r: (n,) float64 radii.
        metric: One of METRICS.
        m: Bounds how many scores are held at once, or None.
        max_memory: Bytes of workspace.
        but_self: Row i of a group does not meet centre i of the group.
        mask: (columns,) or (..., columns) bool with leading dimensions of n rows in all, or a function, or None.
        x_batch: (n,) ascending, with ctrs_batch, or None.
        ctrs_batch: (m,) ascending, or None.
        nearest: Members come nearest first; else by index.
        count_only: Indices are not wanted.
        max_neighbors: At most so many of each row, the nearest; None: all.
        kept: What is kept of the centres; None: nothing.
    """

    flat: Flat
    r: Tensor
    metric: str
    m: int | None
    max_memory: int
    but_self: bool
    mask: Any = None
    x_batch: Tensor | None = None
    ctrs_batch: Tensor | None = None
    nearest: bool = True
    count_only: bool = False
    max_neighbors: int | None = None
    kept: Among | None = None


def members(asked: RadiusCall) -> Ragged:
    """Return the members of all rows, as numbers of columns; of counts alone, offsets."""
    if is_plain(asked.flat.x, asked.flat.ctrs):
        return _members(asked)
    flat, mask = asked.flat, asked.mask
    if not (mask is None or isinstance(mask, Tensor)):  # no operator takes a function: it is asked once, for all pairs
        mask = mask(torch.arange(flat.x.shape[0], device=flat.x.device), 0, flat.ctrs.shape[0])
    left = None if asked.kept is None else asked.kept.left
    if left is not None:  # nor what is kept: who is left is told
        shown = torch.zeros(flat.ctrs.shape[0], dtype=torch.bool, device=flat.x.device)
        shown[left] = True
        mask = shown if mask is None else mask & shown
    settings = asked.metric, asked.m, asked.max_memory, asked.but_self, asked.nearest, asked.count_only
    points = flat.x.detach(), flat.ctrs.detach(), asked.r
    batches = mask, flat.groups, asked.x_batch, asked.ctrs_batch
    return Ragged(*radius_members(*points, *settings, asked.max_neighbors, *batches))


@custom_op("janelia_core::radius_members", mutates_args=(), tags=NOT_FOR_GRAPHS)
def radius_members(
    x: Tensor,
    ctrs: Tensor,
    r: Tensor,
    metric: str,
    m: int | None,
    max_memory: int,
    but_self: bool,
    nearest: bool,
    count_only: bool,
    max_neighbors: int | None,
    mask: Tensor | None,
    groups: Tensor | None,
    x_batch: Tensor | None,
    ctrs_batch: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Search as `members` does: offsets and indices."""
    # Groups of leading dimensions tell which centre each calls 0, as `flatten` does.
    first_ctrs = None if groups is None else groups[:, 2] - groups[:, 4]
    flat = Flat(bare(x), bare(ctrs), groups, (x.shape[0],), first_ctrs)
    batches = mask, x_batch, ctrs_batch
    asked = RadiusCall(flat, bare(r), metric, m, max_memory, but_self, *batches, nearest, count_only, max_neighbors)
    return tuple(_members(asked))  # type: ignore[return-value]


@radius_members.register_fake
def _(x: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
    size = torch.library.get_ctx().new_dynamic_size()
    return x.new_empty(x.shape[0] + 1, dtype=torch.int64), x.new_empty(size, dtype=torch.int64)


def _members(asked: RadiusCall) -> Ragged:
    x, ctrs, groups = asked.flat.x.detach(), asked.flat.ctrs.detach(), asked.flat.groups
    ctrs = x if asked.flat.ctrs is asked.flat.x else ctrs
    x, ctrs, kept, metric = as_searched(x, ctrs, asked.kept, asked.metric)
    asked = asked._replace(kept=kept, metric=metric)
    if asked.x_batch is not None and asked.ctrs_batch is not None:
        groups = of_batch_vectors(asked.x_batch, asked.ctrs_batch)
    subset, allowed = None, asked.mask
    if allowed is None or isinstance(allowed, Tensor):
        subset, allowed = shown_by(allowed, None)
    with torch.inference_mode(False):  # or workers could not write to what is made
        most = asked.max_neighbors
        if most is not None and (groups is not None or _are_more(x, ctrs, asked.r, metric, most)):
            call = NearestSettings(most, asked.metric, asked.m, asked.max_memory, asked.but_self)
            shown, first = Shown(subset, allowed, asked.kept), asked.flat.first_ctrs
            found = nearest_within(x, ctrs, asked.r, call, shown, groups, first)
            return found if asked.nearest else ascending(found, len(ctrs))
        out = Collected(len(x), len(ctrs), x.device, asked.count_only)
        settings = Settings(asked.but_self, asked.count_only, asked.nearest or most is not None, most)
        question = RadiusSearch(asked.metric, asked.m, asked.max_memory, settings, out.room)
        if groups is not None:
            find_by_group(x, ctrs, asked.r, groups, out.put, question, subset, allowed)
        elif asked.kept is None:
            find_within(x, ctrs, asked.r, out.put, question, subset=subset, allowed=allowed)
        else:
            find_kept(x, asked.kept, asked.r, out.put, question)
        found = out.finish()
        return found if asked.nearest or most is None else ascending(found, len(ctrs))


def _are_more(x: Tensor, ctrs: Tensor, r: Tensor, metric: str, most: int) -> bool:
    """Tell whether rows have so many more members than are wanted that the nearest are found sooner."""
    if not len(x) or not len(ctrs):
        return False
    return expected_members(Points(x), Points(ctrs), r, metric_named(metric)) > _MORE * most
