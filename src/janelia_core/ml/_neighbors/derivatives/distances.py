"""Distances of found neighbours, differentiable to every order: reverse and forward mode, vmap, torch.compile.

With Q, B and their matrices L and A as in pair_functions.py, for fixed indices:

    sqeuclidean  s = Q(x, c; x, c)     ds = 2 Q(dx, dc; x, c)        gradient  L(2 g) (x, c)
    cosine       half of s of the unit vectors, but for a constant
    dot          -B(x, c; x, c) / 2    -B(dx, dc; x, c)              gradient  -A(g) (x, c)
    haversine    an angle, a function of s of points of the sphere: angles.py
    euclidean    r = |x - c|           dr = values (dx - dc)         gradient  sums (g)      of norm_pairs.py
    manhattan, chebyshev               likewise                                              of sign_pairs.py

Where r = 0 the derivative is 0, a subgradient. The table is in rules.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from janelia_core.ml._knn.distances.distances import result_dtype
from janelia_core.ml._neighbors.derivatives import operators
from janelia_core.ml._neighbors.derivatives.angles import moving_angles
from janelia_core.ml._neighbors.derivatives.functions import (
    Saved,
    Tangent,
    as_one,
    differentiable,
    is_alone,
    like,
    or_zero,
)
from janelia_core.ml._neighbors.derivatives.pair_functions import pair_products, pair_sums
from janelia_core.ml._neighbors.derivatives.rules import Pairing, rule_of
from janelia_core.ml._runtime.transforms import Context, is_transformed, keep, saved_primals


def distances(
    x: Tensor,
    ctrs: Tensor,
    indices: Tensor,
    metric: str,
    budget: int,
    first: Tensor | None = None,
    known: Tensor | None = None,
) -> Tensor:
    """Return the distance of each row of x to its neighbours, differentiable with respect to x and ctrs.

    Args:
        x: (n, d).
        ctrs: (m, d).
        indices: (n, k) int64 row numbers of ctrs, or -1.
        metric: One of METRICS.
        budget: Bytes of workspace of the derivatives.
        first: (n_batches,) int64: for each batch of rows the centre that its indices call 0; None: row numbers.
        known: What the search of plain tensors has found of the result, if it has.

    Returns:
        (n, k), inf where the index is -1.
    """
    transformed = is_transformed()
    wanted = transformed or (torch.is_grad_enabled() and (x.requires_grad or ctrs.requires_grad))
    if known is not None and not wanted:
        return known
    first = indices.new_empty(0) if first is None else first
    if known is not None and metric != "cosine" and not transformed:
        found: Tensor = _Known.apply(x, ctrs, indices, first, metric, budget, (known,))  # type: ignore[no-untyped-call]
        return found
    if metric == "cosine" and wanted:
        # 1 - cos is half the squared distance of the unit vectors, up to a constant where one of them is zero.
        return _cosines(x.detach(), ctrs.detach(), _unit(x), _unit(ctrs), indices, first, budget)
    if metric == "haversine" and wanted:
        return moving_angles(x, ctrs, indices, first, budget)
    return _distances(x, ctrs, indices, first, metric, budget)


def _unit(x: Tensor) -> Tensor:
    """Return x / |x| row by row, 0 where x is 0, without overflow or underflow.

    NaN where x is not finite, and no derivative there: a gradient of 0, of what is nobody's neighbour, would be NaN.
    """
    x = x.to(result_dtype(x, x))
    wild = ~torch.isfinite(x.detach()).all(dim=-1, keepdim=True)
    x = x.masked_fill(wild, 0)
    largest = x.detach().abs().amax(dim=-1, keepdim=True) if x.shape[-1] else x.detach().sum(-1, keepdim=True)
    # A factor of the row changes no unit vector, and hence no derivative.
    scaled = x / torch.where(largest > 0, largest, 1)
    zero = largest == 0
    norm = (scaled.square().sum(dim=-1, keepdim=True) + zero).sqrt()
    return (scaled / norm).masked_fill(zero, 0).masked_fill(wild, torch.nan)


class _Distances(Saved):
    """Of any metric; but cosines have no derivative here."""

    @staticmethod
    def setup_context(ctx: Context, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, ctrs, indices, first, *settings = inputs
        keep(ctx, (x, ctrs, indices, first, output), tuple(settings))

    @staticmethod
    def backward(ctx: Context, g: Tensor) -> tuple[Any, ...]:
        x, ctrs, indices, first, r = ctx.saved_tensors
        metric, budget = ctx.settings
        rule, at = rule_of(metric), Pairing(x, ctrs, r.detach(), indices, first, budget)
        gx, gc = (rule.few(g, at) if is_alone(g, x, ctrs) else None) or rule.gradient(g, at)
        return like(gx, x, ctx, 0), like(gc, ctrs, ctx, 1), None, None, None, None

    @staticmethod
    def jvp(ctx: Context, dx: Tangent, dc: Tangent, *_: None) -> Tensor:
        with saved_primals(ctx) as (x, ctrs, indices, first, r):
            metric, budget = ctx.settings
            at = Pairing(x, ctrs, r.detach(), indices, first, budget)
            return rule_of(metric).along(or_zero(dx, x), or_zero(dc, ctrs), at)


class _Known(Function):
    """Of any metric, of plain tensors, where the search has found them: nothing is evaluated.

    No transform sees it, so that it needs neither `jvp` nor `setup_context`, for which torch binds arguments anew.
    """

    @staticmethod
    def forward(ctx: Context, *inputs: Any) -> Tensor:
        *asked, (known,) = inputs
        _Distances.setup_context(ctx, tuple(asked), known)
        return known  # type: ignore[no-any-return]

    @staticmethod
    def backward(ctx: Context, g: Tensor) -> tuple[Any, ...]:
        return *_Distances.backward(ctx, g), None


class _Cosines(Saved):
    """Cosine distances, whose derivatives are those of half the squares of the unit vectors."""

    @staticmethod
    def setup_context(ctx: Context, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, _, *saved, budget = inputs
        keep(ctx, saved, (True, 1.0, budget))

    @staticmethod
    def backward(ctx: Context, g: Tensor) -> tuple[Any, ...]:
        ux, uc, indices, first = ctx.saved_tensors
        gx, gc = pair_sums(g, ux, uc, indices, first, *ctx.settings)
        return None, None, like(gx, ux, ctx, 2), like(gc, uc, ctx, 3), None, None, None

    @staticmethod
    def jvp(ctx: Context, _x: Tangent, _c: Tangent, dx: Tangent, dc: Tangent, *_: None) -> Tensor:
        with saved_primals(ctx) as (ux, uc, indices, first):
            moved = or_zero(dx, ux), or_zero(dc, uc)
            return pair_products(*moved, ux, uc, indices, first, *ctx.settings)


_distances: Callable[..., Tensor] = differentiable(operators.knn_distances, _Distances, as_one("xc"))
_cosines: Callable[..., Tensor] = differentiable(operators.knn_cosines, _Cosines, as_one("xcxc"))
