"""Distances of given pairs, correctly rounded: unique, whatever the device, and monotone along a row.

The true value in real arithmetic over the stored values is enclosed between two float64 numbers that provably
contain it; where both round to the same number of the result's format, that is the answer. What float64 cannot
decide is enclosed in double-double arithmetic, and what that cannot decide is computed in integers.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from janelia_core.ml._knn.data.points import as_stored
from janelia_core.ml._knn.distances.angles import angles
from janelia_core.ml._knn.distances.off_cpu import off_cpu
from janelia_core.ml._knn.distances.work import Centres, Work, are_loaded, exact, for_kernels
from janelia_core.ml._knn.metrics.metric import DISTANCE, DOT
from janelia_core.ml._knn.metrics.registry import metric_named
from janelia_core.ml._knn.problem import DEFAULT_MEMORY, PER_WORKER
from janelia_core.ml._runtime.kernels import may_serve, optional_kernels
from janelia_core.ml._runtime.machine import this_machine
from janelia_core.ml._runtime.workers import Workers


class Typed(Protocol):
    """What has a dtype: a tensor, or a file of vectors."""

    @property
    def dtype(self) -> torch.dtype:
        """Of its values."""
        ...


_OF_FEW = (torch.float32, torch.float64)
_MOST_OF_FEW = 1 << 19  # coordinates of pairs: threads are worth their start for more
_TINY = 1 << 11  # coordinates of pairs: torch shares out no operation on so few
_FEWEST_PAIRS = 4096  # a thread is worth its start from so many pairs,
_FEWEST_COORDINATES, _FEWEST_COLUMNS = 1 << 18, 8  # or coordinates of pairs that kernels round to float32


def result_dtype(x: Typed, ctrs: Typed) -> torch.dtype:
    """Return the dtype of distances: float64 where float32 might be narrower than an input, else float32."""
    wide = (torch.float64, torch.int64, torch.uint64)
    return torch.float64 if x.dtype in wide or ctrs.dtype in wide else torch.float32


@optional_kernels
def distances(
    x: Tensor,
    ctrs: Tensor,
    indices: Tensor,
    metric: str = "euclidean",
    max_memory: int = DEFAULT_MEMORY,
    *,
    centres: Centres | None = None,
) -> Tensor:
    """Return the distances between rows of x and the centres at indices, correctly rounded.

    Args:
        x: (n, d) real tensor.
        ctrs: (n_ctrs, d) real tensor on the same device.
        indices: (n, k) int64 row numbers of ctrs, -1 where there is none.
        metric: "euclidean", "sqeuclidean", "dot" (-<x, c>), "cosine" (1 - cosine; a zero vector has cosine 0
            with every vector) and so on; see `metrics`.
        max_memory: Bytes of workspace beyond inputs and result.
        centres: Called as centres(rows), returns the row numbers (r, k) of ctrs that the indices of some rows stand
            for; None: the indices themselves.

    Returns:
        (n, k) float64 if x or ctrs is float64, int64 or uint64, else float32; +inf where the index is -1.

    Exactness:
        The true distance of the stored values, rounded once, to nearest even; zero is +0. Where a value is not
        finite: what IEEE evaluation gives, without overflow of what is finite; for "cosine" that is NaN.

    Memory:
        max_memory; more only where a single pair does not fit into that.
    """
    x, ctrs, dtype = as_stored(x), as_stored(ctrs), result_dtype(x, ctrs)
    if metric_named(metric).mapped_to:
        return angles(x, ctrs, indices, dtype, centres)
    if indices.numel() == 0 or x.shape[1] == 0 or len(ctrs) == 0:
        value = exact([[]], [[]], metric_named(metric), dtype).to(x.device)  # of points without coordinates
        return value.expand(indices.shape).masked_fill(indices < 0, torch.inf)
    known = metric_named(metric)
    if x.device.type != "cpu":
        return off_cpu(x, ctrs, indices, known, dtype, max_memory, centres)
    # Workers could not write to what inference mode makes; it is a setting of the thread.
    rounded_there = dtype == torch.float32 and for_kernels(x, ctrs, metric_named(metric))
    count = _count(x, indices, max_memory, rounded_there)
    tiny = indices.numel() * x.shape[1] < _TINY
    with torch.inference_mode(False), Workers.if_several(count, tiny, x.device) as workers:
        out = torch.empty(indices.shape, dtype=dtype, device=x.device)
        work = Work(x, ctrs, metric_named(metric), out.dtype, max_memory // count)
        rows = max(1, min(work.pairs_at_once // indices.shape[1], -(-len(x) // count)))

        def fill(start: int) -> None:
            part = slice(start, start + rows)
            there = indices[part] if centres is None else centres(part)
            out[part] = work.distances(x[part], there).to(out.device)

        workers.each(fill, range(0, len(x), rows))
    return out


@optional_kernels
def of_few(x: Tensor, ctrs: Tensor, indices: Tensor, metric: str) -> Tensor | None:
    """Return the distances of few pairs of points of one dtype, by a kernel alone; None where it does not serve.

    Args:
        x: (n, d).
        ctrs: (n_ctrs, d).
        indices: (n, k) int64 row numbers of ctrs.
        metric: As for `distances`.
    """
    known = metric_named(metric)
    if not (x.dtype == ctrs.dtype and x.dtype in _OF_FEW and known.form in (DISTANCE, DOT) and may_serve()):
        return None
    if indices.numel() * max(x.shape[1], _FEWEST_COLUMNS) > _MOST_OF_FEW or not are_loaded(known, x.dtype, x.dtype):
        return None
    from janelia_core.ml._knn.distances.pair_sums import rounded_pairs

    with torch.inference_mode(False):  # or nobody else could write to what it makes
        points = as_stored(x).contiguous(), as_stored(ctrs).contiguous()
        out, certain = rounded_pairs(known, *points, indices, x.dtype)
    return out if certain is None else None


def _count(x: Tensor, indices: Tensor, max_memory: int, rounded_there: bool) -> int:
    worth = indices.numel() // _FEWEST_PAIRS
    if rounded_there:
        worth = indices.numel() * max(x.shape[1], _FEWEST_COLUMNS) // _FEWEST_COORDINATES
    return max(1, min(this_machine(x.device).threads, worth, max_memory // PER_WORKER))
