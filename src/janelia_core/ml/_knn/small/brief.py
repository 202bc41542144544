"""The brief way: a small search of ordinary tensors goes from the call to one kernel, without plan, threads or report.

Training loops ask a small question at every step, which a kernel answers in microseconds; a plan, a crew, a place for
answers and a report would take ten times as long. So whoever holds plain tensors (`transforms.is_plain`) asks here
first. What is not small and simple is not answered, nor is a search of which a single row is left in doubt, or that
someone watches: then the general way takes it, whose look at few pairs (`at_once`) uses the same kernel.
"""

from __future__ import annotations

import contextlib
import sys
from typing import NamedTuple

import torch
from torch import Tensor

from janelia_core.ml._knn.problem import FEWEST_CTRS, LEAST_MEMORY
from janelia_core.ml._knn.report import is_watched
from janelia_core.ml._knn.small.at_once import lanes_are_ready
from janelia_core.ml._knn.small.cost import LANES, MOST_BY_LANES, held_by_lanes
from janelia_core.ml._knn.small.terms import MODULE, terms
from janelia_core.ml._runtime.kernels import may_serve, optional_kernels
from janelia_core.ml._runtime.machine import flushes_subnormals

_DTYPES = (torch.float32, torch.float64)
_MOST_WORK = 1 << 23  # coordinates of pairs: what more takes is worth a thread's start
_PER_PAIR = 6  # coordinates that cost as much as what a pair costs beside its own
_NONE = torch.empty(0, device="cpu").numpy()


class Brief(NamedTuple):
    """An answer.

    Attributes:
        indices: (k, n), or (n, k) with distances.
        distances: (n, k) float32, correctly rounded; None: not asked for, or not all are certain.
    """

    indices: Tensor
    distances: Tensor | None


@optional_kernels
def nearest_briefly(
    x: Tensor, ctrs: Tensor, k: int, m: int | None, metric: str, *, but_self: bool = False, rounded: bool = False
) -> Brief | None:
    """Return the k nearest centres of each row of x (n, d) among ctrs (n_ctrs, d), if the brief way serves.

    Args:
        x: Plain tensor.
        ctrs: Likewise.
        k: At least 1.
        m: Bounds how many scores are held at once; None: nothing does.
        metric: One of METRICS.
        but_self: x is ctrs, and rows do not meet themselves.
        rounded: Answer row by row, with distances.
    """
    search = getattr(sys.modules.get(MODULE), "nearest_by_lanes", None)  # while it is imported there is none
    if search is None or not _is_small(x, ctrs, k + but_self, m) or not may_serve():
        return None
    if flushes_subnormals() or is_watched() or not lanes_are_ready(x.dtype, x.dtype):
        return None
    known = terms(metric, x.shape[1], x.dtype)
    if known is None:
        return None
    n = x.shape[0]
    with torch.inference_mode(False) if torch.is_inference_mode_enabled() else contextlib.nullcontext():
        indices = torch.empty((n, k) if rounded else (k, n), dtype=torch.int64, device="cpu")
        clear = torch.empty(n, dtype=torch.bool, device="cpu")
        distances = (
            torch.empty(n, k, device="cpu", dtype=torch.float32) if rounded and x.dtype == torch.float32 else None
        )
    in_doubt, unrounded = search(
        (known.form, k, known.root, known.by_product, but_self),
        known.slack,
        known.within,
        x.detach().contiguous().numpy(),
        ctrs.detach().contiguous().numpy(),
        indices.numpy().reshape(-1),
        (1, k) if rounded else (n, 1),
        _NONE if distances is None else distances.numpy().reshape(-1),
        clear.numpy(),
    )
    if in_doubt:
        return None
    return Brief(indices, None if unrounded else distances)


def _is_small(x: Tensor, ctrs: Tensor, wanted: int, m: int | None) -> bool:
    """Tell whether one pass of one thread does for x and ctrs, in little memory."""
    (n, d), n_ctrs, dtype = x.shape, ctrs.shape[0], x.dtype
    return (
        x.is_cpu
        and dtype in _DTYPES
        and ctrs.dtype == dtype
        and n * d > 0
        and wanted <= min(MOST_BY_LANES, n_ctrs)
        and max(n, LANES) * n_ctrs * (d + _PER_PAIR) <= _MOST_WORK
        and held_by_lanes(n_ctrs, d, wanted, dtype.itemsize) <= LEAST_MEMORY // 2
        and (m is None or min(n, LANES) * n_ctrs <= n * max(m, FEWEST_CTRS))
        and not (x.is_neg() or ctrs.is_neg())
    )
