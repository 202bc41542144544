"""Correct rounding of values known to lie in an interval: decided where both of its ends round alike."""

from __future__ import annotations

import torch
from torch import Tensor

from janelia_core.ml._knn.arithmetic.bounds import OUTWARD
from janelia_core.ml._knn.arithmetic.double_double import two_product


def rounded(value: Tensor, error: Tensor, root: bool) -> tuple[Tensor, Tensor]:
    """Round to float32 what lies within error of value, both float64.

    Args:
        value: Any shape, not finite where nothing is known.
        error: Likewise.
        root: The square root is wanted instead.

    Returns:
        float32 numbers, never -0, and whether each is certain.
    """
    low, high = _below(value - error), _above(value + error)
    if root:
        low, high = _below(low.clamp_(min=0.0).sqrt_()).clamp_(min=0.0), _above(high.sqrt_())
    return _alike(low.to(torch.float32), high.to(torch.float32))


def rounded_double(hi: Tensor, lo: Tensor, error: Tensor, root: bool, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Round to float32 or float64 what lies within error of hi + lo, float64 with |lo| at most half a unit of hi.

    Returns:
        Numbers of the dtype, never -0, and whether each is certain.
    """
    if root:
        hi, lo, error = _root(hi, lo, error)
    # lo - error rounds; where error is 0 it does not.
    error = torch.where(error == 0, error, (error + 2.0**-52 * lo.abs()) * OUTWARD)
    low, high = hi + (lo - error), hi + (lo + error)
    if dtype == torch.float32:
        exact = (lo == 0) & (error == 0)
        low, high = torch.where(exact, hi, _below(low)), torch.where(exact, hi, _above(high))
    return _alike(low.to(dtype), high.to(dtype))


def _root(hi: Tensor, lo: Tensor, error: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the square root of a nonnegative number as (hi, lo, error).

    One step of Newton's method from r = sqrt(hi): sqrt(r^2 + e) = r + e / (2 r) - ..., the rest being at most
    e^2 / (8 r^3) (1 + |e| / r^2), and |e| / r^2 at most some units of 2^-53.
    """
    r = hi.sqrt()
    square, lost = two_product(r, r)
    rest = (hi - square) + (lo - lost)
    safe = torch.where(r > 0, r, 1.0)
    low = rest / (2.0 * safe)
    error = error / (2.0 * safe) * OUTWARD + torch.where(rest == 0, 0.0, r * 2.0**-100)
    known = (r > 0) & (hi > 2.0**-800) | ((hi == 0) & (lo == 0) & (error == 0))
    return r, low, error.masked_fill(~known, torch.inf)


def _below(value: Tensor) -> Tensor:
    return torch.nextafter(value, torch.full_like(value, -torch.inf))


def _above(value: Tensor) -> Tensor:
    return torch.nextafter(value, torch.full_like(value, torch.inf))


def _alike(low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    return low.masked_fill(low == 0, 0.0), low == high
