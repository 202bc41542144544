"""Squared distances D = |x - c|^2, summed as squares of differences, never expanded; off by `bounds.DistanceBound`."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from janelia_core.ml._knn.arithmetic.bounds import DistanceBound
from janelia_core.ml._knn.arithmetic.double_double import Floats, Sum, square_distances
from janelia_core.ml._knn.arithmetic.integers import Format, Rational, Rationals, nearest_root
from janelia_core.ml._knn.metrics.differences import OfDifferences
from janelia_core.ml._knn.metrics.metric import DISTANCE, Bound


class SquaredEuclidean(OfDifferences):
    """D = |x - c|^2; the distance handed back is D."""

    form = DISTANCE
    degree = 2

    def key(self, x: Rationals, c: Rationals) -> Rational:
        """Return D."""
        return sum((a - b) ** 2 for a, b in zip(x, c, strict=True))

    def bound(self, d: int) -> Bound:
        """Return how far D can be off: relative to D, and absolutely."""
        relative, absolute = DistanceBound.of(d, self.exact)
        return relative, absolute  # a plain tuple, for which kernels are compiled

    def of(self, delta: Tensor) -> Tensor:
        """Return D of differences."""
        return delta.square_().sum(dim=-1)

    def take_in(self, found: Tensor, delta: Tensor) -> None:
        """Add squares of differences."""
        found.addcmul_(delta, delta)

    def sums(self, x: Floats, c: Floats) -> Sum:
        """Return D as double-doubles."""
        return square_distances(x, c)


class Euclidean(SquaredEuclidean):
    """Ordered by D, too; the distance handed back is its root."""

    root = True

    def distance_bits(self, x: Sequence[int], c: Sequence[int], unit: int, fmt: Format) -> int:
        """Return the bits of the root of D."""
        return nearest_root(int(self.key(x, c)), unit, fmt)
