"""Sums of affine maps over found neighbours as a differentiable operation, to every order.

T of sums.py is linear in g, W, b and the points (x, c), so F, H and K are each other's derivatives:

    F(W, b, x, c) of gradient h       gives  H(h, x, c)  to (W, b)   and  K(h, W)  to (x, c)
    H(g, x, c)    of gradient (V, e)  gives  F(V, e, x, c)  to g     and  K(g, V)  to (x, c)
    K(g, W)       of gradient (p, q)  gives  F(W, 0, p, q)  to g     and  H(g, p, q)  to W
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.library import custom_op

from janelia_core.ml._knn.distances.distances import result_dtype
from janelia_core.ml._neighbors.affine import sums as affine
from janelia_core.ml._neighbors.derivatives.functions import Saved, Tangent, differentiable, each_alone, like, or_zero
from janelia_core.ml._runtime.transforms import Context, saved_primals


def affine_values(weight: Tensor, bias: Tensor, x: Tensor, c: Tensor, indices: Tensor, budget: int) -> Tensor:
    """Return the sum over each row's neighbours j of weight[j] (x_i - c_j) + bias[j].

    Args:
        weight: (m, outputs, d).
        bias: (m, outputs).
        x: (n, d).
        c: (m, d).
        indices: (n, k) int64 row numbers of c, or -1, which adds nothing.
        budget: Bytes of workspace.

    Returns:
        (n, outputs), float64 if x or weight is, else float32.
    """
    return _values(weight, bias, x, c, indices, budget)


@custom_op("janelia_core::knn_affine_values", mutates_args=())
def knn_affine_values(weight: Tensor, bias: Tensor, x: Tensor, c: Tensor, indices: Tensor, budget: int) -> Tensor:
    """Evaluate F (n, outputs)."""
    return affine.values(weight, bias, x, c, indices, budget)


@custom_op("janelia_core::knn_affine_maps", mutates_args=())
def knn_affine_maps(g: Tensor, x: Tensor, c: Tensor, indices: Tensor, budget: int) -> tuple[Tensor, Tensor]:
    """Evaluate H: (m, outputs, d) and (m, outputs)."""
    return affine.maps(g, x, c, indices, budget)


@custom_op("janelia_core::knn_affine_points", mutates_args=())
def knn_affine_points(g: Tensor, weight: Tensor, indices: Tensor, budget: int) -> tuple[Tensor, Tensor]:
    """Evaluate K: (n, d) and (m, d)."""
    return affine.points(g, weight, indices, budget)


@knn_affine_values.register_fake
def _(weight: Tensor, bias: Tensor, x: Tensor, *_: object) -> Tensor:
    return x.new_empty((x.shape[0], weight.shape[1]), dtype=result_dtype(x, weight))


@knn_affine_maps.register_fake
def _(g: Tensor, x: Tensor, c: Tensor, *_: object) -> tuple[Tensor, Tensor]:
    dtype = result_dtype(x, g)
    shape = (c.shape[0], g.shape[1])
    return c.new_empty((*shape, c.shape[1]), dtype=dtype), c.new_empty(shape, dtype=dtype)


@knn_affine_points.register_fake
def _(g: Tensor, weight: Tensor, *_: object) -> tuple[Tensor, Tensor]:
    dtype = result_dtype(g, weight)
    n_ctrs, _outputs, d = weight.shape
    return g.new_empty((g.shape[0], d), dtype=dtype), g.new_empty((n_ctrs, d), dtype=dtype)


class _Values(Saved):
    @staticmethod
    def backward(ctx: Context, h: Tensor) -> tuple[Any, ...]:
        weight, bias, x, c, indices = ctx.saved_tensors
        needs = ctx.needs_input_grad
        by_map = _maps(h, x, c, indices, *ctx.settings) if needs[0] or needs[1] else (None, None)
        by_point = _points(h, weight, indices, *ctx.settings) if needs[2] or needs[3] else (None, None)
        grads = zip((*by_map, *by_point), (weight, bias, x, c), strict=True)
        return *(like(g, of, ctx, i) for i, (g, of) in enumerate(grads)), None, None

    @staticmethod
    def jvp(ctx: Context, dw: Tangent, db: Tangent, dx: Tangent, dc: Tangent, *_: None) -> Tensor:
        with saved_primals(ctx) as (weight, bias, x, c, indices):
            by_map = affine_values(or_zero(dw, weight), or_zero(db, bias), x, c, indices, *ctx.settings)
            zero = torch.zeros_like(bias)
            return by_map + affine_values(weight, zero, or_zero(dx, x), or_zero(dc, c), indices, *ctx.settings)


class _Maps(Saved):
    @staticmethod
    def backward(ctx: Context, v: Tensor, e: Tensor) -> tuple[Any, ...]:
        g, x, c, indices = ctx.saved_tensors
        needs = ctx.needs_input_grad
        by_g = affine_values(v, e, x, c, indices, *ctx.settings) if needs[0] else None
        gx, gc = _points(g, v, indices, *ctx.settings) if needs[1] or needs[2] else (None, None)
        return like(by_g, g, ctx, 0), like(gx, x, ctx, 1), like(gc, c, ctx, 2), None, None

    @staticmethod
    def jvp(ctx: Context, dg: Tangent, dx: Tangent, dc: Tangent, *_: None) -> tuple[Tensor, Tensor]:
        with saved_primals(ctx) as (g, x, c, indices):
            by_g = _maps(or_zero(dg, g), x, c, indices, *ctx.settings)
            by_point = _maps(g, or_zero(dx, x), or_zero(dc, c), indices, *ctx.settings)
            return by_g[0] + by_point[0], by_g[1]


class _Points(Saved):
    @staticmethod
    def backward(ctx: Context, p: Tensor, q: Tensor) -> tuple[Any, ...]:
        g, weight, indices = ctx.saved_tensors
        needs = ctx.needs_input_grad
        zero = weight.new_zeros(weight.shape[:2])
        by_g = affine_values(weight, zero, p, q, indices, *ctx.settings) if needs[0] else None
        by_weight = _maps(g, p, q, indices, *ctx.settings)[0] if needs[1] else None
        return like(by_g, g, ctx, 0), like(by_weight, weight, ctx, 1), None, None

    @staticmethod
    def jvp(ctx: Context, dg: Tangent, dw: Tangent, *_: None) -> tuple[Tensor, Tensor]:
        with saved_primals(ctx) as (g, weight, indices):
            by_g = _points(or_zero(dg, g), weight, indices, *ctx.settings)
            by_weight = _points(g, or_zero(dw, weight), indices, *ctx.settings)
            return by_g[0] + by_weight[0], by_g[1] + by_weight[1]


_values: Callable[..., Tensor] = differentiable(knn_affine_values, _Values, each_alone)
_maps: Callable[..., tuple[Tensor, Tensor]] = differentiable(knn_affine_maps, _Maps, each_alone)
_points: Callable[..., tuple[Tensor, Tensor]] = differentiable(knn_affine_points, _Points, each_alone)
