"""What a metric orders by: its value for pairs of points in float64, with a proven error.

    "euclidean", "sqeuclidean"   D = |x - c|^2
    "dot"                        -<x, c>
    "cosine"                     1 - <x, c> / (|x| |c|), and 1 where x or c is the zero vector

Smallest is nearest. With u = 2^-53 and gamma(n) as in `bounds`:

D: `bounds.DistanceBound`.

dot: each product carries one rounding, two more where 64-bit integers are rounded to float64 first, and the sum d - 1,
so the error is at most gamma(d + 2) sum_q |x_q c_q|, and 2^-1021 a coordinate for products that underflow.

cosine: the errors of <x, c>, relative to |x| |c|, and of each squared norm, to itself, are at most gamma(d + 2);
roots halve the latter; two roots, a product, a quotient and the difference round once each. In all at most
gamma(2 d + 12), absolutely, since a cosine is at most 1. Norms whose squares leave [2^-800, 2^900] prove nothing.
"""

from __future__ import annotations

import torch
from torch import Tensor

from janelia_core.ml._knn.bounds import OUTWARD, UNIT64, DistanceBound, gamma
from janelia_core.ml._knn.frame import scale
from janelia_core.ml._knn.points import as_float64, halves, is_wide

METRICS = ("euclidean", "sqeuclidean", "cosine", "dot")
LEAST_SQUARE, LARGEST_SQUARE = 2.0**-800, 2.0**900


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
    if metric in ("euclidean", "sqeuclidean"):
        value = difference(x, c, exponent).square_().sum(dim=-1)
        bound = DistanceBound.of(d, exact=False)
        return value, value * bound.relative + bound.absolute
    x64, c64 = (scale(as_float64(v), -exponent) if exponent else as_float64(v) for v in (x, c))
    terms = x64 * c64
    if metric == "dot":
        relative, absolute = dot_error(d)
        value = _without_overflow(terms, x64, c64).neg_()
        return value, terms.abs_().sum(dim=-1).mul_(relative).add_(absolute)
    return cosine_values(terms.sum(dim=-1), x64, c64)


def _without_overflow(terms: Tensor, x: Tensor, c: Tensor) -> Tensor:
    """Sum terms = x c (..., d); where x or c isn't finite, what is finite has no say in the sum's class."""
    value = terms.sum(dim=-1)
    if bool(torch.isfinite(value).all()):
        return value
    wild = ~(torch.isfinite(x) & torch.isfinite(c))
    return torch.where(wild.any(dim=-1), torch.where(wild, terms, 0.0).sum(dim=-1), value)


def cosine_values(products: Tensor, x: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """Return 1 - cosine and its error, given float64 inner products (...) and points x, c (..., d)."""
    (x_square, x_sound, x_zero), (c_square, c_sound, c_zero) = _square(x), _square(c)
    zero, sound = x_zero | c_zero, x_sound & c_sound
    cosine = products / (x_square.sqrt() * c_square.sqrt())
    value = torch.where(zero, 1.0, torch.where(sound, 1.0 - cosine, 1.0))
    error = torch.where(zero, 0.0, torch.where(sound, cosine_error(x.shape[-1]), 2.0))
    undefined = ~(_all_finite(x) & _all_finite(c))
    return value.masked_fill_(undefined, torch.nan), error.masked_fill_(undefined, torch.nan)


def _square(v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return |v|^2, whether it is known to its relative error, and whether v is zero."""
    square = v.square().sum(dim=-1)
    return square, (square >= LEAST_SQUARE) & (square <= LARGEST_SQUARE), (v == 0).all(dim=-1)


def _all_finite(v: Tensor) -> Tensor:
    return torch.isfinite(v).all(dim=-1)


def difference(x: Tensor, c: Tensor, exponent: int) -> Tensor:
    """Return (x - c) * 2^-exponent in float64, broadcast, rounded once (64-bit integers included)."""
    if is_wide(x) or is_wide(c):
        x_high, x_low = _parts(x)
        c_high, c_low = _parts(c)
        # Differences of the halves are exact for integers; against floats below 2^53 they are exact, too.
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
