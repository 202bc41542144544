"""What a metric orders by: its value for pairs of points in float64, with a proven error.

    "euclidean", "sqeuclidean"   D = |x - c|^2
    "dot"                        -<x, c>
    "cosine"                     1 - <x, c> / (|x| |c|), and 1 where x or c is the zero vector

Smallest is nearest. With u = 2^-53 and gamma(n) as in `bounds`:

D: `bounds.DistanceBound`.

dot: each product carries one rounding, two more where 64-bit integers are rounded to float64 first, and the sum d - 1,
so the error is at most gamma(d + 2) sum_q |x_q c_q|, and 2^-1021 a coordinate for products that underflow; gamma(d + 4)
and 2^-1020 pay for the bound's own evaluation. A sum of finite terms that overflows is a value of 0 whose error is
infinite: it proves nothing, and must not be taken for the infinite value of an infinite coordinate.

cosine: vectors whose squares might leave float64's range are multiplied by a power of two first, which changes no
cosine (`directions.moderate`). Then the errors of <x, c>, relative to |x| |c|, and of each squared norm, to itself, are
at most gamma(d + 4); roots halve the latter; two roots, a product, a quotient and the difference round once each. In
all at most gamma(2 d + 16), absolutely, since a cosine is at most 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from janelia_core.ml._knn.arithmetic.bounds import OUTWARD, UNIT64, DistanceBound, gamma
from janelia_core.ml._knn.contract import Ordered
from janelia_core.ml._knn.data.directions import moderate
from janelia_core.ml._knn.data.frame import scale
from janelia_core.ml._knn.data.points import as_float64, float64_device, halves, is_wide

EUCLIDEAN = ("euclidean", "sqeuclidean")  # they order alike; the others order by a product
METRICS = (*EUCLIDEAN, "cosine", "dot")
_AT_ONCE = 1 << 15  # coordinates of pairs that stay in a core's cache
LEAST_SQUARE = 2.0**-800
LARGEST_SQUARE = 2.0**900
"""Squared norms within which kernels bound an inner product by the norms: none of their products leaves float64."""


@dataclass(frozen=True)
class Metric:
    """A metric for one search.

    Attributes:
        name: One of METRICS.
        exponent: Stored values are taken times 2^-exponent each (`Frame.verify_exponent`).
        exact: No float64 evaluation of an order value rounds (`Frame.exact`).
    """

    name: str
    exponent: int = 0
    exact: bool = False

    @property
    def uniform(self) -> bool:
        """Whether, in a row, larger order values have errors at least as large."""
        return self.name in EUCLIDEAN

    def errors(self, value: Tensor, error: Tensor) -> Tensor:
        """Return errors as `Ordered` wants them: 0 where nothing rounds or value is not finite."""
        if self.exact and self.name != "cosine":
            return torch.zeros_like(error)
        return torch.where(torch.isfinite(value), error, 0.0)

    def distances(self, indices: Tensor, value: Tensor, d: int) -> Ordered:
        """Return squared distances (r, w) of points of d coordinates, already in order, with their errors."""
        relative, absolute = value_error(self.name, d)
        return Ordered(indices, value, self.errors(value, value * relative + absolute))

    def pairs(self, x: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """Return order values and errors of points (..., d), broadcast."""
        value, error = pair_values(self.name, x, c, self.exponent)
        return value, self.errors(value, error)

    def block(self, x: Tensor, c: Tensor, chunk: int = 0) -> tuple[Tensor, Tensor]:
        """Return order values and errors (r, b) of rows (r, d) with centres (b, d).

        Pair by pair if all coordinates of all pairs are no more than a chunk, else one coordinate at a time.
        """
        if len(x) * len(c) * x.shape[1] <= min(chunk, _AT_ONCE):
            value, error = pair_values(self.name, x[:, None], c[None], self.exponent)
        else:
            value, error = block_values(self.name, x, c, self.exponent)
        return value, self.errors(value, error)


def value_error(metric: str, d: int) -> tuple[float, float]:
    """Return (relative, absolute) errors of float64 order values: relative to D, or to |x| |c| for "dot"."""
    if metric == "dot":
        return dot_error(d)
    if metric == "cosine":
        return 0.0, cosine_error(d)
    bound = DistanceBound.of(d, exact=False)
    return bound.relative, bound.absolute


def dot_error(d: int) -> tuple[float, float]:
    """Return (relative, absolute): how far a float64 inner product can be off, relative to sum_q |x_q c_q|."""
    return gamma(d + 4, UNIT64) * OUTWARD, (d + 1) * 2.0**-1020


def cosine_error(d: int) -> float:
    """Return how far 1 - cosine in float64 can be off."""
    return gamma(2 * d + 16, UNIT64)


def pair_values(metric: str, x: Tensor, c: Tensor, exponent: int = 0) -> tuple[Tensor, Tensor]:
    """Return the order values of pairs and their errors: |value - truth| <= error.

    Args:
        metric: One of METRICS.
        x: (..., d) stored values, broadcast against c.
        c: (..., d) stored values.
        exponent: Values are taken times 2^-exponent each, against overflow and underflow (a cosine is what it is).

    Returns:
        value, error: float64 without the last dimension. Where a value is not finite, so is the error.
    """
    d = x.shape[-1]
    if metric in EUCLIDEAN:
        value = difference(x, c, exponent).square_().sum(dim=-1)
        bound = DistanceBound.of(d, exact=False)
        return value, value * bound.relative + bound.absolute
    if metric == "cosine":
        x64, c64 = moderate(x), moderate(c)
        return _cosine((x64 * c64).sum(dim=-1), _Norm.of(x64), _Norm.of(c64), d)
    stored = as_float64(x), as_float64(c)
    x64, c64 = (scale(v, -exponent) if exponent else v for v in stored)
    terms = x64 * c64
    relative, absolute = dot_error(d)
    value, size = terms.sum(dim=-1), terms.abs().sum(dim=-1)
    if not bool(torch.isfinite(value).all()):
        x64, c64 = stored  # scaling may overflow, too
        wild = ~(torch.isfinite(x64) & torch.isfinite(c64))
        value, size = _without_overflow(value, size, torch.where(wild, x64 * c64, 0.0).sum(dim=-1), wild.any(dim=-1))
    return value.neg_(), size.mul_(relative).add_(absolute)


def block_values(metric: str, x: Tensor, c: Tensor, exponent: int) -> tuple[Tensor, Tensor]:
    """Return what `pair_values` does, for every row (r, d) with every centre (b, d)."""
    shape, d = (x.shape[0], c.shape[0]), x.shape[1]
    device = float64_device(x.device)
    sums = torch.zeros(shape, dtype=torch.float64, device=device)
    if metric in EUCLIDEAN:
        for q in range(d):
            delta = difference(x[:, q, None], c[None, :, q], exponent)  # (r, b)
            sums.addcmul_(delta, delta)
        bound = DistanceBound.of(d, exact=False)
        return sums, sums * bound.relative + bound.absolute
    if metric == "cosine":
        x64, c64 = moderate(x), moderate(c)
        for q in range(d):
            sums.addcmul_(x64[:, q, None], c64[None, :, q])
        return _cosine(sums, _Norm.of(x64).column(), _Norm.of(c64), d)
    stored = as_float64(x), as_float64(c)
    x64, c64 = (scale(v, -exponent) if exponent else v for v in stored)
    sizes = torch.zeros_like(sums)
    for q in range(d):
        sums.addcmul_(x64[:, q, None], c64[None, :, q])
        sizes.addcmul_(x64[:, q, None].abs(), c64[None, :, q].abs())
    if not bool(torch.isfinite(sums).all()):
        sums, sizes = _without_overflow(sums, sizes, *_wild_sums(*stored))  # scaling may overflow, too
    relative, absolute = dot_error(d)
    return sums.neg_(), sizes.mul_(relative).add_(absolute)


def _wild_sums(x: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """Return the sums (r, b) of those terms of <x, c> that hold something infinite or NaN, and where there are any."""
    sums = torch.zeros(x.shape[0], c.shape[0], dtype=torch.float64, device=x.device)
    found = torch.zeros_like(sums, dtype=torch.bool)
    for q in range(x.shape[1]):
        one, other = x[:, q, None], c[None, :, q]
        wild = ~(torch.isfinite(one) & torch.isfinite(other))
        sums += torch.where(wild, one * other, 0.0)
        found |= wild
    return sums, found


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


class _Norm(NamedTuple):
    """|v|^2 of points, and whether v is finite; 0 only for the zero vector."""

    square: Tensor
    finite: Tensor

    @classmethod
    def of(cls, v: Tensor) -> _Norm:
        """Look at points (..., d) that are `moderate`."""
        return cls(v.square().sum(dim=-1), torch.isfinite(v).all(dim=-1))

    def column(self) -> _Norm:
        """Return the same, to be broadcast against a row."""
        return _Norm(*(part[:, None] for part in self))


def _cosine(products: Tensor, x: _Norm, c: _Norm, d: int) -> tuple[Tensor, Tensor]:
    """Return 1 - cosine and its error, given float64 inner products and what norms are known."""
    zero = (x.square == 0) | (c.square == 0)
    value = torch.where(zero, 1.0, 1.0 - products / (x.square.sqrt() * c.square.sqrt()))
    error = torch.full_like(value, cosine_error(d)).masked_fill_(zero, 0.0)
    undefined = ~(x.finite & c.finite)
    return value.masked_fill_(undefined, torch.nan), error.masked_fill_(undefined, torch.nan)


def difference(x: Tensor, c: Tensor, exponent: int) -> Tensor:
    """Return (x - c) * 2^-exponent in float64, broadcast, off by a relative 2^-53, or 3 2^-53 for 64-bit integers."""
    if is_wide(x) or is_wide(c):
        x_high, x_low = _parts(x)
        c_high, c_low = _parts(c)
        # Differences of the halves are exact for integers. Against a float, high - c rounds only where it is at most
        # twice the difference, or high is 0: signs are alike, so |x| < 2^32 has no high part that low takes away again.
        delta = (x_high - c_high) + (x_low - c_low)
        return scale(delta, -exponent) if exponent else delta
    x64, c64 = as_float64(x), as_float64(c)
    if exponent:
        x64, c64 = scale(x64, -exponent), scale(c64, -exponent)
    return x64 - c64


def _parts(values: Tensor) -> tuple[Tensor, Tensor]:
    if is_wide(values):
        return halves(values)
    exact = as_float64(values)
    return exact, torch.zeros_like(exact)
