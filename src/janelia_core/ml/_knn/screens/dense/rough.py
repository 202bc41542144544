"""Rough distances, for looks at samples, which prove nothing: by a product, in the dtype of the points."""

from __future__ import annotations

from torch import Tensor


def rough_distances(a: Tensor, b: Tensor) -> Tensor:
    """Return the distances (r, s) of points a (r, d) and b (s, d)."""
    squares = a.square().sum(1, keepdim=True) + b.square().sum(1)
    return squares.addmm_(a, b.T, alpha=-2.0).clamp_(min=0.0).sqrt_()
