"""Angles between places on the sphere, with the derivatives of every order that geometry gives them.

The angle over a chord of square s is r = 2 asin(sqrt(s) / 2), so dr = ds / (2 sin r): sums over pairs of points of the
sphere, which move with latitude and longitude. Where r is 0 or pi the derivative is 0, a subgradient, and where it is
NaN: nothing is farther.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from janelia_core.ml._knn.data.points import float64_device
from janelia_core.ml._neighbors.derivatives import operators
from janelia_core.ml._neighbors.derivatives.functions import Saved, Tangent, as_one, differentiable, like, or_zero
from janelia_core.ml._neighbors.derivatives.pair_functions import pair_products, pair_sums
from janelia_core.ml._runtime.transforms import Context, keep, saved_primals


def moving_angles(x: Tensor, ctrs: Tensor, indices: Tensor, first: Tensor, budget: int) -> Tensor:
    """Return the angles (n, k) between places x (n, 2) and those of ctrs (m, 2) at indices, differentiable."""
    return _angles(x.detach(), ctrs.detach(), _points(x), _points(ctrs), indices, first, budget)


def _points(x: Tensor) -> Tensor:
    """Return points of the unit sphere (n, 3), for their derivatives; what is no place is one that does not move.

    In float64, if the device knows it: neighbours are near, and their difference would be noise.
    """
    x = x.to(torch.float64 if float64_device(x.device) == x.device else torch.float32)
    wild = ~torch.isfinite(x.detach()).all(dim=-1, keepdim=True)
    lat, lon = x.masked_fill(wild, 0).unbind(dim=-1)
    return torch.stack([lat.cos() * lon.cos(), lat.cos() * lon.sin(), lat.sin()], dim=-1)


def _by_square(r: Tensor) -> Tensor:
    """Return dr / ds."""
    flat = (r <= 0) | (r >= r.new_tensor(torch.pi)) | ~torch.isfinite(r)
    return (0.5 / r.masked_fill(flat, 1).sin()).masked_fill(flat, 0)


class _Angles(Saved):
    """Angles of places, whose derivatives are those of the squared chords of their points."""

    @staticmethod
    def setup_context(ctx: Context, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, _, *saved, budget = inputs
        keep(ctx, (*saved, output), (True, 2.0, budget))

    @staticmethod
    def backward(ctx: Context, g: Tensor) -> tuple[Any, ...]:
        px, pc, indices, first, r = ctx.saved_tensors
        gx, gc = pair_sums(g * _by_square(r), px, pc, indices, first, *ctx.settings)
        return None, None, like(gx, px, ctx, 2), like(gc, pc, ctx, 3), None, None, None

    @staticmethod
    def jvp(ctx: Context, _x: Tangent, _c: Tangent, dx: Tangent, dc: Tangent, *_: None) -> Tensor:
        with saved_primals(ctx) as (px, pc, indices, first, r):
            moved = pair_products(or_zero(dx, px), or_zero(dc, pc), px, pc, indices, first, *ctx.settings)
            return (moved * _by_square(r)).to(r.dtype)


_angles: Callable[..., Tensor] = differentiable(operators.knn_angles, _Angles, as_one("xcxc"))
