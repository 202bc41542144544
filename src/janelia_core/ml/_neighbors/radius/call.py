"""radius() and radius_count(): the calls, from their arguments to what is found."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torch.overrides import handle_torch_function

from janelia_core.ml._knn.among import Among
from janelia_core.ml._knn.face import checked_count, checked_memory
from janelia_core.ml._knn.metrics.mapped import check_columns
from janelia_core.ml._neighbors import arguments
from janelia_core.ml._neighbors.call import checked_points
from janelia_core.ml._neighbors.groups import flatten
from janelia_core.ml._neighbors.progress import progress_bar
from janelia_core.ml._neighbors.radius.distances import ragged_distances
from janelia_core.ml._neighbors.radius.found import RadiusNeighbors
from janelia_core.ml._neighbors.radius.members import RadiusCall, members
from janelia_core.ml._neighbors.radius.radii import checked_radii
from janelia_core.ml._neighbors.spelling import check_metric, explained
from janelia_core.ml._runtime.transforms import is_stand_in

SortBy = Literal["distance", "index"]
_ORDERS = get_args(SortBy)


@explained
def radius(
    x: Tensor,
    ctrs: Tensor | None = None,
    r: float | Tensor = 1.0,
    *,
    metric: str = "euclidean",
    max_neighbors: int | None = None,
    sort_by: SortBy = "distance",
    m: int | None = None,
    max_memory: int | None = None,
    mask: Tensor | Callable[[Tensor, int, int], Tensor] | None = None,
    include_self: bool = False,
    x_batch: Tensor | None = None,
    ctrs_batch: Tensor | None = None,
    lengths: Tensor | None = None,
    ctrs_lengths: Tensor | None = None,
    progress: bool = False,
) -> RadiusNeighbors:
    """Find all centres within the distance r of each row of x, exactly, and the distances to them, differentiable.

    Args:
        x: (..., n_smps, d) samples, as for `knn`.
        ctrs: (..., n_ctrs, d) centres. None: neighbours among x itself.
        r: The radius: one number, or a tensor of one for each row (..., n_smps). At least 0, but for "dot", whose
            distances are of any sign; inf: all that are not NaN away.
        metric: As for `knn`; r is a distance of that metric, and so the square of one for "sqeuclidean".
        max_neighbors: The nearest so many at most of each row; None: all.
        sort_by: "distance": a row's neighbours come nearest first, ties by index. "index": by ascending index.
        m: Bounds how many scores are held at once, as for `knn_mc`; None: as many as the memory allows.
        max_memory: Bytes of workspace beyond inputs and results, as for `knn`.
        mask: Who may be a neighbour, as for `knn`.
        include_self: With ctrs=None, whether row i may be a neighbour of itself.
        x_batch: (n_smps,) integers, ascending: the batch of each row, as for `knn`.
        ctrs_batch: (n_ctrs,) likewise for centres.
        lengths: (...) integers: rows of x that count in each batch of a padded x.
        ctrs_lengths: (...) likewise for padded ctrs.
        progress: Show a bar of the rows searched, by tqdm (the extra `progress`).

    Returns:
        `RadiusNeighbors(offsets, indices, distances)`: row i, of x flattened over its leading dimensions, has
        `indices[offsets[i] : offsets[i + 1]]`, numbered as by `knn`; distances of the dtype that `knn` gives.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: A shape, device or number does not fit; r is negative or NaN.
        MemoryError: The result itself would not fit; the error says how large it is. `radius_count` tells beforehand.

    Exactness:
        A centre is found where its true distance, of the stored values as real numbers, is at most the stored r: a
        centre on the boundary belongs, one that is farther by any amount does not, whatever m, memory, batching or
        device. Note that a float32 r such as `torch.tensor(0.1)` is another number than 0.1.

    Memory:
        max_memory beyond inputs and result; more where the members of a single row do not fit into that, where batches
        have a max_neighbors (24 bytes for each that there may be), and with gradients: then a row of x is kept for
        every 16 of its neighbours. The result takes 12 bytes a neighbour, or 16.

    Example:
        >>> import torch
        >>> ctrs = torch.tensor([[0.0, 0.0], [3.0, 4.0], [0.0, 2.0]])
        >>> radius(torch.tensor([[0.0, 0.0], [3.0, 3.0]]), ctrs, r=2.0)
        RadiusNeighbors(offsets=tensor([0, 2, 3]), indices=tensor([0, 2, 1]), distances=tensor([0., 2., 1.]))
    """
    if is_stand_in(x):
        return handle_torch_function(radius, (x,), **locals())
    arguments.check_switch("progress", progress)
    batches = x_batch, ctrs_batch, lengths, ctrs_lengths
    asked = _checked(x, ctrs, r, metric, m, max_memory, mask, include_self, *batches)
    asked = _limited(asked, max_neighbors, sort_by)
    if progress and not torch.compiler.is_compiling():
        with progress_bar(len(asked.flat.x)):
            return _found(asked)
    return _found(asked)


def radius_among(
    x: Tensor,
    ctrs: Tensor,
    kept: Among,
    r: float | Tensor,
    metric: str,
    max_neighbors: int | None,
    sort_by: SortBy,
    max_memory: int | None,
    but_self: bool,
) -> RadiusNeighbors:
    """Return what `radius` does among kept centres; but_self: x are the centres, and no row is its own neighbour."""
    asked = _checked(x, None if but_self else ctrs, r, metric, None, max_memory, None, False)
    return _found(_limited(asked._replace(kept=kept), max_neighbors, sort_by))


def _limited(asked: RadiusCall, max_neighbors: int | None, sort_by: SortBy) -> RadiusCall:
    if sort_by not in _ORDERS:
        raise ValueError(f"sort_by must be one of {', '.join(map(repr, _ORDERS))}, got {sort_by!r}")
    most = None if max_neighbors is None else checked_count("max_neighbors", max_neighbors)
    return asked._replace(nearest=sort_by == "distance", max_neighbors=most)


def _found(asked: RadiusCall) -> RadiusNeighbors:
    found = members(asked)
    far = ragged_distances(asked.flat, found, asked.metric, asked.max_memory)
    return RadiusNeighbors(found.offsets, found.indices, far)


@explained
def radius_count(
    x: Tensor,
    ctrs: Tensor | None = None,
    r: float | Tensor = 1.0,
    *,
    metric: str = "euclidean",
    m: int | None = None,
    max_memory: int | None = None,
    mask: Tensor | Callable[[Tensor, int, int], Tensor] | None = None,
    include_self: bool = False,
    x_batch: Tensor | None = None,
    ctrs_batch: Tensor | None = None,
    lengths: Tensor | None = None,
    ctrs_lengths: Tensor | None = None,
) -> Tensor:
    """Count the centres within the distance r of each row of x, exactly.

    The arguments, errors and exactness are those of `radius`; the memory is max_memory beside the result.

    Returns:
        (..., n_smps) int64.

    Example:
        >>> import torch
        >>> radius_count(torch.tensor([[0.0], [1.0], [3.0]]), r=2.0)
        tensor([1, 2, 1])
    """
    if is_stand_in(x):
        return handle_torch_function(radius_count, (x,), **locals())
    batches = x_batch, ctrs_batch, lengths, ctrs_lengths
    asked = _checked(x, ctrs, r, metric, m, max_memory, mask, include_self, *batches)
    return members(asked._replace(count_only=True)).offsets.diff().reshape(asked.flat.shape)


def _checked(
    x: Tensor,
    ctrs: Tensor | None,
    r: float | Tensor,
    metric: str,
    m: int | None,
    max_memory: int | None,
    mask: Any,
    include_self: bool,
    x_batch: Tensor | None = None,
    ctrs_batch: Tensor | None = None,
    lengths: Tensor | None = None,
    ctrs_lengths: Tensor | None = None,
) -> RadiusCall:
    """Return what is asked, if it is anything."""
    batches = x_batch, ctrs_batch, lengths, ctrs_lengths
    x, ctrs, batch, but_self = checked_points(x, ctrs, include_self, *batches)
    arguments.check_mask(mask, x, ctrs)
    check_metric(metric)
    check_columns(metric, x.shape[-1], "x")
    flat = flatten(x, ctrs, batch.lengths, batch.ctrs_lengths)
    if isinstance(mask, Tensor) and mask.ndim > 1:
        mask = mask.expand(*flat.shape, mask.shape[-1])
    return RadiusCall(
        flat=flat,
        r=checked_radii(r, x, ctrs, metric),
        metric=metric,
        m=None if m is None else checked_count("m", m),
        max_memory=checked_memory(max_memory, x.device),
        but_self=but_self,
        mask=mask,
        x_batch=batch.x_batch,
        ctrs_batch=batch.ctrs_batch,
    )
