"""The brief way: a small search of ordinary tensors goes from the call to one kernel, without plan, threads or report.

Training loops ask a small question at every step, which a kernel answers in microseconds; a plan, a crew, a place for
answers and a report would take ten times as long. So whoever holds plain tensors (`transforms.is_plain`) asks here
first. What is not small and simple is not answered, nor is a search of which a single row is left in doubt, or that
someone watches: then the general way takes it, whose look at few pairs (`at_once`) uses the same kernel.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from janelia_core.ml._knn.metrics.metric import DISTANCE
from janelia_core.ml._knn.problem import FEWEST_CTRS, LEAST_MEMORY
from janelia_core.ml._knn.report import is_watched
from janelia_core.ml._knn.small.at_once import lanes_are_ready
from janelia_core.ml._knn.small.cost import (
    FEWEST_SHARED,
    LANES,
    MOST_BY_LANES,
    held_by_lanes,
    is_for_a_pass,
    work_of_lanes,
)
from janelia_core.ml._knn.small.terms import MODULE, Terms, terms
from janelia_core.ml._runtime.arrays import Reals
from janelia_core.ml._runtime.kernels import may_serve, optional_kernels
from janelia_core.ml._runtime.machine import flushes_subnormals

_DTYPES = (torch.float32, torch.float64)
_NONE = np.empty((0, 0), np.float32)


class Brief(NamedTuple):
    """An answer.

    Attributes:
        indices: (k, n), or (n, k) with distances.
        distances: (n, k) float32, correctly rounded; None: not asked for, of float64, or not all are certain.
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
    if known is None or (known.form == DISTANCE and x.dtype == torch.float32 and is_for_a_pass(len(x), *ctrs.shape)):
        return None
    if torch.is_inference_mode_enabled():  # what it makes, nobody else could write to
        with torch.inference_mode(False):
            return _asked(search, x, ctrs, k, known, but_self, rounded)
    return _asked(search, x, ctrs, k, known, but_self, rounded)


def _asked(
    search: Callable[..., tuple[int, int]],
    x: Tensor,
    ctrs: Tensor,
    k: int,
    known: Terms,
    but_self: bool,
    rounded: bool,
) -> Brief | None:
    """Return what the kernel answers, if it leaves no row in doubt."""
    n, rounds, distances = x.shape[0], rounded and x.dtype == torch.float32, None
    indices = torch.empty((n, k) if rounded else (k, n), dtype=torch.int64, device="cpu")
    if rounds:
        distances = torch.empty((n, k), dtype=torch.float32, device="cpu")
    in_doubt, unrounded = search(
        (known.form, k, known.root, known.by_product, but_self),
        known.slack,
        known.within,
        _array(x),
        _array(ctrs),
        indices.numpy(),
        (1, k) if rounded else (n, 1),
        _NONE if distances is None else distances.numpy(),
        np.empty(n, np.bool_),
    )
    if in_doubt:
        return None
    return Brief(indices, None if unrounded else distances)


def _array(points: Tensor) -> Reals:
    array: Reals = (points.detach() if points.requires_grad else points).contiguous().numpy()
    return array


def _is_small(x: Tensor, ctrs: Tensor, wanted: int, m: int | None) -> bool:
    """Tell whether one pass of one thread does for x and ctrs, in little memory."""
    (n, d), n_ctrs, dtype = x.shape, ctrs.shape[0], x.dtype
    return (
        x.is_cpu
        and dtype in _DTYPES
        and ctrs.dtype == dtype
        and n * d > 0
        and wanted <= min(MOST_BY_LANES, n_ctrs)
        and work_of_lanes(n, n_ctrs, d) < FEWEST_SHARED
        and held_by_lanes(n_ctrs, d, wanted, dtype.itemsize) <= LEAST_MEMORY // 2
        and (m is None or min(n, LANES) * n_ctrs <= n * max(m, FEWEST_CTRS))
        and not (x.is_neg() or ctrs.is_neg())
    )
