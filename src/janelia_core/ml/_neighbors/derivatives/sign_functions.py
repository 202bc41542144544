"""Derivatives of manhattan and chebyshev distances as differentiable operations, see sign_pairs.py.

Each is the other's derivative with respect to directions and weights. Signs are constant around nearly all points, so
that all derivatives with respect to these are tensors of zeros, as torch has them for `abs`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from janelia_core.ml._neighbors.derivatives import operators
from janelia_core.ml._neighbors.derivatives.functions import Saved, Tangent, as_one, differentiable, like, or_zero
from janelia_core.ml._runtime.transforms import Context, saved_primals


class _SignValues(Saved):
    """Derivatives along directions u (n, d), v (m, d)."""

    @staticmethod
    def backward(ctx: Context, h: Tensor) -> tuple[Any, ...]:
        u, v, x, c, *pairs = ctx.saved_tensors
        needed = ctx.needs_input_grad
        gu, gv = sign_sums(h, x, c, *pairs, *ctx.settings) if needed[0] or needed[1] else (None, None)
        return like(gu, u, ctx, 0), like(gv, v, ctx, 1), _no_more(x, ctx, 2), _no_more(c, ctx, 3), *[None] * 4

    @staticmethod
    def jvp(ctx: Context, du: Tangent, dv: Tangent, *_: Tangent) -> Tensor:
        with saved_primals(ctx) as (u, v, *points):
            return sign_values(or_zero(du, u), or_zero(dv, v), *points, *ctx.settings)


class _SignSums(Saved):
    """Sums of w times open derivatives."""

    @staticmethod
    def backward(ctx: Context, p: Tensor, q: Tensor) -> tuple[Any, ...]:
        w, x, c, *pairs = ctx.saved_tensors
        gw = sign_values(p, q, x, c, *pairs, *ctx.settings) if ctx.needs_input_grad[0] else None
        return like(gw, w, ctx, 0), _no_more(x, ctx, 1), _no_more(c, ctx, 2), *[None] * 4

    @staticmethod
    def jvp(ctx: Context, dw: Tangent, *_: Tangent) -> tuple[Tensor, Tensor]:
        with saved_primals(ctx) as (w, *points):
            found: tuple[Tensor, Tensor] = sign_sums(or_zero(dw, w), *points, *ctx.settings)
            return found


def _no_more(points: Tensor, ctx: Context, i: int) -> Tensor | None:
    """Return the gradient of argument i, points, where one is needed: 0."""
    return torch.zeros_like(points) if ctx.needs_input_grad[i] else None


sign_values: Callable[..., Tensor] = differentiable(operators.knn_sign_values, _SignValues, as_one("xcxc"))
"""The operator of this name, which says what it takes, differentiable."""
sign_sums: Callable[..., tuple[Tensor, Tensor]] = differentiable(
    operators.knn_sign_sums, _SignSums, as_one("xxc", share_ctrs=False)
)
"""Likewise."""
