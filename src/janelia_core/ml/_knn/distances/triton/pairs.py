"""Distances of listed pairs by one launch of the kernel, and one wait: for how many pairs stay in doubt."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from janelia_core.ml._knn.metrics.metric import COSINE, FORMS, Metric
from janelia_core.ml._runtime.device_kernels import device_kernels_serve, launching

DTYPES = (
    torch.float64,
    torch.float32,
    torch.float16,
    torch.bfloat16,
    torch.uint8,
    torch.int8,
    torch.int16,
    torch.int32,
)
"""Dtypes that the kernel reads: float64 holds all their values."""
MOST_IN_DOUBT, _PER_DOUBT = 1 << 17, 16  # pairs listed, and bytes of each
_PER_CENTRE = 32  # bytes of a pair whose centre is looked up
_TILE = 512  # coordinates that a program holds at a time
_COLUMNS = (2, 3, 5)  # of which it holds 2^2, 2^3, 2^5

Centres = Callable[[slice], Tensor]


def fits(x: Tensor, ctrs: Tensor, metric: Metric) -> bool:
    """Tell whether the kernel knows the metric and reads these values."""
    return metric.form in FORMS and x.dtype in DTYPES and ctrs.dtype in DTYPES and device_kernels_serve(x, ctrs)


def rounded_pairs(
    metric: Metric, x: Tensor, ctrs: Tensor, indices: Tensor, centres: Centres | None, max_memory: int, out: Tensor
) -> Tensor:
    """Fill out (n, k), contiguous, with the distances of rows x (n, d) and their centres, as `distances` wants them.

    Args:
        metric: Of a form that the kernel knows.
        x: (n, d), d > 0.
        ctrs: (m, d), m > 0.
        indices: (n, k) int64.
        centres: See `distances`.
        max_memory: Bytes of workspace.
        out: (n, k) float32 or float64.

    Returns:
        The pairs (p, 2) that stay in doubt, in any order, on the device: their numbers, row by row, and their centres.
        Of these out holds anything.
    """
    x, ctrs = x.resolve_neg(), ctrs.resolve_neg()
    n, k = indices.shape
    most = max(k, min(MOST_IN_DOUBT, max_memory // (2 * _PER_DOUBT)))
    per = n if centres is None else max(1, max_memory // (2 * _PER_CENTRE * k))

    def in_doubt(start: int, stop: int) -> Tensor | None:
        """Round some rows; return the pairs in doubt, or None if there are more than are listed."""
        doubtful = torch.empty(min(most, k * (stop - start)), 2, dtype=torch.int64, device=x.device)
        count = torch.zeros(1, dtype=torch.int64, device=x.device)
        for first in range(start, stop, per):
            rows = slice(first, min(first + per, stop))
            there = indices[rows] if centres is None else centres(rows)
            _launch(metric, x, ctrs, there, first * k, out, doubtful, count)
        found = int(count)
        return doubtful[:found] if found <= len(doubtful) else None

    whole = in_doubt(0, n)
    if whole is not None:
        return whole
    found = [in_doubt(first, min(first + most // k, n)) for first in range(0, n, most // k)]
    return torch.cat([part for part in found if part is not None])


def _launch(
    metric: Metric, x: Tensor, ctrs: Tensor, indices: Tensor, first: int, out: Tensor, doubtful: Tensor, count: Tensor
) -> None:
    from janelia_core.ml._knn.distances.triton.kernel import round_pairs

    n_pairs, fixed = indices.numel(), constants(metric, x, ctrs, x.shape[1])
    with launching(x):
        round_pairs[(-(-n_pairs // fixed["P"]),)](
            *(x, ctrs, indices, out, doubtful, count, n_pairs, first, indices.shape[1], x.shape[1]),
            *(*x.stride(), *ctrs.stride(), *indices.stride(), len(doubtful)),
            **fixed,
            enable_fp_fusion=False,
        )


def constants(metric: Metric, x: Tensor, ctrs: Tensor, d: int) -> dict[str, int]:
    """Return what the kernel is compiled for."""
    log = next((log for log in _COLUMNS if d <= 1 << log), _COLUMNS[-1])
    tile = _TILE // 2 if metric.form == COSINE else _TILE  # three sums of a pair
    wide = torch.float64 in (x.dtype, ctrs.dtype)
    return {"FORM": metric.form, "ROOT": metric.root, "WIDE": wide, "P": tile >> log, "W": 1 << log, "LOG": log}
