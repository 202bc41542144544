"""Metrics of differences: each coordinate adds |x_q - c_q| to a sum, or its square, or is the largest so far.

What is not finite follows IEEE rules: a NaN anywhere is one, and so is inf - inf; else an infinite coordinate makes the
order value infinite. Differences of finite values that overflow are found infinite, and never NaN.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from janelia_core.ml._knn.arithmetic.bounds import LOSS, SMALL
from janelia_core.ml._knn.arithmetic.double_double import LARGEST, Floats, Sum, two_sum
from janelia_core.ml._knn.data.points import as_float64, float64_device, is_wide
from janelia_core.ml._knn.metrics.metric import Metric


class OfDifferences(Metric):
    """A metric of differences, whose error is relative to its value."""

    uniform = True
    exact_on_grids = True
    doubled_below = LARGEST

    @abstractmethod
    def of(self, delta: Tensor) -> Tensor:
        """Return the order values of differences (..., d), which are the callee's."""

    @abstractmethod
    def take_in(self, found: Tensor, delta: Tensor) -> None:
        """Make order values, 0 at first, those of one coordinate more, of differences that are the callee's."""

    def beyond(self, x: Sequence[float], c: Sequence[float]) -> float:
        """Return NaN for a NaN anywhere, or inf - inf; otherwise inf."""
        pairs = zip(x, c, strict=True)
        undefined = any(math.isnan(a) or math.isnan(b) or (math.isinf(a) and a == b) for a, b in pairs)
        return math.nan if undefined else math.inf

    def pair_values(self, x: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """Return order values and their errors; see `Metric`."""
        value = self.of(self.difference(x, c))
        relative, absolute = self.bound(x.shape[-1])
        return value, value * relative + absolute

    def block_values(self, x: Tensor, c: Tensor, chunk: int) -> tuple[Tensor, Tensor]:
        """Return order values and their errors, one coordinate after the other."""
        found = torch.zeros(len(x), len(c), dtype=torch.float64, device=float64_device(x.device))
        for q in range(x.shape[1]):
            self.take_in(found, self.difference(x[:, q, None], c[None, :, q]))
        relative, absolute = self.bound(x.shape[1])
        return found, found * relative + absolute


class OfAbsoluteDifferences(OfDifferences):
    """A norm |x - c|_p without squares: on a CPU, one operation makes those of all pairs and stores no difference."""

    degree = 1
    summed = True
    power: ClassVar[float]
    """Its p."""

    def block_values(self, x: Tensor, c: Tensor, chunk: int) -> tuple[Tensor, Tensor]:
        """Return order values and their errors."""
        value = self._at_once(x, c)
        if value is None:
            return super().block_values(x, c, chunk)
        relative, absolute = self.bound(x.shape[1])
        return value, value * relative + absolute

    def at_once(self, x: Tensor, c: Tensor, chunk: int) -> tuple[Tensor, Tensor]:
        """Return order values, and an error (r, 1) of the largest of a row."""
        value = self._at_once(x, c)
        if value is None:
            return super().at_once(x, c, chunk)
        relative, absolute = self.bound(x.shape[1])
        return value, value.amax(dim=1, keepdim=True) * relative + absolute

    def pair_sums(self, x: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return order values as double-doubles; see `Metric`.

        Differences of float32 numbers often lie halfway between two of them, where no interval decides, and so do sums
        of some: these know when they are exact. Of what is not finite the error is infinite, and of coordinates whose
        differences a processor may flush it counts for more than that.
        """
        x64, c64 = as_float64(x), as_float64(c)
        wild = ~((x64.abs() < LARGEST).all(dim=-1) & (c64.abs() < LARGEST).all(dim=-1))
        lossy = ((x64.abs() < SMALL) & (x64 != 0)).sum(dim=-1) + ((c64.abs() < SMALL) & (c64 != 0)).sum(dim=-1)
        gap, rest = two_sum(x64, -c64)
        hi, lo, error = self.double_double(gap.abs(), torch.where(gap < 0, -rest, rest))
        return hi, lo, (error + lossy.double() * LOSS).masked_fill_(wild, torch.inf)

    @abstractmethod
    def double_double(self, hi: Tensor, lo: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the order values (...) of absolute differences hi + lo (..., d), and how far they can be off."""

    def sums(self, x: Floats, c: Floats) -> Sum:
        """Return order values as double-doubles."""
        hi, lo, error = (part.numpy() for part in self.pair_sums(torch.from_numpy(x), torch.from_numpy(c)))
        return hi, lo, error

    def _at_once(self, x: Tensor, c: Tensor) -> Tensor | None:
        """Return order values (r, b) by `torch.cdist`; None where it does not serve: by its maxima a NaN is lost."""
        if not x.is_cpu or is_wide(x) or is_wide(c):
            return None
        x64, c64 = self.scaled(x), self.scaled(c)
        if not bool(torch.isfinite(x64.sum() + c64.sum())):
            return None
        return torch.cdist(x64, c64, p=self.power)
