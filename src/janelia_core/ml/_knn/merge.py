"""The k nearest of centres that come block by block, as one search over all of them would find them.

Per block the search's own k best are exact; what is left is a merge of two short lists, and near-ties between
them. The merge asks for centres of earlier blocks only where float64 cannot tell such a tie.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from janelia_core.ml._knn.arithmetic.bounds import OUTWARD
from janelia_core.ml._knn.contract import Stored
from janelia_core.ml._knn.data.frame import survey
from janelia_core.ml._knn.data.points import Points
from janelia_core.ml._knn.distances.distances import distances
from janelia_core.ml._knn.find import find
from janelia_core.ml._knn.metrics.metric import Metric
from janelia_core.ml._knn.metrics.registry import metric_named
from janelia_core.ml._knn.rows import picked
from janelia_core.ml._knn.settle.settle import settle
from janelia_core.ml._knn.verify.verify import are_loaded, candidate_values, order, ordered
from janelia_core.ml._runtime.kernels import may_serve, optional_kernels
from janelia_core.ml._runtime.machine import this_machine
from janelia_core.ml._runtime.workers import Workers

_PER_CANDIDATE = 160  # bytes: sort keys, permutations and lists
_PER_COORDINATE = 64  # bytes: temporaries of verify, in float64
_MOST_CANDIDATES, _MOST_COORDINATES = 1 << 17, 1 << 17
_NARROW = (torch.float16, torch.bfloat16, torch.float32, torch.uint8, torch.int8, torch.int16, torch.int32)


Find = Callable[..., Tensor]
"""find(x, ctrs, k, subset=, allowed=) -> (k, n) int64, as `find.find`."""


class Among(Protocol):
    """Who may be found: a search by rules of the caller's, of whom a row may have fewer than k."""

    def find(self, find: Find, x: Tensor, ctrs: Tensor, k: int) -> Tensor:
        """Search with `find`; return (k, n) int64 row numbers of ctrs, nearest first, -1 where there are no more."""
        ...


@dataclass
class Running:
    """The k nearest of each row so far, by one metric.

    Attributes:
        name: The metric.
        indices: (n, k) int64 centre numbers in the exact order, -1 where fewer than k centres were seen.
        value: (n, k) float64 order values of these centres (`Metric.exponent` is `exponent`), NaN where indices is -1.
        error: (n, k) float64: how far each value can be off.
        distances: (n, k) the distances as they are handed out, or None where nobody asks; NaN where indices is -1.
        exact: No rounding happened in any value so far.
        in_float64: float64 holds all stored values so far, and their squares.
        exponent: The largest `Frame.verify_exponent` so far; None before the first block.
    """

    name: str
    indices: Tensor
    value: Tensor
    error: Tensor
    distances: Tensor | None = None
    exact: bool = True
    in_float64: bool = True
    exponent: int | None = None

    @classmethod
    def empty(cls, n: int, k: int, metric: str = "euclidean", distances: torch.dtype | None = None) -> Running:
        """Return lists of n rows that have seen no centre, with distances of a dtype or without."""
        return cls(
            metric,
            torch.full((n, k), -1, dtype=torch.int64),
            torch.full((n, k), torch.nan, dtype=torch.float64),
            torch.zeros(n, k, dtype=torch.float64),
            None if distances is None else torch.full((n, k), torch.nan, dtype=distances),
        )

    def copy(self) -> Running:
        """Return the same lists, which merging into one of both leaves as they are in the other."""
        return replace(
            self,
            indices=self.indices.clone(),
            value=self.value.clone(),
            error=self.error.clone(),
            distances=None if self.distances is None else self.distances.clone(),
        )

    @property
    def metric(self) -> Metric:
        """What the values are by."""
        return metric_named(self.name, self.exponent or 0, self.exact)


def nearest(
    x: Tensor,
    ctrs: Tensor,
    k: int,
    metric: str,
    dtype: torch.dtype | None,
    *,
    m: int | None = None,
    max_memory: int,
    device: torch.device | None = None,
    among: Among | None = None,
) -> tuple[Tensor, Tensor | None]:
    """Search centres that all come in one block: there is nothing to merge.

    Args:
        x: (n, d) rows, on the CPU.
        ctrs: (n_ctrs, d) centres, on the CPU.
        k: Neighbours of each row, at most n_ctrs.
        metric: See `metrics`.
        dtype: Of the distances; None: nobody asks for them.
        m: As for `find`.
        max_memory: Bytes of workspace.
        device: Where to search; None: on the CPU.
        among: Who may be found; None: all.

    Returns:
        (n, k) int64 row numbers of ctrs, -1 where there are no more, and their distances, inf there.
    """
    search = functools.partial(find, m=m, max_memory=max_memory, metric=metric)
    indices = _found(search, x, ctrs, k, device, among).T.contiguous()
    return indices, None if dtype is None else distances(x, ctrs, indices, metric, max_memory).to(dtype)


def _found(search: Find, x: Tensor, ctrs: Tensor, k: int, device: torch.device | None, among: Among | None) -> Tensor:
    x_there, ctrs_there = (x, ctrs) if device is None else (x.to(device), ctrs.to(device))
    found = search(x_there, ctrs_there, k) if among is None else among.find(search, x_there, ctrs_there, k)
    return found.cpu()


def extend(
    running: Running,
    x: Tensor,
    block: Tensor,
    first: int,
    ctrs: Stored,
    *,
    m: int | None = None,
    max_memory: int,
    device: torch.device | None = None,
    among: Among | None = None,
) -> None:
    """Search one more block of centres and merge what it holds into `running`.

    Args:
        running: Lists of x's rows; changed.
        x: (n, d) rows, on the CPU.
        block: (b, d) centres number first .. first + b - 1, on the CPU; numbers that no earlier block held.
        first: See block.
        ctrs: Gives stored centres by number, those of earlier blocks included.
        m: As for `find`.
        max_memory: Bytes of workspace for the search of the block.
        device: Where to search; None: on the CPU.
        among: Who of the block may be found; None: all.
    """
    k = running.indices.shape[1]
    search = functools.partial(find, m=m, max_memory=max_memory, metric=running.name)
    found = _found(search, x, block, min(k, len(block)), device, among)
    merge(running, x, block, first, ctrs, found, max_memory)


def merge(running: Running, x: Tensor, block: Tensor, first: int, ctrs: Stored, found: Tensor, max_memory: int) -> None:
    """Merge what a search has found (k', n), positions in the block, into `running`; see `extend`."""
    k = running.indices.shape[1]
    threads = this_machine(x.device).threads
    # Points in inference mode cannot be written to by workers: as in search.
    with torch.inference_mode(False), Workers(threads if len(x) > 1 else 1) as workers:
        _admit(running, x, block, workers)
        # The search of the block is over, so its memory is free again.
        share = max_memory // 2 // workers.count
        step = max(1, min(_MOST_CANDIDATES, share // _PER_CANDIDATE) // (2 * k))
        points = Points(block, chunk=min(_MOST_COORDINATES, share // _PER_COORDINATE))

        def work(start: int) -> None:
            rows = slice(start, min(start + step, len(x)))
            _merge_rows(running, rows, x, points, first, ctrs, found)

        workers.each(work, range(0, len(x), step))


def _admit(running: Running, x: Tensor, block: Tensor, workers: Workers) -> None:
    """Note what the values of a block change for all order values from now on."""
    narrow = x.dtype in _NARROW and block.dtype in _NARROW
    if narrow and not running.exact:
        return
    frame = workers.once(lambda: survey(Points(x), Points(block)))
    if running.metric.directed:
        frame = frame.of_directions()
    running.exact &= frame.exact
    if not narrow:
        running.in_float64 &= frame.in_float64
        _rescale(running, frame.verify_exponent)


def _rescale(running: Running, exponent: int) -> None:
    """Bring values and errors to a larger exponent, which rounds nothing but what underflows, by 2^-1022 at most.

    The absolute part of the errors of distances is d + 1 times 2^-1020 where d squares lose 2^-1021 each: it has that
    to spare. Errors that are kept with their values grow by it.
    """
    if running.exponent is not None:
        shift = running.metric.degree * min(0, running.exponent - exponent)
        while shift < 0:
            for part in (running.value, running.error):
                part *= 2.0 ** max(-1000, shift)
            running.error += 2.0**-1020
            shift += 1000
        exponent = max(running.exponent, exponent)
    running.exponent = exponent


@optional_kernels
def _merge_rows(
    running: Running,
    rows: slice,
    x: Tensor,
    block: Points,
    first: int,
    ctrs: Stored,
    nearest_: Tensor,
) -> None:
    """Merge nearest_ (k', n), positions in the block, into some rows of the running lists."""
    k, metric = running.indices.shape[1], running.metric
    x_rows = x[rows]
    kernels = may_serve() and are_loaded(x.dtype, block.values.dtype, metric)
    theirs = nearest_[:, rows].T.contiguous()
    new = ordered(x_rows, block, theirs, metric, kernels and running.in_float64)
    value = running.value[rows]
    error = metric.errors_of(value, block.d) if metric.uniform else running.error[rows]
    # Farther for certain than all k so far; never true where one of the two is not finite, or missing.
    out = (new.value - new.error > (value + error).amax(dim=1, keepdim=True)) & torch.isfinite(new.value)
    out |= new.indices < 0
    width = int((~out).to(torch.int64).mul_(torch.arange(1, out.shape[1] + 1)).amax())
    if width == 0:
        return
    numbers = new.indices[:, :width]
    listed = torch.cat([running.indices[rows], torch.where(numbers < 0, -1, numbers + first)], dim=1)
    values, errors = (torch.cat(both, dim=1) for both in ((value, new.value[:, :width]), (error, new.error[:, :width])))
    if bool((running.indices[rows] < 0).all()):  # nothing to merge: the search has put them in the exact order
        settled = torch.where(theirs < 0, -1, theirs + first)
        settled = torch.nn.functional.pad(settled, (0, k - settled.shape[1]), value=-1)
    else:
        found = order(listed, values, errors)
        settled = settle(x_rows, ctrs, found, k, metric, running.in_float64, kernels)[0][:, :k]
    if running.distances is not None:
        before = torch.nn.functional.pad(running.distances[rows], (0, width), value=torch.nan)
        # Only what stays is measured.
        entered = (settled >= first) & (settled < first + len(block.values))
        measured = distances(x_rows, block.values, torch.where(entered, settled - first, -1), running.name)
        kept = picked(listed, before, settled)
        running.distances[rows] = torch.where(entered, measured.to(kept.dtype), kept)
    running.indices[rows] = settled
    running.value[rows] = picked(listed, values, settled)
    running.error[rows] = picked(listed, errors, settled)


def compare(x: Tensor, ctrs: Stored, one: Tensor, other: Tensor, name: str = "euclidean") -> Tensor:
    """Tell exactly which of two centres is nearer.

    Args:
        x: (p, d) rows.
        ctrs: Gives stored centres by number.
        one: (p,) int64 numbers.
        other: (p,) int64 numbers.
        name: The metric.

    Returns:
        (p,) int64: -1 where centre one is nearer, 1 where the other is, 0 where their distances are equal.
    """
    metric = metric_named(name)
    value, error = candidate_values(x, ctrs, torch.stack([one, other], dim=1), metric)
    gap, doubt = value[:, 0] - value[:, 1], error.sum(dim=1) * OUTWARD
    clear = torch.isfinite(value).all(dim=1) & (gap.abs() > doubt)
    sign = gap.sign().nan_to_num(0.0).to(torch.int64)
    for i in (~clear).nonzero()[:, 0].tolist():
        a, b = (ctrs.take(numbers[i]) for numbers in (one, other))
        if torch.equal(a, b):
            sign[i] = 0
            continue
        row = x[i].tolist()
        near, far = (metric.true_value(row, centre.tolist()) for centre in (a, b))
        sign[i] = (near > far) - (near < far)
    return sign
