"""knn(): the call, from its arguments to distances and indices."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from importlib import import_module
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.overrides import handle_torch_function

from janelia_core.ml._knn.among import Among
from janelia_core.ml._knn.brief.door import nearest_briefly
from janelia_core.ml._knn.distances.distances import of_few
from janelia_core.ml._knn.face import checked_count, checked_memory
from janelia_core.ml._knn.metrics.mapped import check_columns
from janelia_core.ml._neighbors import arguments
from janelia_core.ml._neighbors.derivatives.distances import distances
from janelia_core.ml._neighbors.draw import drawn
from janelia_core.ml._neighbors.found import Neighbors
from janelia_core.ml._neighbors.groups import Flat, flatten, of_batch_vectors
from janelia_core.ml._neighbors.indices import Settings, knn_indices, search, shown_by
from janelia_core.ml._neighbors.progress import progress_bar
from janelia_core.ml._neighbors.radius.cut import cut
from janelia_core.ml._neighbors.radius.radii import checked_radii
from janelia_core.ml._neighbors.spelling import check_metric, explained
from janelia_core.ml._runtime.transforms import break_graph, is_plain, is_spread, is_stand_in


@explained
def knn(
    x: Tensor,
    ctrs: Tensor | None = None,
    k: int = 1,
    *,
    metric: str = "euclidean",
    m: int | None = None,
    max_memory: int | None = None,
    mask: Tensor | Callable[[Tensor, int, int], Tensor] | None = None,
    sample: int | None = None,
    generator: torch.Generator | None = None,
    include_self: bool = False,
    x_batch: Tensor | None = None,
    ctrs_batch: Tensor | None = None,
    lengths: Tensor | None = None,
    ctrs_lengths: Tensor | None = None,
    r: float | Tensor | None = None,
    progress: bool = False,
) -> Neighbors:
    """Find the k nearest centres of each row of x, exactly, and the distances to them, differentiable.

    Args:
        x: (..., n_smps, d) samples; any real dtype, strides and device.
        ctrs: (..., n_ctrs, d) centres on the same device; the dtype may differ, leading dimensions broadcast.
            None: neighbours among x itself.
        k: How many centres to find for each sample, at least 1. Where there are fewer, the rest is filled up:
            small molecules and clouds of five points need no special case, alone, in batches or ragged.
        metric: "euclidean" |x - c|, "sqeuclidean" |x - c|^2, "cosine" 1 - <x, c> / (|x| |c|), which is 1 where
            a vector is zero, "dot" -<x, c>, "manhattan", the sum of all |x_q - c_q|, "chebyshev", the largest, or
            "haversine", the angle in radians between places (latitude, longitude), which are in radians too; times
            6371.0088 it is kilometres on the Earth.
        m: Bounds how many scores are held at once, as for `knn_mc`; None: as many as the memory allows.
        max_memory: Bytes of workspace beyond inputs and results, at least a mebibyte. None: 256 MiB; on a GPU, if that
            is more, half of what is free there, up to 64 GiB.
        mask: Who may be a neighbour, bool, True = allowed: (n_ctrs,), or (..., n_smps, n_ctrs), broadcast over
            leading dimensions, or `mask(rows, first, last)`, which gives that block of it,
            (len(rows), last - first), for int64 row numbers `rows` of x and centres first .. last - 1. A function is
            asked once, for all pairs, where torch traces or transforms.
        sample: Search only so many centres, drawn at random for this call (the same ones for every batch), as
            `knn_do` does; all of them means no draw.
        generator: Source of the draw, for sample alone; the global one of x's device by default.
        include_self: With ctrs=None, whether row i may be a neighbour of itself. If not, it is left out by its
            index: copies of it stay.
        x_batch: (n_smps,) integers, ascending: the batch of each row. Rows meet only centres of their own batch.
        ctrs_batch: (n_ctrs,) likewise for centres. Left out where ctrs is None.
        lengths: (...) integers: rows of x that count in each batch of a padded x (..., n_smps, d).
        ctrs_lengths: (...) likewise for padded ctrs (..., n_ctrs, d). Left out where ctrs is None.
        r: Find the k nearest within this distance alone, as `radius` defines it: one number, or (..., n_smps) one for
            each row. Where fewer are, the rest is filled up.
        progress: Show a bar of the rows searched, by tqdm (the extra `progress`); compiled code shows none.

    Returns:
        `Neighbors(distances, indices)`, both (..., n_smps, k), nearest first. Indices are row numbers of ctrs, with
        leading dimensions those of the batch's own ctrs; distances are float64 if an input is float64 or a 64-bit
        integer, else float32. Where a row has fewer than k centres: -1 and inf; `Neighbors.gather` leaves these out.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: A shape, device or number does not fit.
        MissingExtraError: progress is true and tqdm is not installed.

    Exactness:
        Indices are the one right answer, ordered by (true distance, index) as docs/exactness.md defines it, whatever
        m, memory, batching or device. Distances are correctly rounded. Gradients are those of the distances to the
        neighbours found, to every order; where there is none, a subgradient: 0 of a distance of 0 and for coordinates
        that are equal, and equal shares for the largest differences of "chebyshev".

    Memory:
        max_memory, whatever the size of the results, for the search and again for each pass of backward, which
        recomputes and saves inputs and results alone. Not counted: 40 bytes a batch, 8 bytes for each centre drawn or
        allowed by a mask (n_ctrs,), copies of x where its leading dimensions broadcast and, for backward on a CPU, of
        x and ctrs that are not contiguous, on a GPU 12 bytes a centre. With gradients "cosine" keeps a few copies of x
        and ctrs; "haversine" takes 24 bytes for each row of x and ctrs, its point of the sphere.

    Example:
        >>> import torch
        >>> ctrs = torch.tensor([[0.0, 0.0], [3.0, 4.0], [0.0, 2.0]], requires_grad=True)
        >>> distances, indices = knn(torch.zeros(1, 2), ctrs, k=3)
        >>> indices, distances.detach()
        (tensor([[0, 2, 1]]), tensor([[0., 2., 5.]]))
        >>> distances.sum().backward()
        >>> ctrs.grad
        tensor([[0.0000, 0.0000],
                [0.6000, 0.8000],
                [0.0000, 1.0000]])
    """
    if is_stand_in(x):
        return handle_torch_function(knn, (x,), **locals())
    if is_spread(x, ctrs):
        return _of_spread(**locals())
    x, ctrs, batches, but_self = checked_points(x, ctrs, include_self, x_batch, ctrs_batch, lengths, ctrs_lengths)
    arguments.check_mask(mask, x, ctrs)
    arguments.check_switch("progress", progress)
    call = checked_settings(k, metric, m, max_memory, x.device, but_self)
    subset = drawn(x, ctrs, sample, generator)
    radii = None if r is None else checked_radii(r, x, ctrs, metric)
    return neighbors(x, ctrs, call, subset, mask, batches, progress=progress, radii=radii)


def _of_spread(x: Tensor, ctrs: Tensor | None, k: int, **named: Any) -> Neighbors:
    """Find neighbours of DTensors: a room above this one, which loads torch.distributed, and so by its name alone."""
    left = inspect.signature(knn).parameters
    asked = {name: value for name, value in named.items() if value is not left[name].default}
    found: Neighbors = import_module("janelia_core.ml._distributed.dtensor").knn(x, ctrs, k, asked)
    return found


def checked_settings(
    k: int, metric: str, m: int | None, max_memory: int | None, device: torch.device, but_self: bool = False
) -> Settings:
    """Return the settings of a call, if they are any."""
    check_metric(metric)
    return Settings(
        k=checked_count("k", k),
        metric=metric,
        m=None if m is None else checked_count("m", m),
        max_memory=checked_memory(max_memory, device),
        but_self=but_self,
    )


def neighbors(
    x: Tensor,
    ctrs: Tensor,
    call: Settings,
    subset: Tensor | None,
    mask: arguments.Mask | None,
    batches: Batches,
    *,
    progress: bool = False,
    kept: Among | None = None,
    radii: Tensor | None = None,
) -> Neighbors:
    """Return what `knn` does, of checked arguments.

    Args:
        x: (..., n, d).
        ctrs: (..., m, d).
        call: See `Settings`.
        subset: Ascending int64 numbers of the centres drawn; None: all.
        mask: See `knn`.
        batches: Of rows and centres.
        progress: Show a bar.
        kept: What an index keeps of ctrs (m, d), and who of them is left.
        radii: (n,) float64: beyond them no row has neighbours; None: no such limit.
    """
    plain = subset is None and kept is None and radii is None
    check_columns(call.metric, x.shape[-1], "x")
    if plain and batches is NO_BATCHES and not progress:
        brief = _briefly(x, ctrs, call, mask)
        if brief is not None:
            return brief
    flat = flatten(x, ctrs, batches.lengths, batches.ctrs_lengths)
    if progress and not torch.compiler.is_compiling():
        with progress_bar(flat.x.shape[0]):
            indices = _found(flat, call, subset, mask, batches, kept)
    else:
        indices = _found(flat, call, subset, mask, batches, kept)
    if radii is not None:
        indices = cut(flat.x, flat.ctrs, indices, radii, call.metric, call.max_memory, flat.first_ctrs)
    found = distances(flat.x, flat.ctrs, indices, call.metric, call.max_memory, flat.first_ctrs)
    shape = (*flat.shape, call.k)
    return Neighbors(found.reshape(shape), indices.reshape(shape))


class Batches(NamedTuple):
    """Checked batch vectors and lengths."""

    x_batch: Tensor | None = None
    ctrs_batch: Tensor | None = None
    lengths: Tensor | None = None
    ctrs_lengths: Tensor | None = None


NO_BATCHES = Batches()


def _briefly(x: Tensor, ctrs: Tensor, call: Settings, mask: arguments.Mask | None) -> Neighbors | None:
    """Return the neighbours of plain tensors, if a brief way serves."""
    if not (x.ndim == ctrs.ndim == 2 and is_plain(x, ctrs)):
        return None
    if mask is not None:
        if not (isinstance(mask, Tensor) and mask.ndim == 2 and is_plain(mask)):
            return None
        mask = mask.expand(x.shape[0], -1)
    k, metric, m, max_memory, but_self = call
    brief = nearest_briefly(x, ctrs, k, m, metric, max_memory, but_self=but_self, rounded=True, mask=mask)
    if brief is None:
        return None
    indices, known = brief
    known = of_few(x, ctrs, indices, metric) if known is None else known
    return Neighbors(distances(x, ctrs, indices, metric, max_memory, known=known), indices)


def checked_points(
    x: Tensor,
    ctrs: Tensor | None,
    include_self: bool,
    x_batch: Tensor | None,
    ctrs_batch: Tensor | None,
    lengths: Tensor | None,
    ctrs_lengths: Tensor | None,
) -> tuple[Tensor, Tensor, Batches, bool]:
    """Return x, ctrs, their batches, and whether rows do not meet themselves."""
    among = ctrs is None
    arguments.check_switch("include_self", include_self)
    if among:
        for name, value in (("ctrs_batch", ctrs_batch), ("ctrs_lengths", ctrs_lengths)):
            if value is not None:
                raise ValueError(f"{name} needs ctrs, which is None: neighbours among x itself")
        ctrs, ctrs_batch, ctrs_lengths = x, x_batch, lengths
    elif include_self:
        raise ValueError("include_self=True is for ctrs=None, neighbours among x itself; leave it out with ctrs")
    arguments.check_points(x, ctrs)
    assert ctrs is not None
    arguments.check_batches(x, ctrs, x_batch, ctrs_batch)
    arguments.check_lengths("lengths", lengths, "x", x)
    arguments.check_lengths("ctrs_lengths", ctrs_lengths, "ctrs", ctrs)
    given = (x_batch, ctrs_batch, lengths, ctrs_lengths)
    batches = NO_BATCHES if all(part is None for part in given) else Batches(*given)
    return x, ctrs, batches, among and not include_self


def _found(
    flat: Flat,
    call: Settings,
    subset: Tensor | None,
    mask: arguments.Mask | None,
    batches: Batches,
    kept: Among | None,
) -> Tensor:
    """Return the indices (n, k) of the flat problem."""
    indices: Tensor
    plain = is_plain(flat.x, flat.ctrs)
    if not (mask is None or isinstance(mask, Tensor) or plain or torch.compiler.is_dynamo_compiling()):
        # No operator can take a function of the caller's: it is asked once, for all pairs.
        mask = mask(torch.arange(flat.x.shape[0], device=flat.x.device), 0, flat.ctrs.shape[0])
    if isinstance(mask, Tensor) and mask.ndim > 1:
        mask = mask.expand(*flat.shape, mask.shape[-1])
    if kept is not None and not plain:  # an operator takes tensors alone: who is left is told, what is kept is not used
        subset, kept = kept.left if subset is None else kept.of(subset), None
    if kept is None and (mask is None or isinstance(mask, Tensor)):
        x, ctrs = flat.x.detach(), flat.ctrs.detach()  # torch.func would look for a derivative of the search
        indices = knn_indices(x, ctrs, *call, subset, mask, flat.groups, batches.x_batch, batches.ctrs_batch)
    else:
        search_with = _directly
        if torch.compiler.is_dynamo_compiling():
            # Not as a decorator: that takes two seconds when this module is imported.
            break_graph("torch.compile takes no mask that is a function; compile without fullgraph")
            search_with = torch.compiler.disable(_directly)  # type: ignore[no-untyped-call]
        indices = search_with(flat, call, subset, mask, batches, kept)
    return indices


def _directly(
    flat: Flat,
    call: Settings,
    subset: Tensor | None,
    mask: arguments.Mask | None,
    batches: Batches,
    kept: Among | None,
) -> Tensor:
    """Search with what no operator can take: a function of the caller's, or kept centres."""
    groups = flat.groups
    if batches.x_batch is not None and batches.ctrs_batch is not None:
        groups = of_batch_vectors(batches.x_batch, batches.ctrs_batch)
    if mask is None or isinstance(mask, Tensor):
        subset, mask = shown_by(mask, subset)
    x = flat.x.detach()
    ctrs = x if flat.ctrs is flat.x else flat.ctrs.detach()
    return search(x, ctrs, call, subset=subset, allowed=mask, groups=groups, kept=kept)
