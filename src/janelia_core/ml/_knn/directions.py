"""Points divided by their norms: cosines are inner products of these."""

from __future__ import annotations

import torch
from torch import Tensor

from janelia_core.ml._knn.bounds import UNIT64, gamma
from janelia_core.ml._knn.points import as_float64

_MODERATE = 2.0**400


def direction_error(d: int) -> float:
    """Bound the relative error of every coordinate of `directions`.

    A 64-bit integer is rounded once. The norm then carries gamma(d + 3) of its terms, halved by the root, and a
    rounding of its own; the quotient one more. What underflows is below 2^-1000 and left to the screens' margins.
    """
    return gamma(d + 8, UNIT64)


def directions(values: Tensor) -> Tensor:
    """Return stored rows (r, d) of any finite magnitude as float64 of norm 1; zero stays zero, others become NaN."""
    v = as_float64(values)
    largest = v.abs().amax(dim=1, keepdim=True)
    if not bool(((largest < _MODERATE) & ((largest > 1 / _MODERATE) | (largest == 0))).all()):
        exponent = torch.frexp(largest).exponent
        half = exponent // 2
        one = torch.ones_like(largest)
        v = v * torch.ldexp(one, -half) * torch.ldexp(one, half - exponent)
    norm: Tensor = torch.linalg.vector_norm(v, dim=1, keepdim=True)
    return v / torch.where(norm == 0, 1.0, norm)
