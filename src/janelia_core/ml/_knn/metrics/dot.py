"""Inner products: -<x, c>, with a proven error for each pair.

With u = 2^-53 and gamma(n) as in `bounds`: each product carries one rounding, two more where 64-bit integers are
rounded to float64 first, and the sum d - 1, so the error is at most gamma(d + 2) sum_q |x_q c_q|, and 2^-1021 a
coordinate for products that underflow; gamma(d + 4) and 2^-1020 pay for the bound's own evaluation. A sum of finite
terms that overflows is a value of 0 whose error is infinite: it proves nothing, and must not be taken for the infinite
value of an infinite coordinate.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from janelia_core.ml._knn.arithmetic.bounds import OUTWARD, UNIT64, gamma
from janelia_core.ml._knn.arithmetic.double_double import LARGEST, Floats, Sum, products
from janelia_core.ml._knn.arithmetic.integers import Rational, Rationals, dot
from janelia_core.ml._knn.data.points import as_float64, float64_device
from janelia_core.ml._knn.metrics.metric import DOT, Bound, Metric

LEAST_SQUARE = 2.0**-800
LARGEST_SQUARE = 2.0**900
"""Squared norms within which kernels bound an inner product by the norms: none of their products leaves float64."""


class Dot(Metric):
    """-<x, c>: the largest inner product is nearest."""

    form = DOT
    degree = 2
    exact_on_grids = True
    levelled = True
    signed = True
    doubled_below = LARGEST

    def key(self, x: Rationals, c: Rationals) -> Rational:
        """Return -<x, c>."""
        return -dot(x, c)

    def beyond(self, x: Sequence[float], c: Sequence[float]) -> float:
        """Return what the products of what is not finite add up to."""
        pairs = zip(x, c, strict=True)
        return -sum(float(a) * float(b) for a, b in pairs if not (math.isfinite(a) and math.isfinite(b)))

    def bound(self, d: int) -> Bound:
        """Return how far a float64 inner product can be off: relative to sum_q |x_q c_q|, and absolutely."""
        return gamma(d + 4, UNIT64) * OUTWARD, (d + 1) * 2.0**-1020

    def pair_values(self, x: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """Return -<x, c> and its error; see `Metric`."""
        x64, c64 = self.scaled(x), self.scaled(c)
        terms = x64 * c64
        relative, absolute = self.bound(x.shape[-1])
        value, size = terms.sum(dim=-1), terms.abs().sum(dim=-1)
        if not (value.is_cpu and bool(torch.isfinite(value).all())):  # an accelerator is not waited for
            x64, c64 = as_float64(x), as_float64(c)  # scaling may overflow, too
            wild = ~(torch.isfinite(x64) & torch.isfinite(c64))
            sums = torch.where(wild, x64 * c64, 0.0).sum(dim=-1)
            value, size = _without_overflow(value, size, sums, wild.any(dim=-1))
        return value.neg_(), size.mul_(relative).add_(absolute)

    def block_values(self, x: Tensor, c: Tensor, chunk: int) -> tuple[Tensor, Tensor]:
        """Return -<x, c> and its error, summed one coordinate at a time."""
        x64, c64 = self.scaled(x), self.scaled(c)
        sums = torch.zeros(len(x), len(c), dtype=torch.float64, device=float64_device(x.device))
        sizes = torch.zeros_like(sums)
        for q in range(x.shape[1]):
            sums.addcmul_(x64[:, q, None], c64[None, :, q])
            sizes.addcmul_(x64[:, q, None].abs(), c64[None, :, q].abs())
        if not bool(torch.isfinite(sums).all()):
            return super().block_values(x, c, chunk)
        relative, absolute = self.bound(x.shape[1])
        return sums.neg_(), sizes.mul_(relative).add_(absolute)

    def at_once(self, x: Tensor, c: Tensor, chunk: int) -> tuple[Tensor, Tensor]:
        """Return -<x, c> by one product, and an error (r, 1)."""
        return products_at_once(x, c, *self.bound(x.shape[1]))

    def sums(self, x: Floats, c: Floats) -> Sum:
        """Return -<x, c> as double-doubles."""
        return products(-x, c)


def products_at_once(x: Tensor, c: Tensor, relative: float, absolute: float) -> tuple[Tensor, Tensor]:
    """Return -<x, c> (r, b) of float64 rows and centres, and an error (r, 1), relative to sum_q |x_q c_q|."""
    # By the largest of each: norms might underflow.
    size = x.shape[1] * x.abs().amax(dim=1, keepdim=True) * c.abs().amax()
    return -(x @ c.T), size * (1.0 + 4.0 * UNIT64) * relative + absolute


def _without_overflow(value: Tensor, size: Tensor, wild: Tensor, is_wild: Tensor) -> tuple[Tensor, Tensor]:
    """Correct sums that are not finite: real numbers do not overflow, so only what is not finite has a say in a class.

    Args:
        value: Sums of products.
        size: Sums of their magnitudes.
        wild: Sums of the products of what is not finite.
        is_wild: Whether there are any.

    Returns:
        value and size: `wild` where there is any; else 0, of infinite size, where finite terms overflowed.
    """
    overflows = ~is_wild & ~(torch.isfinite(value) & torch.isfinite(size))
    return torch.where(is_wild, wild, value).masked_fill_(overflows, 0.0), size.masked_fill(overflows, torch.inf)
