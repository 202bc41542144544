"""Distances of given pairs, correctly rounded: unique, whatever the device, and monotone along a row.

The true value in real arithmetic over the stored values is enclosed between two float64 numbers that provably
contain it; where both round to the same number of the result's format, that is the answer. What float64 cannot
decide is enclosed in double-double arithmetic, and what that cannot decide is computed in integers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from janelia_core.ml._knn.arithmetic.integers import FLOAT32, FLOAT64
from janelia_core.ml._knn.arithmetic.rounding import rounded, rounded_double
from janelia_core.ml._knn.data.points import as_float64, float64_device, is_wide, picked_rows
from janelia_core.ml._knn.distances.triton import pairs as device_pairs
from janelia_core.ml._knn.metrics.metric import COSINE, DISTANCE, DOT, UNKNOWN, Metric
from janelia_core.ml._knn.metrics.registry import metric_named
from janelia_core.ml._knn.problem import DEFAULT_MEMORY, PER_WORKER
from janelia_core.ml._runtime.device_kernels import launched
from janelia_core.ml._runtime.kernels import may_serve, optional_kernels
from janelia_core.ml._runtime.loading import are_ready
from janelia_core.ml._runtime.machine import this_machine
from janelia_core.ml._runtime.workers import Workers


class Typed(Protocol):
    """What has a dtype: a tensor, or a file of vectors."""

    @property
    def dtype(self) -> torch.dtype:
        """Of its values."""
        ...


_CHUNK, _PER_CHUNKED = 1 << 18, 128  # coordinates of pairs gathered at a time by a thread, and bytes that each takes
_TINY = 1 << 11  # coordinates of pairs: torch shares out no operation on so few
_FEWEST_PAIRS = 4096  # a thread is worth its start from so many pairs,
_FEWEST_COORDINATES, _FEWEST_COLUMNS = 1 << 18, 8  # or coordinates of pairs that kernels round to float32
_DOUBLE_DOUBLE, _PER_DOUBLED = 1 << 15, 256  # likewise in double-double arithmetic, with some twenty temporaries
_KERNEL_DTYPES = (torch.float32, torch.float64, torch.uint8)  # float64 holds them


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
    centres: Callable[[slice], Tensor] | None = None,
) -> Tensor:
    """Return the distances between rows of x and the centres at indices, correctly rounded.

    Args:
        x: (n, d) real tensor.
        ctrs: (n_ctrs, d) real tensor on the same device.
        indices: (n, k) int64 row numbers of ctrs, -1 where there is none.
        metric: "euclidean", "sqeuclidean", "dot" (-<x, c>) or "cosine" (1 - cosine; a zero vector has cosine 0
            with every vector).
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
    dtype = result_dtype(x, ctrs)
    if indices.numel() == 0 or x.shape[1] == 0 or len(ctrs) == 0:
        value = _exact([[]], [[]], metric_named(metric), dtype).to(x.device)  # of points without coordinates
        return value.expand(indices.shape).masked_fill(indices < 0, torch.inf)
    known = metric_named(metric)
    if device_pairs.fits(x, ctrs, known):
        on_device = _on_device(x.detach(), ctrs.detach(), indices, known, dtype, max_memory, centres)
        if on_device is not None:
            return on_device
    # Workers could not write to what inference mode makes; it is a setting of the thread.
    rounded_there = dtype == torch.float32 and _for_kernels(x, ctrs, metric_named(metric))
    count = _count(x, indices, max_memory, rounded_there)
    tiny = indices.numel() * x.shape[1] < _TINY
    with torch.inference_mode(False), Workers.if_several(count, tiny, x.device) as workers:
        out = torch.empty(indices.shape, dtype=dtype, device=x.device)
        work = _Work(x.detach(), ctrs.detach(), metric_named(metric), out.dtype, max_memory // count)
        rows = max(1, min(work.pairs_at_once // indices.shape[1], -(-len(x) // count)))

        def fill(start: int) -> None:
            part = slice(start, start + rows)
            there = indices[part] if centres is None else centres(part)
            out[part] = work.distances(x.detach()[part], there).to(out.device)

        workers.each(fill, range(0, len(x), rows))
    return out


def _on_device(
    x: Tensor,
    ctrs: Tensor,
    indices: Tensor,
    metric: Metric,
    dtype: torch.dtype,
    max_memory: int,
    centres: Callable[[slice], Tensor] | None,
) -> Tensor | None:
    """Do as `distances`, by a kernel of the tensors' device; None where that fails."""
    with torch.inference_mode(False):
        out = torch.empty(indices.shape, dtype=dtype, device=x.device)
        left = launched(lambda: device_pairs.rounded_pairs(metric, x, ctrs, indices, centres, max_memory, out))
        if left is None:
            return None
        _Work(x, ctrs, metric, dtype, max_memory).decide(x, left, out)
    return out


@optional_kernels
def of_few(x: Tensor, ctrs: Tensor, indices: Tensor, metric: str) -> Tensor | None:
    """Return the distances of few pairs of float64 points on the CPU, by a kernel alone; None where it does not serve.

    Args:
        x: (n, d).
        ctrs: (n_ctrs, d).
        indices: (n, k) int64 row numbers of ctrs.
        metric: As for `distances`.
    """
    known = metric_named(metric)
    if not (x.dtype == ctrs.dtype == torch.float64 and known.form in (DISTANCE, DOT) and may_serve()):
        return None
    if not _are_loaded(known, x.dtype, torch.float64):
        return None
    from janelia_core.ml._knn.distances.pair_sums import rounded_pairs

    with torch.inference_mode(False):  # or nobody else could write to what it makes
        points = x.detach().contiguous(), ctrs.detach().contiguous()
        out, certain = rounded_pairs(known, *points, indices, torch.float64)
    return out if certain is None else None


def _count(x: Tensor, indices: Tensor, max_memory: int, rounded_there: bool) -> int:
    worth = indices.numel() // _FEWEST_PAIRS
    if rounded_there:
        worth = indices.numel() * max(x.shape[1], _FEWEST_COLUMNS) // _FEWEST_COORDINATES
    return max(1, min(this_machine(x.device).threads, worth, max_memory // PER_WORKER))


def _for_kernels(x: Tensor, ctrs: Tensor, metric: Metric) -> bool:
    """Tell whether kernels can read these values, and know the metric."""
    known = x.dtype == ctrs.dtype and x.dtype in _KERNEL_DTYPES and metric.form != UNKNOWN
    return known and this_machine(x.device).kernels and x.is_contiguous() and ctrs.is_contiguous()


def _are_loaded(metric: Metric, dtype: torch.dtype, of_results: torch.dtype) -> bool:
    """Tell whether the kernels for points of a dtype are there; else they begin to load."""

    def rehearse() -> None:
        points, indices = torch.ones(2, 2, dtype=dtype, device="cpu"), torch.tensor([[0], [1]], device="cpu")
        _Work(points, points, metric, of_results, _CHUNK).distances(points, indices)

    return are_ready(("distances", metric.form, metric.root, dtype, of_results), rehearse)


class _Work:
    """What all blocks of rows share."""

    def __init__(self, x: Tensor, ctrs: Tensor, metric: Metric, dtype: torch.dtype, share: int) -> None:
        self._metric, self._dtype, self._ctrs = metric, dtype, ctrs
        self._kernels = _for_kernels(x, ctrs, metric) and _are_loaded(metric, x.dtype, dtype)
        # Kernels hold a result and a flag of a pair, and three float64 numbers where results are float64.
        coordinates = (16 if dtype == torch.float64 else 1) if self._kernels else x.shape[1]
        self.pairs_at_once = max(1, min(_CHUNK, share // _PER_CHUNKED) // max(1, coordinates))
        self._doubled = max(1, min(_DOUBLE_DOUBLE, share // _PER_DOUBLED) // x.shape[1])

    def distances(self, x_rows: Tensor, indices: Tensor) -> Tensor:
        """Return the distances of rows (r, d) and the centres at indices (r, k)."""
        out, certain = self._enclosed(x_rows, indices)
        if certain is None:
            return out
        row, slot = (~certain).nonzero(as_tuple=True)
        for start in range(0, len(row), self._doubled):
            part = (row[start : start + self._doubled], slot[start : start + self._doubled])
            x = picked_rows(x_rows, part[0].to(x_rows.device)).cpu()
            c = picked_rows(self._ctrs, indices.to(row.device)[part].to(self._ctrs.device)).cpu()
            out[part] = self._decided(x, c).to(out.device)
        return out

    def decide(self, x: Tensor, left: Tensor, out: Tensor) -> None:
        """Write to out (n, k) the distances of pairs that are left (p, 2): their numbers, row by row, and centres."""
        flat, k = out.view(-1), out.shape[1]
        for part in torch.split(left, self._doubled) if len(left) else ():
            pairs, j = part.unbind(1)
            found = self._decided(picked_rows(x, pairs // k).cpu(), picked_rows(self._ctrs, j).cpu())
            flat[pairs] = found.to(out.device)

    def _enclosed(self, x_rows: Tensor, indices: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return distances (r, k) by float64 intervals, and whether each is certain, or None if all are."""
        if self._kernels and (self._dtype == torch.float32 or self._metric.form != COSINE):
            from janelia_core.ml._knn.distances.pair_sums import rounded_pairs

            return rounded_pairs(self._metric, x_rows, self._ctrs, indices, self._dtype)
        missing = (indices < 0).to(float64_device(x_rows.device))
        if self._kernels:
            from janelia_core.ml._knn.distances.pair_sums import pair_sums

            sums = pair_sums(self._metric, x_rows, self._ctrs, indices)
            out, certain = rounded_double(*sums, self._metric.root, self._dtype)
        elif self._dtype == torch.float64:  # an interval in its own format decides next to nothing
            out, certain = torch.zeros(missing.shape, dtype=self._dtype, device=missing.device), missing
        else:
            out, certain = self._by_intervals(x_rows, indices)
        return out.masked_fill_(missing, torch.inf), certain | missing

    def _by_intervals(self, x_rows: Tensor, indices: Tensor) -> tuple[Tensor, Tensor]:
        out = torch.empty(indices.shape, dtype=torch.float32, device=float64_device(x_rows.device))
        certain = torch.empty_like(out, dtype=torch.bool)
        step = max(1, self.pairs_at_once // len(x_rows))
        for start in range(0, indices.shape[1], step):
            slots = slice(start, start + step)
            c = picked_rows(self._ctrs, indices[:, slots].clamp(min=0).to(self._ctrs.device))
            value, error = self._metric.pair_values(x_rows[:, None], c)
            out[:, slots], certain[:, slots] = rounded(value, error, self._metric.root)
        return out, certain

    def _decided(self, x: Tensor, c: Tensor) -> Tensor:
        """Return the distances of pairs of rows (p, d) on the CPU, all certain."""
        x64, c64 = as_float64(x), as_float64(c)
        finite = (torch.isfinite(x64) & torch.isfinite(c64)).all(dim=1)
        out = self._metric.pair_values(x64, c64)[0].to(self._dtype)  # right where not finite
        held = finite & _fits(x, x64, self._metric) & _fits(c, c64, self._metric)
        decided = ~finite
        if bool(held.any()):
            sums = self._metric.sums(x64[held].numpy(), c64[held].numpy())
            hi, lo, error = (torch.from_numpy(part) for part in sums)
            out[held], decided[held] = rounded_double(hi, lo, error, self._metric.root, self._dtype)
        rest = (~decided).nonzero()[:, 0]
        out[rest] = _exact(x[rest].tolist(), c[rest].tolist(), self._metric, self._dtype)
        return out


def _fits(values: Tensor, as64: Tensor, metric: Metric) -> Tensor:
    """Tell which rows (p, d) are exact in float64 and of numbers that the metric's sums take."""
    most = min(2.0**53, metric.doubled_below) if is_wide(values) else metric.doubled_below
    return (as64.abs() < most).all(dim=1)


def _exact(x: list[list[float]], c: list[list[float]], metric: Metric, dtype: torch.dtype) -> Tensor:
    """Return the distances (p,) of pairs of finite rows, by integers."""
    fmt, bits = (FLOAT32, torch.int32) if dtype == torch.float32 else (FLOAT64, torch.int64)
    patterns = [metric.rounded(row, centre, fmt) for row, centre in zip(x, c, strict=True)]
    return torch.tensor(patterns, dtype=bits, device="cpu").view(dtype)
