"""Squared distances D = |x - c|^2, summed as squares of differences, never expanded; off by `bounds.DistanceBound`."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from janelia_core.ml._knn.arithmetic.bounds import DistanceBound
from janelia_core.ml._knn.arithmetic.double_double import LARGEST, Floats, Sum, square_distances
from janelia_core.ml._knn.arithmetic.integers import Format, Rational, Rationals, nearest_root
from janelia_core.ml._knn.data.points import float64_device
from janelia_core.ml._knn.metrics.metric import DISTANCE, Bound, Metric


class SquaredEuclidean(Metric):
    """D = |x - c|^2; the distance handed back is D."""

    form = DISTANCE
    degree = 2
    uniform = True
    exact_on_grids = True
    doubled_below = LARGEST

    def key(self, x: Rationals, c: Rationals) -> Rational:
        """Return D."""
        return sum((a - b) ** 2 for a, b in zip(x, c, strict=True))

    def beyond(self, x: Sequence[float], c: Sequence[float]) -> float:
        """Return NaN for a NaN anywhere, or inf - inf; otherwise inf."""
        pairs = zip(x, c, strict=True)
        undefined = any(math.isnan(a) or math.isnan(b) or (math.isinf(a) and a == b) for a, b in pairs)
        return math.nan if undefined else math.inf

    def bound(self, d: int) -> Bound:
        """Return how far D can be off: relative to D, and absolutely."""
        relative, absolute = DistanceBound.of(d, self.exact)
        return relative, absolute  # a plain tuple, for which kernels are compiled

    def pair_values(self, x: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """Return D and its error; see `Metric`."""
        value = self.difference(x, c).square_().sum(dim=-1)
        relative, absolute = self.bound(x.shape[-1])
        return value, value * relative + absolute

    def block_values(self, x: Tensor, c: Tensor, chunk: int) -> tuple[Tensor, Tensor]:
        """Return D and its error, summed one coordinate at a time."""
        sums = torch.zeros(len(x), len(c), dtype=torch.float64, device=float64_device(x.device))
        for q in range(x.shape[1]):
            delta = self.difference(x[:, q, None], c[None, :, q])  # (r, b)
            sums.addcmul_(delta, delta)
        relative, absolute = self.bound(x.shape[1])
        return sums, sums * relative + absolute

    def sums(self, x: Floats, c: Floats) -> Sum:
        """Return D as double-doubles."""
        return square_distances(x, c)


class Euclidean(SquaredEuclidean):
    """Ordered by D, too; the distance handed back is its root."""

    root = True

    def distance_bits(self, x: Sequence[int], c: Sequence[int], unit: int, fmt: Format) -> int:
        """Return the bits of the root of D."""
        return nearest_root(int(self.key(x, c)), unit, fmt)
