"""Distances of ragged pairs on a CPU, by kernels; what these leave in doubt, as all others."""

from __future__ import annotations

import itertools
from functools import partial

import torch
from torch import Tensor

from janelia_core.ml._knn.data.points import as_stored
from janelia_core.ml._knn.distances.distances import distances, result_dtype
from janelia_core.ml._knn.distances.work import for_kernels
from janelia_core.ml._knn.metrics.metric import DISTANCE, OF_GAPS, Metric
from janelia_core.ml._knn.metrics.registry import metric_named
from janelia_core.ml._runtime.kernels import optional_kernels
from janelia_core.ml._runtime.loading import are_ready
from janelia_core.ml._runtime.machine import this_machine
from janelia_core.ml._runtime.workers import Workers

_PAIRS = 1 << 16  # of a worker at a time


@optional_kernels
def of_ragged(x: Tensor, ctrs: Tensor, offsets: Tensor, indices: Tensor, metric: str, max_memory: int) -> Tensor | None:
    """Return the distances between rows of x and the centres listed for them; None where kernels don't serve.

    Args:
        x: (n, d).
        ctrs: (n_ctrs, d).
        offsets: (n + 1,) int64: row i has indices[offsets[i] : offsets[i + 1]].
        indices: (p,) int64 row numbers of ctrs.
        metric: As for `distances`, as all that is known of the result.
        max_memory: Bytes of workspace, beside a byte a pair.
    """
    known, dtype = metric_named(metric), result_dtype(x, ctrs)
    if (
        known.form not in (OF_GAPS if dtype == torch.float32 else (DISTANCE,))
        or x.shape[1] == 0
        or x.device.type != "cpu"
        or not for_kernels(x, ctrs, known)
    ):
        return None
    use = "ragged", known.form, known.root, x.dtype
    if not are_ready(use, partial(_rehearse, x.dtype, known)):
        return None
    out = torch.empty(len(indices), dtype=dtype, device="cpu")
    certain = torch.empty(len(indices), dtype=torch.bool, device="cpu")
    with torch.inference_mode(False), Workers.if_several(_count(len(indices))) as workers:
        points = as_stored(x), as_stored(ctrs)

        def fill(rows: tuple[int, int]) -> int:
            return _fill(known, *points, offsets, indices, rows, out, certain)

        if sum(workers.each(fill, _parts(offsets))):
            left = (~certain).nonzero()[:, 0]
            row = torch.searchsorted(offsets, left, right=True) - 1
            out[left] = distances(points[0][row], points[1], indices[left, None], metric, max_memory)[:, 0]
    return out


def _fill(
    metric: Metric,
    x: Tensor,
    ctrs: Tensor,
    offsets: Tensor,
    indices: Tensor,
    rows: tuple[int, int],
    out: Tensor,
    certain: Tensor,
) -> int:
    from janelia_core.ml._knn.distances.ragged_kernels import rounded_ragged, rounded_ragged_sums
    from janelia_core.ml._knn.metrics.gaps import WAYS

    points, listed = (x.numpy(), ctrs.numpy()), (offsets.numpy(), indices.numpy())
    written = out.numpy(), certain.numpy()
    if out.dtype == torch.float64:
        return rounded_ragged_sums(metric.root, *points, *listed, rows, *written)
    return rounded_ragged(WAYS[metric.form], metric.root, metric.bound(x.shape[1]), *points, *listed, rows, *written)


def _rehearse(dtype: torch.dtype, metric: Metric) -> None:
    points, listed = (
        torch.ones(1, 2, dtype=dtype, device="cpu"),
        (torch.tensor([0, 1], device="cpu"), torch.tensor([0], device="cpu")),
    )
    out = torch.empty(1, dtype=result_dtype(points, points), device="cpu")
    _fill(metric, points, points, *listed, (0, 1), out, torch.empty(1, dtype=torch.bool, device="cpu"))


def _count(n_pairs: int) -> int:
    return max(1, min(this_machine(torch.device("cpu")).threads, n_pairs // _PAIRS))


def _parts(offsets: Tensor) -> list[tuple[int, int]]:
    """Cut rows into parts of about _PAIRS pairs each."""
    n, total = len(offsets) - 1, int(offsets[-1])
    wanted = torch.arange(0, total, _PAIRS, device="cpu")
    starts = [0, *(torch.searchsorted(offsets, wanted[1:], right=True) - 1).tolist(), n]
    return [(a, b) for a, b in itertools.pairwise(starts) if a < b]
