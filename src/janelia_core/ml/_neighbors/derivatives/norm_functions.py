"""Derivatives of Euclidean distances as differentiable operations: each other's derivatives, see norm_pairs.py."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from janelia_core.ml._neighbors.derivatives import operators
from janelia_core.ml._neighbors.derivatives.functions import Saved, Tangent, as_one, differentiable, like, or_zero
from janelia_core.ml._runtime.transforms import Context, saved_primals


class _NormValues(Saved):
    """Derivatives along the directions u (n, m, d), v (m_ctrs, m, d)."""

    @staticmethod
    def backward(ctx: Context, h: Tensor) -> tuple[Any, ...]:
        u, v, *points = ctx.saved_tensors
        needed = ctx.needs_input_grad
        gu, gv = _by_direction(h, u, v, points, ctx.settings) if needed[0] or needed[1] else (None, None)
        gx, gc = norm_sums(h, u, v, *points, *ctx.settings) if needed[2] or needed[3] else (None, None)
        x, c, *_ = points
        return like(gu, u, ctx, 0), like(gv, v, ctx, 1), like(gx, x, ctx, 2), like(gc, c, ctx, 3), *[None] * 4

    @staticmethod
    def jvp(ctx: Context, du: Tangent, dv: Tangent, dx: Tangent, dc: Tangent, *_: None) -> Tensor:
        with saved_primals(ctx) as (u, v, x, c, *rest):
            points = (x, c, *rest)
            more = _with(u, or_zero(dx, x)), _with(v, or_zero(dc, c))
            found = norm_values(*more, *points, *ctx.settings)
            for changed in _changed(u, v, du, dv):
                found = found + norm_values(*changed, *points, *ctx.settings)
            return found


class _NormSums(Saved):
    """Sums of w times open derivatives."""

    @staticmethod
    def backward(ctx: Context, p: Tensor, q: Tensor) -> tuple[Any, ...]:
        w, u, v, *points = ctx.saved_tensors
        needed = ctx.needs_input_grad
        more = _with(u, p), _with(v, q)
        gw = norm_values(*more, *points, *ctx.settings) if needed[0] else None
        gu, gv = (None, None)
        if u.shape[1] and (needed[1] or needed[2]):
            gu, gv = _by_direction(w, *more, points, ctx.settings, u.shape[1])
        gx, gc = norm_sums(w, *more, *points, *ctx.settings) if needed[3] or needed[4] else (None, None)
        x, c, *_ = points
        grads = [like(g, t, ctx, i) for i, (g, t) in enumerate(((gw, w), (gu, u), (gv, v), (gx, x), (gc, c)))]
        return *grads, *[None] * 4

    @staticmethod
    def jvp(
        ctx: Context, dw: Tangent, du: Tangent, dv: Tangent, dx: Tangent, dc: Tangent, *_: None
    ) -> tuple[Tensor, Tensor]:
        with saved_primals(ctx) as (w, u, v, x, c, *rest):
            points = (x, c, *rest)
            more = _with(u, or_zero(dx, x)), _with(v, or_zero(dc, c))
            by_row, by_centre = norm_sums(w, *more, *points, *ctx.settings)
            parts = [(or_zero(dw, w), u, v), *((w, *changed) for changed in _changed(u, v, du, dv))]
            for part in parts:
                found = norm_sums(*part, *points, *ctx.settings)
                by_row, by_centre = by_row + found[0], by_centre + found[1]
            return by_row, by_centre


def _with(directions: Tensor, one: Tensor) -> Tensor:
    """Return directions (n, m, d) and one more (n, d)."""
    return torch.cat([directions, one[:, None]], dim=1) if directions.shape[1] else one[:, None]


def _by_direction(
    w: Tensor, u: Tensor, v: Tensor, points: list[Tensor], settings: tuple[Any, ...], count: int | None = None
) -> tuple[Tensor, Tensor]:
    """Return sums that leave open the directions, one after the other, or the first `count` of them."""
    found = []
    for left_out in range(u.shape[1] if count is None else count):
        others = [torch.cat([t[:, :left_out], t[:, left_out + 1 :]], dim=1) for t in (u, v)]
        found.append(norm_sums(w, *others, *points, *settings))
    by_row, by_centre = zip(*found, strict=True)
    return torch.stack(by_row, dim=1), torch.stack(by_centre, dim=1)


def _changed(u: Tensor, v: Tensor, du: Tangent, dv: Tangent) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield u and v with one direction after the other replaced by its tangent."""
    if du is None and dv is None:
        return
    du, dv = or_zero(du, u), or_zero(dv, v)
    for at in range(u.shape[1]):
        yield tuple(torch.cat([t[:, :at], dt[:, at : at + 1], t[:, at + 1 :]], dim=1) for t, dt in ((u, du), (v, dv)))  # type: ignore[misc]


norm_values: Callable[..., Tensor] = differentiable(operators.knn_norm_values, _NormValues, as_one("xcxcx"))
"""The operator of this name, which says what it takes, differentiable."""
norm_sums: Callable[..., tuple[Tensor, Tensor]] = differentiable(
    operators.knn_norm_sums, _NormSums, as_one("xxcxcx", share_ctrs=False)
)
"""Likewise."""
