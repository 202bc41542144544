"""Sums over pairs as differentiable operations: each other's derivatives.

With Q, B and their matrices L (of differences) and A (of products) as in pairs.py:

    Q(u, v; x, c) of gradient h gives  L(h) (x, c)  to (u, v)  and  L(h) (u, v) to (x, c)
    L(w) (x, c) of gradient (p, q) gives  Q(p, q; x, c) to w  and  L(w) (p, q) to (x, c)        likewise B and A
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from janelia_core.ml._neighbors.derivatives import operators
from janelia_core.ml._neighbors.derivatives.functions import Saved, Tangent, as_one, differentiable, like, or_zero
from janelia_core.ml._runtime.transforms import Context, saved_primals


class _Products(Saved):
    """Q or B of each pair."""

    @staticmethod
    def backward(ctx: Context, h: Tensor) -> tuple[Any, ...]:
        u, v, x, c, indices, first = ctx.saved_tensors
        needed = ctx.needs_input_grad
        grads: list[Tensor | None] = [None] * 9
        if needed[0] or needed[1]:
            grads[:2] = pair_sums(h, x, c, indices, first, *ctx.settings)
        if needed[2] or needed[3]:
            grads[2:4] = pair_sums(h, u, v, indices, first, *ctx.settings)
        grads[:4] = [like(g, t, ctx, i) for i, (g, t) in enumerate(zip(grads, (u, v, x, c), strict=False))]
        return tuple(grads)

    @staticmethod
    def jvp(ctx: Context, du: Tangent, dv: Tangent, dx: Tangent, dc: Tangent, *_: None) -> Tensor:
        with saved_primals(ctx) as (u, v, x, c, *pairs):
            found = pair_products(or_zero(du, u), or_zero(dv, v), x, c, *pairs, *ctx.settings)
            return found + pair_products(u, v, or_zero(dx, x), or_zero(dc, c), *pairs, *ctx.settings)


class _Sums(Saved):
    """L(w) or A(w): sums by row and by centre."""

    @staticmethod
    def backward(ctx: Context, p: Tensor, q: Tensor) -> tuple[Any, ...]:
        w, x, c, *pairs = ctx.saved_tensors
        needed = ctx.needs_input_grad
        gw = pair_products(p, q, x, c, *pairs, *ctx.settings) if needed[0] else None
        gx, gc = pair_sums(w, p, q, *pairs, *ctx.settings) if needed[1] or needed[2] else (None, None)
        return like(gw, w, ctx, 0), like(gx, x, ctx, 1), like(gc, c, ctx, 2), *[None] * 5

    @staticmethod
    def jvp(ctx: Context, dw: Tangent, dx: Tangent, dc: Tangent, *_: None) -> tuple[Tensor, Tensor]:
        with saved_primals(ctx) as (w, x, c, *pairs):
            by_w = pair_sums(or_zero(dw, w), x, c, *pairs, *ctx.settings)
            by_x = pair_sums(w, or_zero(dx, x), or_zero(dc, c), *pairs, *ctx.settings)
            return by_w[0] + by_x[0], by_w[1] + by_x[1]


pair_products: Callable[..., Tensor] = differentiable(operators.knn_pair_products, _Products, as_one("xcxc"))
"""The operator of this name, which says what it takes, differentiable."""
pair_sums: Callable[..., tuple[Tensor, Tensor]] = differentiable(
    operators.knn_pair_sums, _Sums, as_one("xxc", share_ctrs=False)
)
"""Likewise."""
