"""Cosines: 1 - <x, c> / (|x| |c|), and 1 where x or c is the zero vector.

Vectors whose squares might leave float64's range are multiplied by a power of two first, which changes no cosine
(`directions.moderate`). Then the errors of <x, c>, relative to |x| |c|, and of each squared norm, to itself, are at
most gamma(d + 4) (`dot`); roots halve the latter; two roots, a product, a quotient and the difference round once each.
In all at most gamma(2 d + 16), absolutely, since a cosine is at most 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

import torch
from torch import Tensor

from janelia_core.ml._knn.arithmetic.bounds import UNIT64, gamma
from janelia_core.ml._knn.arithmetic.double_double import Floats, Sum, cosine_distances, cosine_keys
from janelia_core.ml._knn.arithmetic.integers import Format, Rational, Rationals, dot, nearest_cosine_distance
from janelia_core.ml._knn.data.directions import direction_error, directions, moderate
from janelia_core.ml._knn.data.points import float64_device
from janelia_core.ml._knn.metrics.dot import Dot, products_at_once
from janelia_core.ml._knn.metrics.metric import COSINE, Bound, Metric


class Cosine(Metric):
    """1 - cosine, which no positive factor of a vector changes."""

    form = COSINE
    degree = 0
    directed = True
    doubled_below = math.inf

    def key(self, x: Rationals, c: Rationals) -> Rational:
        """Return -cos |x|, squared with its sign: ascending as 1 - cos, and rational; a zero vector's cosine is 0."""
        s = dot(x, c)
        return Fraction(s * s if s < 0 else -s * s, dot(c, c) or 1)

    def beyond(self, x: Sequence[float], c: Sequence[float]) -> float:
        """Return NaN: a vector that is not finite has no direction."""
        return math.nan

    def bound(self, d: int) -> Bound:
        """Return how far 1 - cosine in float64 can be off, absolutely."""
        return 0.0, gamma(2 * d + 16, UNIT64)

    def pair_values(self, x: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """Return 1 - cosine and its error; see `Metric`."""
        x64, c64 = moderate(x), moderate(c)
        return self._of_products((x64 * c64).sum(dim=-1), x64, c64)

    def block_values(self, x: Tensor, c: Tensor, chunk: int) -> tuple[Tensor, Tensor]:
        """Return 1 - cosine and its error, summed one coordinate at a time."""
        x64, c64 = moderate(x), moderate(c)
        sums = torch.zeros(len(x), len(c), dtype=torch.float64, device=float64_device(x.device))
        for q in range(x.shape[1]):
            sums.addcmul_(x64[:, q, None], c64[None, :, q])
        return self._of_products(sums, x64[:, None], c64)

    def _of_products(self, products: Tensor, x: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """Return 1 - cosine and its error, given float64 inner products of points that are `moderate`."""
        x_square, c_square = x.square().sum(dim=-1), c.square().sum(dim=-1)
        zero = (x_square == 0) | (c_square == 0)  # of the zero vector alone
        value = torch.where(zero, 1.0, 1.0 - products / (x_square.sqrt() * c_square.sqrt()))
        error = torch.full_like(value, self.bound(x.shape[-1])[1]).masked_fill_(zero, 0.0)
        undefined = ~(torch.isfinite(x).all(dim=-1) & torch.isfinite(c).all(dim=-1))
        return value.masked_fill_(undefined, torch.nan), error.masked_fill_(undefined, torch.nan)

    def at_once(self, x: Tensor, c: Tensor, chunk: int) -> tuple[Tensor, Tensor]:
        """Return the negative inner product of directions, by one product, and an error (r, 1)."""
        relative, absolute = Dot().bound(x.shape[1])
        return products_at_once(directions(x), directions(c), relative + 4.0 * direction_error(x.shape[1]), absolute)

    def sums(self, x: Floats, c: Floats) -> Sum:
        """Return 1 - cosine as double-doubles."""
        return cosine_distances(x, c)

    def key_sums(self, x: Floats, c: Floats) -> Sum:
        """Return the key as double-doubles, which tie where small integers do."""
        return cosine_keys(x, c)

    def is_within(self, x: Rationals, c: Rationals, r: Fraction) -> bool:
        """Tell whether 1 - cosine is at most r: s >= (1 - r) |x| |c|, compared as squares with their signs."""
        s, squares, least = dot(x, c), dot(x, x) * dot(c, c), 1 - r
        return bool(r >= 1 if squares == 0 else _signed_square(s) >= _signed_square(least) * squares)

    def distance_bits(self, x: Sequence[int], c: Sequence[int], unit: int, fmt: Format) -> int:
        """Return the bits of 1 - cosine."""
        return nearest_cosine_distance(int(dot(x, c)), int(dot(x, x) * dot(c, c)), fmt)


def _signed_square(v: Rational) -> Rational:
    return v * v if v > 0 else -v * v
