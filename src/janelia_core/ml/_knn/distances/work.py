"""Blocks of pairs: float64 intervals first, double-doubles and integers where those decide nothing."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from janelia_core.ml._knn.arithmetic.integers import FLOAT32, FLOAT64
from janelia_core.ml._knn.arithmetic.rounding import rounded, rounded_double
from janelia_core.ml._knn.data.points import as_float64, float64_device, is_wide, picked_rows
from janelia_core.ml._knn.metrics.metric import ALL_FORMS, COSINE, Metric
from janelia_core.ml._runtime.loading import are_ready
from janelia_core.ml._runtime.machine import this_machine

Centres = Callable[[slice], Tensor]

_CHUNK, _PER_CHUNKED = 1 << 18, 128  # coordinates of pairs gathered at a time by a thread, and bytes that each takes
_PER_CARRIED = 64  # bytes of a coordinate of pairs that are carried to the CPU at once
_DOUBLE_DOUBLE, _PER_DOUBLED = 1 << 15, 256  # likewise in double-double arithmetic, with some twenty temporaries
_KERNEL_DTYPES = (torch.float32, torch.float64, torch.uint8)  # float64 holds them


def for_kernels(x: Tensor, ctrs: Tensor, metric: Metric) -> bool:
    """Tell whether kernels can read these values, and know the metric."""
    known = x.dtype == ctrs.dtype and x.dtype in _KERNEL_DTYPES and metric.form in ALL_FORMS
    return known and this_machine(x.device).kernels and x.is_contiguous() and ctrs.is_contiguous()


def are_loaded(metric: Metric, dtype: torch.dtype, of_results: torch.dtype) -> bool:
    """Tell whether the kernels for points of a dtype are there; else they begin to load."""
    use = "distances", metric.form, metric.root, dtype, of_results
    return are_ready(use, partial(_rehearse, metric, dtype, of_results))


def _rehearse(metric: Metric, dtype: torch.dtype, of_results: torch.dtype) -> None:
    points, indices = torch.ones(2, 2, dtype=dtype, device="cpu"), torch.tensor([[0], [1]], device="cpu")
    Work(points, points, metric, of_results, _CHUNK).distances(points, indices)


class Work:
    """What all blocks of rows share."""

    def __init__(self, x: Tensor, ctrs: Tensor, metric: Metric, dtype: torch.dtype, share: int) -> None:
        self._metric, self._dtype, self._ctrs = metric, dtype, ctrs
        self._kernels = for_kernels(x, ctrs, metric) and are_loaded(metric, x.dtype, dtype)
        self._summed = metric.summed and not (is_wide(x) or is_wide(ctrs))
        # Kernels hold a result and a flag of a pair, and three float64 numbers where results are float64.
        coordinates = (16 if dtype == torch.float64 else 1) if self._kernels else x.shape[1]
        most = _CHUNK if x.device.type == "cpu" else share
        self.pairs_at_once = max(1, min(most, share // _PER_CHUNKED) // max(1, coordinates))
        self._doubled = max(1, min(_DOUBLE_DOUBLE, share // _PER_DOUBLED) // x.shape[1])
        self._carried = max(1, share // _PER_CARRIED // x.shape[1])

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

    def rounded(self, x: Tensor, indices: Tensor, centres: Centres | None, out: Tensor) -> Tensor:
        """Fill out (n, k) by float64 intervals; return the pairs that are left (p, 2), as `decide` wants them."""
        n, k = indices.shape
        certain = torch.empty(indices.shape, dtype=torch.bool, device=float64_device(x.device))
        step = max(1, self.pairs_at_once // k)
        for start in range(0, n, step):
            part = slice(start, start + step)
            there = indices[part] if centres is None else centres(part)
            found, sure = self._enclosed(x[part], there)
            out[part], certain[part] = found.to(out.device), True if sure is None else sure
        left = (~certain).view(-1).nonzero()[:, 0].to(x.device)
        if len(left) == 0:
            return left.new_empty(0, 2)
        there = indices if centres is None else centres(slice(0, n))
        return torch.stack([left, there.reshape(-1)[left]], dim=1)

    def decide(self, x: Tensor, left: Tensor, out: Tensor) -> None:
        """Write to out (n, k) the distances of pairs that are left (p, 2): their numbers, row by row, and centres."""
        flat, k = out.view(-1), out.shape[1]
        for part in torch.split(left, self._carried) if len(left) else ():
            pairs, j = part.unbind(1)
            rows, ctrs = picked_rows(x, pairs // k).cpu(), picked_rows(self._ctrs, j).cpu()
            some = zip(torch.split(rows, self._doubled), torch.split(ctrs, self._doubled), strict=True)
            flat[pairs] = torch.cat([self._decided(*points) for points in some]).to(out.device)

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
        elif self._dtype == torch.float64 and not self._summed:  # an interval in its own format decides next to nothing
            out, certain = torch.zeros(missing.shape, dtype=self._dtype, device=missing.device), missing
        else:
            out, certain = self._by_intervals(x_rows, indices)
        return out.masked_fill_(missing, torch.inf), certain | missing

    def _by_intervals(self, x_rows: Tensor, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Return the same by torch operations."""
        out = torch.empty(indices.shape, dtype=self._dtype, device=float64_device(x_rows.device))
        certain = torch.empty_like(out, dtype=torch.bool)
        step = max(1, self.pairs_at_once // len(x_rows))
        for start in range(0, indices.shape[1], step):
            slots = slice(start, start + step)
            c = picked_rows(self._ctrs, indices[:, slots].clamp(min=0).to(self._ctrs.device))
            if self._summed:
                found = rounded_double(*self._metric.pair_sums(x_rows[:, None], c), self._metric.root, self._dtype)
            else:
                found = rounded(*self._metric.pair_values(x_rows[:, None], c), self._metric.root)
            out[:, slots], certain[:, slots] = found
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
        nothing = finite & _vanish(x64, c64, self._metric, self._dtype)
        out[nothing], decided = 0.0, decided | nothing
        rest = (~decided).nonzero()[:, 0]
        out[rest] = exact(x[rest].tolist(), c[rest].tolist(), self._metric, self._dtype)
        return out


def _vanish(x: Tensor, c: Tensor, metric: Metric, dtype: torch.dtype) -> Tensor:
    """Tell which pairs of float64 rows (p, d) are of numbers so small that their distance rounds to 0.

    Of numbers below 2^e squares of differences add up to less than d 2^(2 e + 2), and products to less than that.
    """
    if metric.degree != 2 or metric.root:
        return torch.zeros(len(x), dtype=torch.bool, device="cpu")
    largest = torch.maximum(x.abs().amax(dim=1), c.abs().amax(dim=1))
    most = 2 * torch.frexp(largest).exponent + 2 + (x.shape[1] - 1).bit_length()
    half = (FLOAT32 if dtype == torch.float32 else FLOAT64).least - 1  # of the least number: rounds to even, 0
    return most <= half


def _fits(values: Tensor, as64: Tensor, metric: Metric) -> Tensor:
    """Tell which rows (p, d) are exact in float64 and of numbers that the metric's sums take."""
    most = min(2.0**53, metric.doubled_below) if is_wide(values) else metric.doubled_below
    return (as64.abs() < most).all(dim=1)


def exact(x: list[list[float]], c: list[list[float]], metric: Metric, dtype: torch.dtype) -> Tensor:
    """Return the distances (p,) of pairs of finite rows, by integers."""
    fmt, bits = (FLOAT32, torch.int32) if dtype == torch.float32 else (FLOAT64, torch.int64)
    patterns = [metric.rounded(row, centre, fmt) for row, centre in zip(x, c, strict=True)]
    return torch.tensor(patterns, dtype=bits, device="cpu").view(dtype)
