"""Manhattan distances: the sum of |x_q - c_q|, with a proven error.

With u = 2^-53 and gamma(n) as in `bounds`: each difference carries one rounding, or three of 64-bit integers
(`Metric.difference`), and a sum of d of them, none negative, d - 1 more in any order, so it is off by at most
gamma(d + 2) of its true value. Nothing overflows that `Frame.verify_exponent` scales; what scaling takes from small
values, or a processor that flushes subnormal differences, is at most 2^-1021 a coordinate. So `DistanceBound` is
enough, and leaves `merge` what it needs to rescale values. Whether nothing rounds, `Frame.exact` asks of squares, too:
that is more than is needed here.
"""

from __future__ import annotations

from torch import Tensor

from janelia_core.ml._knn.arithmetic.bounds import DistanceBound
from janelia_core.ml._knn.arithmetic.double_double import sums_of
from janelia_core.ml._knn.arithmetic.integers import Rational, Rationals
from janelia_core.ml._knn.metrics.differences import OfAbsoluteDifferences
from janelia_core.ml._knn.metrics.metric import MANHATTAN, Bound


class Manhattan(OfAbsoluteDifferences):
    """The sum of all |x_q - c_q|."""

    form = MANHATTAN
    power = 1.0

    def key(self, x: Rationals, c: Rationals) -> Rational:
        """Return the sum of absolute differences."""
        return sum(a - b if a > b else b - a for a, b in zip(x, c, strict=True))

    def bound(self, d: int) -> Bound:
        """Return how far a float64 sum can be off: relative to itself, and absolutely."""
        relative, absolute = DistanceBound.of(d, self.exact)
        return relative, absolute  # a plain tuple, for which kernels are compiled

    def of(self, delta: Tensor) -> Tensor:
        """Return sums of absolute differences."""
        return delta.abs_().sum(dim=-1)

    def take_in(self, found: Tensor, delta: Tensor) -> None:
        """Add absolute differences."""
        found.add_(delta.abs_())

    def double_double(self, hi: Tensor, lo: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return sums of absolute differences."""
        return sums_of(hi, lo)
