"""Points divided by their norms: cosines are inner products of these."""

from __future__ import annotations

import torch
from torch import Tensor

from janelia_core.ml._knn.arithmetic.bounds import UNIT64, gamma
from janelia_core.ml._knn.data.points import as_float64

_MODERATE = 2.0**400


def direction_error(d: int) -> float:
    """Bound the relative error of every coordinate of `directions`.

    A 64-bit integer is rounded once. The norm then carries gamma(d + 3) of its terms, halved by the root, and a
    rounding of its own; the quotient one more. What underflows is below 2^-1000 and left to the screens' margins.
    """
    return gamma(d + 8, UNIT64)


def directions(values: Tensor) -> Tensor:
    """Return stored rows (r, d) of any finite magnitude as float64 of norm 1; zero stays zero, others become NaN."""
    v = moderate(values)
    norm: Tensor = torch.linalg.vector_norm(v, dim=1, keepdim=True)
    return v / torch.where(norm == 0, 1.0, norm)


def moderate(values: Tensor) -> Tensor:
    """Return stored rows (..., d) in float64, each times a power of two if that keeps its squares within float64.

    If any largest coordinate leaves [2^-400, 2^400] all rows but zero vectors get theirs into [1/2, 1); what underflows
    there is beyond any rounding of the norm. On an accelerator, which nobody waits for, they always do.
    """
    v = as_float64(values)
    if v.shape[-1] == 0:
        return v
    largest = v.abs().amax(dim=-1, keepdim=True)
    if v.is_cpu and bool(((largest < _MODERATE) & ((largest > 1 / _MODERATE) | (largest == 0))).all()):
        return v
    return scaled_by(v, -torch.frexp(largest).exponent)


def scaled_by(values: Tensor, exponents: Tensor) -> Tensor:
    """Return float64 values (..., d) * 2^exponents (..., 1), without an intermediate overflow or underflow."""
    half = exponents // 2
    one = torch.ones_like(exponents, dtype=torch.float64)
    return values * torch.ldexp(one, half) * torch.ldexp(one, exponents - half)
