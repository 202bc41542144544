"""The brief way: a small search of ordinary tensors goes from the call to one kernel, without plan, blocks or report.

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

from janelia_core.ml._knn.data.points import as_array
from janelia_core.ml._knn.metrics.metric import DISTANCE
from janelia_core.ml._knn.problem import FEWEST_CTRS, LEAST_MEMORY
from janelia_core.ml._knn.report import is_watched
from janelia_core.ml._knn.rows import parts
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
from janelia_core.ml._runtime.kernels import may_serve, optional_kernels
from janelia_core.ml._runtime.machine import flushes_subnormals
from janelia_core.ml._runtime.workers import shared

_DTYPES = (torch.float32, torch.float64)
_MOST_WORK = FEWEST_SHARED << 2  # coordinates of pairs: two milliseconds of a core
_PER_THREAD = FEWEST_SHARED >> 1  # of them, for which another thread is worth its start


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
    x: Tensor,
    ctrs: Tensor,
    k: int,
    m: int | None,
    metric: str,
    max_memory: int,
    *,
    but_self: bool = False,
    rounded: bool = False,
) -> Brief | None:
    """Return the k nearest centres of each row of x (n, d) among ctrs (n_ctrs, d), if the brief way serves.

    Args:
        x: Plain tensor.
        ctrs: Likewise.
        k: At least 1.
        m: Bounds how many scores are held at once; None: nothing does.
        metric: One of METRICS.
        max_memory: Bytes of workspace.
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
    most = 1 if but_self else max_memory // 2 // held_by_lanes(ctrs.shape[0], ctrs.shape[1], k, x.dtype.itemsize)
    if torch.is_inference_mode_enabled():  # what it makes, nobody else could write to
        with torch.inference_mode(False):
            return _asked(search, x, ctrs, k, known, but_self, rounded, most)
    return _asked(search, x, ctrs, k, known, but_self, rounded, most)


def _asked(
    search: Callable[..., tuple[int, int]],
    x: Tensor,
    ctrs: Tensor,
    k: int,
    known: Terms,
    but_self: bool,
    rounded: bool,
    most: int,
) -> Brief | None:
    """Return what the kernel answers, called by `most` threads at most, if it leaves no row in doubt."""
    n, rounds, shares = x.shape[0], rounded and x.dtype == torch.float32, _shares(x, ctrs, most)
    by_row = rounded or shares > 1
    indices = np.empty((n, k) if by_row else (k, n), np.int64)
    distances = np.empty((n, k) if rounds else (0, 0), np.float32)
    rows, centres, clear = as_array(x), as_array(ctrs), np.empty(n, np.bool_)

    def searched(part: slice) -> tuple[int, int]:
        return search(
            (known.form, k, known.root, known.by_product, but_self),
            known.slack,
            known.within,
            rows[part],
            centres,
            indices[part] if by_row else indices,
            (1, k) if by_row else (n, 1),
            distances[part] if rounds else distances,
            clear[part],
        )

    whole = slice(0, n)
    found = [searched(whole)] if shares == 1 else _by_all(searched, list(parts(n, -(-n // shares // LANES) * LANES)))
    if any(in_doubt for in_doubt, _ in found):
        return None
    answer = torch.from_numpy(indices if rounded or not by_row else np.ascontiguousarray(indices.T))
    certain = rounds and not any(unrounded for _, unrounded in found)
    return Brief(answer, torch.from_numpy(distances) if certain else None)


def _by_all(searched: Callable[[slice], tuple[int, int]], rows: list[slice]) -> list[tuple[int, int]]:
    """Return what is found of each part of the rows, by as many threads, of which the calling one is one."""
    found = [(0, 0)] * len(rows)

    def work(number: int) -> None:
        found[number] = searched(rows[number])

    shared(work, range(len(rows)), len(rows))
    return found


def _shares(x: Tensor, ctrs: Tensor, most: int) -> int:
    """Return how many threads share the rows."""
    worth = min(most, work_of_lanes(x.shape[0], *ctrs.shape) // _PER_THREAD)
    return 1 if worth < 2 else min(worth, torch.get_num_threads(), -(-x.shape[0] // LANES))


def _is_small(x: Tensor, ctrs: Tensor, wanted: int, m: int | None) -> bool:
    """Tell whether one pass, which takes a few milliseconds at most, does for x and ctrs, in little memory."""
    (n, d), n_ctrs, dtype = x.shape, ctrs.shape[0], x.dtype
    return (
        x.is_cpu
        and dtype in _DTYPES
        and ctrs.dtype == dtype
        and n * d > 0
        and wanted <= min(MOST_BY_LANES, n_ctrs)
        and work_of_lanes(n, n_ctrs, d) < _MOST_WORK
        and held_by_lanes(n_ctrs, d, wanted, dtype.itemsize) <= LEAST_MEMORY // 2
        and (m is None or min(n, LANES) * n_ctrs <= n * max(m, FEWEST_CTRS))
        and not (x.is_neg() or ctrs.is_neg())
    )
