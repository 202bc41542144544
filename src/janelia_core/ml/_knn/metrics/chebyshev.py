"""Chebyshev distances: the largest |x_q - c_q|, with a proven error.

With g = gamma(3) as in `bounds`: a difference carries one rounding, or three of 64-bit integers
(`Metric.difference`), so a rounded one is between 1 - g and 1 + g of the true one, hence the largest of all rounded
ones between 1 - g and 1 + g of the largest true one: no more is lost than of a single coordinate. What scaling takes
from small values, or a processor that flushes subnormal differences, is at most 2^-1021. `DistanceBound` of one
coordinate is enough for that, and leaves `merge` what it needs to rescale values.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from janelia_core.ml._knn.arithmetic.bounds import DistanceBound
from janelia_core.ml._knn.arithmetic.integers import Rational, Rationals
from janelia_core.ml._knn.metrics.differences import OfAbsoluteDifferences
from janelia_core.ml._knn.metrics.metric import CHEBYSHEV, Bound


class Chebyshev(OfAbsoluteDifferences):
    """The largest of all |x_q - c_q|, 0 of no coordinates."""

    form = CHEBYSHEV
    power = math.inf

    def key(self, x: Rationals, c: Rationals) -> Rational:
        """Return the largest absolute difference."""
        return max((a - b if a > b else b - a for a, b in zip(x, c, strict=True)), default=0)

    def bound(self, d: int) -> Bound:
        """Return how far the largest float64 difference can be off, as that of a single coordinate."""
        relative, absolute = DistanceBound.of(1, self.exact)
        return relative, absolute

    def of(self, delta: Tensor) -> Tensor:
        """Return the largest absolute differences; NaN if there is one."""
        return delta.abs_().amax(dim=-1) if delta.shape[-1] else delta.sum(dim=-1)

    def take_in(self, found: Tensor, delta: Tensor) -> None:
        """Keep the larger ones."""
        torch.maximum(found, delta.abs_(), out=found)

    def double_double(self, hi: Tensor, lo: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the largest, exactly: it is rounded to no less, and of those rounded alike it has the largest rest."""
        most = hi.amax(dim=-1, keepdim=True) if hi.shape[-1] else hi.sum(dim=-1, keepdim=True)
        rest = torch.where(hi == most, lo, -torch.inf)
        most, rest = most[..., 0], rest.amax(dim=-1) if hi.shape[-1] else rest.sum(dim=-1)
        return most, rest, torch.zeros_like(most)
