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
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from janelia_core.ml._knn.arithmetic.bounds import UNIT64, gamma
from janelia_core.ml._knn.arithmetic.double_double import Floats, Sum, cosine_distances, cosine_keys
from janelia_core.ml._knn.arithmetic.integers import Format, Rational, Rationals, dot, nearest_cosine_distance
from janelia_core.ml._knn.data.directions import direction_error, directions, moderate
from janelia_core.ml._knn.data.points import float64_device
from janelia_core.ml._knn.metrics.dot import dot_error, products_at_once
from janelia_core.ml._knn.metrics.metric import COSINE, Metric


def cosine_error(d: int) -> float:
    """Return how far 1 - cosine in float64 can be off."""
    return gamma(2 * d + 16, UNIT64)


class Cosine(Metric):
    """1 - cosine, which no positive factor of a vector changes."""

    form: ClassVar[int] = COSINE
    degree: ClassVar[int] = 0
    directed: ClassVar[bool] = True
    doubled_below: ClassVar[float] = math.inf

    def key(self, x: Rationals, c: Rationals) -> Rational:
        """Return -cos |x|, squared with its sign: ascending as 1 - cos, and rational; a zero vector's cosine is 0."""
        s = dot(x, c)
        return Fraction(s * s if s < 0 else -s * s, dot(c, c) or 1)

    def beyond(self, x: Sequence[float], c: Sequence[float]) -> float:
        """Return NaN: a vector that is not finite has no direction."""
        return math.nan

    def bound(self, d: int) -> tuple[float, float]:
        """Return how far 1 - cosine can be off, absolutely."""
        return 0.0, cosine_error(d)

    def pair_values(self, x: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """Return 1 - cosine and its error; see `Metric`."""
        x64, c64 = moderate(x), moderate(c)
        return _cosine((x64 * c64).sum(dim=-1), _Norm.of(x64), _Norm.of(c64), x.shape[-1])

    def block_values(self, x: Tensor, c: Tensor, chunk: int) -> tuple[Tensor, Tensor]:
        """Return 1 - cosine and its error, summed one coordinate at a time."""
        x64, c64 = moderate(x), moderate(c)
        sums = torch.zeros(len(x), len(c), dtype=torch.float64, device=float64_device(x.device))
        for q in range(x.shape[1]):
            sums.addcmul_(x64[:, q, None], c64[None, :, q])
        return _cosine(sums, _Norm.of(x64).column(), _Norm.of(c64), x.shape[1])

    def at_once(self, x: Tensor, c: Tensor, chunk: int) -> tuple[Tensor, Tensor]:
        """Return the negative inner product of directions, by one product, and an error (r, 1)."""
        relative, absolute = dot_error(x.shape[1])
        return products_at_once(directions(x), directions(c), relative + 4.0 * direction_error(x.shape[1]), absolute)

    def sums(self, x: Floats, c: Floats) -> Sum:
        """Return 1 - cosine as double-doubles."""
        return cosine_distances(x, c)

    def key_sums(self, x: Floats, c: Floats) -> Sum:
        """Return the key as double-doubles, which tie where small integers do."""
        return cosine_keys(x, c)

    def distance_bits(self, x: Sequence[int], c: Sequence[int], unit: int, fmt: Format) -> int:
        """Return the bits of 1 - cosine."""
        return nearest_cosine_distance(int(dot(x, c)), int(dot(x, x) * dot(c, c)), fmt)


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
