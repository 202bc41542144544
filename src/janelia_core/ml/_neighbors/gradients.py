"""Distances of found neighbours, differentiable to every order: reverse and forward mode, vmap, torch.compile.

With Q, B and their matrices L (of differences) and A (of products) as in pairs.py, for fixed indices:

    sqeuclidean  s = Q(x, c; x, c)     ds = 2 Q(dx, dc; x, c)        gradient  L(2 g) (x, c)
    euclidean    r = sqrt(s)           dr = Q(dx, dc; x, c) / r      gradient  L(g / r) (x, c)
    dot          -B(x, c; x, c) / 2    -B(dx, dc; x, c)              gradient  -A(g) (x, c)

    Q(u, v; x, c) of gradient h gives  L(h) (x, c) to (u, v)  and  L(h) (u, v) to (x, c)
    L(w) (x, c) of gradient (p, q) gives  Q(p, q; x, c) to w  and  L(w) (p, q) to (x, c)        likewise B and A

Where r = 0 the derivative is 0, a subgradient. Each function is an autograd Function with forward mode for
torch.func, and the operator registered from it elsewhere, which is what torch.compile and torch.export take whole.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from janelia_core.ml._neighbors.operators import knn_distances, knn_pair_products, knn_pair_sums
from janelia_core.ml._neighbors.pairs import result_dtype
from janelia_core.ml._runtime.transforms import (
    batch_first,
    break_graph,
    is_differentiated,
    is_transformed,
    saved_primals,
)


def distances(x: Tensor, ctrs: Tensor, indices: Tensor, metric: str, budget: int) -> Tensor:
    """Return the distance of each row of x to its neighbours, differentiable with respect to x and ctrs.

    Args:
        x: (n, d).
        ctrs: (m, d).
        indices: (n, k) int64 row numbers of ctrs, or -1.
        metric: "euclidean", "sqeuclidean", "cosine" or "dot".
        budget: Bytes of workspace of the derivatives.

    Returns:
        (n, k), inf where the index is -1.
    """
    if metric != "cosine":
        return _distances(x, ctrs, indices, metric, budget)
    if not (is_transformed() or (torch.is_grad_enabled() and (x.requires_grad or ctrs.requires_grad))):
        return _distances(x, ctrs, indices, metric, budget)
    # 1 - cos is half the squared distance of the unit vectors, up to a constant where one of them is zero.
    value = _distances(x.detach(), ctrs.detach(), indices, metric, budget)
    half = _distances(_unit(x), _unit(ctrs), indices, "sqeuclidean", budget) / 2
    half = half.masked_fill(indices < 0, 0)
    return value.detach() + (half - half.detach())


def _unit(x: Tensor) -> Tensor:
    """Return x / |x| row by row, 0 where x is 0, without overflow or underflow."""
    x = x.to(result_dtype(x, x))
    largest = x.detach().abs().amax(dim=-1, keepdim=True) if x.shape[-1] else x.detach().sum(-1, keepdim=True)
    # A factor of the row changes no unit vector, and hence no derivative.
    scaled = x / torch.where(largest > 0, largest, 1)
    zero = largest == 0
    norm = (scaled.square().sum(dim=-1, keepdim=True) + zero).sqrt()
    return (scaled / norm).masked_fill(zero, 0)


class Saved(Function):
    """What the Functions share: the tensors among their arguments are saved, the last one is the settings."""

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        tensors = [value for value in inputs if isinstance(value, Tensor)]
        ctx.settings = inputs[len(tensors) :]
        ctx.save_for_backward(*tensors)
        ctx.save_for_forward(*tensors)


def _distances(x: Tensor, ctrs: Tensor, indices: Tensor, metric: str, budget: int) -> Tensor:
    function: Any = _Distances.apply if takes_functions() else knn_distances
    return function(x, ctrs, indices, metric, budget)  # type: ignore[no-any-return]


def _products(u: Tensor, v: Tensor, x: Tensor, c: Tensor, indices: Tensor, differences: bool, budget: int) -> Tensor:
    function: Any = _Products.apply if takes_functions() else knn_pair_products
    return function(u, v, x, c, indices, differences, budget)  # type: ignore[no-any-return]


def _sums(w: Tensor, x: Tensor, c: Tensor, indices: Tensor, differences: bool, budget: int) -> tuple[Tensor, Tensor]:
    function: Any = _Sums.apply if takes_functions() else knn_pair_sums
    return function(w, x, c, indices, differences, budget)  # type: ignore[no-any-return]


def takes_functions() -> bool:
    """Whether torch.func or forward mode wants the Functions; the operators do for everything else."""
    if not torch.compiler.is_compiling():
        return is_transformed()
    if is_differentiated():  # Dynamo takes no Function that has a jvp, and torch.func no operator's own derivative
        break_graph("torch.compile takes no derivative by torch.func of knn; compile without fullgraph")
    return False


class _Distances(Saved):
    @staticmethod
    def forward(*args: Any) -> Any:
        return knn_distances(*args)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, ctrs, indices, *ctx.settings = inputs
        ctx.save_for_backward(x, ctrs, indices, output)
        ctx.save_for_forward(x, ctrs, indices, output)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Any, ...]:
        x, ctrs, indices, r = ctx.saved_tensors
        metric, budget = ctx.settings
        gx, gc = _sums(_weights(g, r, metric), x, ctrs, indices, metric != "dot", budget)
        return like(gx, x, ctx, 0), like(gc, ctrs, ctx, 1), None, None, None

    @staticmethod
    def jvp(ctx: Any, dx: Tensor | None, dc: Tensor | None, *_: None) -> Tensor:
        with saved_primals(ctx) as (x, ctrs, indices, r):
            metric, budget = ctx.settings
            dx, dc = or_zero(dx, x), or_zero(dc, ctrs)
            return _weights(_products(dx, dc, x, ctrs, indices, metric != "dot", budget), r, metric)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], *args: Any) -> tuple[Tensor, int]:
        flat = _flat(info, in_dims, args, n_rows=1, n_ctrs=1)
        return _split(_distances(*flat), info.batch_size), 0


def _weights(g: Tensor, r: Tensor, metric: str) -> Tensor:
    """Return the weights w (n, k) of the pairs in the derivative of distances r."""
    if metric == "euclidean":
        # Neither 0 nor inf moves with x. Where r is 0, g / 1 is not used: 0 / 0 would pass NaN on to second orders.
        moves = (r > 0) & (r < torch.inf)
        return torch.where(moves, g.to(r.dtype) / torch.where(moves, r, 1), 0)
    return 2 * g if metric == "sqeuclidean" else -g


class _Products(Saved):
    @staticmethod
    def forward(*args: Any) -> Any:
        return knn_pair_products(*args)

    @staticmethod
    def backward(ctx: Any, h: Tensor) -> tuple[Any, ...]:
        u, v, x, c, indices = ctx.saved_tensors
        needed = ctx.needs_input_grad
        grads: list[Tensor | None] = [None] * 8
        if needed[0] or needed[1]:
            grads[:2] = _sums(h, x, c, indices, *ctx.settings)
        if needed[2] or needed[3]:
            grads[2:4] = _sums(h, u, v, indices, *ctx.settings)
        return (
            *(like(g, t, ctx, i) for i, (g, t) in enumerate(zip(grads, (u, v, x, c), strict=False))),
            None,
            None,
            None,
        )

    @staticmethod
    def jvp(ctx: Any, du: Any, dv: Any, dx: Any, dc: Any, *_: None) -> Tensor:
        with saved_primals(ctx) as (u, v, x, c, indices):
            first = _products(or_zero(du, u), or_zero(dv, v), x, c, indices, *ctx.settings)
            return first + _products(u, v, or_zero(dx, x), or_zero(dc, c), indices, *ctx.settings)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], u: Any, v: Any, x: Any, c: Any, *rest: Any) -> tuple[Tensor, int]:
        ui, vi, xi, ci, *others = in_dims
        u, x, v, c, *flat = _flat(info, (ui, xi, vi, ci, *others), (u, x, v, c, *rest), n_rows=2, n_ctrs=2)
        return _split(_products(u, v, x, c, *flat), info.batch_size), 0


class _Sums(Saved):
    @staticmethod
    def forward(*args: Any) -> Any:
        return knn_pair_sums(*args)

    @staticmethod
    def backward(ctx: Any, p: Tensor, q: Tensor) -> tuple[Any, ...]:
        w, x, c, indices = ctx.saved_tensors
        needed = ctx.needs_input_grad
        gw = _products(p, q, x, c, indices, *ctx.settings) if needed[0] else None
        gx, gc = _sums(w, p, q, indices, *ctx.settings) if needed[1] or needed[2] else (None, None)
        return like(gw, w, ctx, 0), like(gx, x, ctx, 1), like(gc, c, ctx, 2), None, None, None

    @staticmethod
    def jvp(ctx: Any, dw: Any, dx: Any, dc: Any, *_: None) -> tuple[Tensor, Tensor]:
        with saved_primals(ctx) as (w, x, c, indices):
            by_w = _sums(or_zero(dw, w), x, c, indices, *ctx.settings)
            by_x = _sums(w, or_zero(dx, x), or_zero(dc, c), indices, *ctx.settings)
            return by_w[0] + by_x[0], by_w[1] + by_x[1]

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], *args: Any) -> tuple[tuple[Tensor, Tensor], tuple[int, int]]:
        flat = _flat(info, in_dims, args, n_rows=2, n_ctrs=1, share_ctrs=False)
        by_row, by_centre = _sums(*flat)
        return (_split(by_row, info.batch_size), _split(by_centre, info.batch_size)), (0, 0)


def like(gradient: Tensor | None, of: Tensor, ctx: Any, i: int) -> Tensor | None:
    """Return the gradient of argument i, where one is needed, in the dtype of the argument."""
    return gradient.to(of.dtype) if gradient is not None and ctx.needs_input_grad[i] else None


def or_zero(tangent: Tensor | None, primal: Tensor) -> Tensor:
    """Return the tangent of primal, 0 where it has none."""
    return torch.zeros_like(primal) if tangent is None else tangent


def _flat(
    info: Any, in_dims: tuple[Any, ...], args: tuple[Any, ...], n_rows: int, n_ctrs: int, share_ctrs: bool = True
) -> list[Any]:
    """Turn a batch of problems into one: rows under rows, centres under centres, indices shifted.

    The arguments are n_rows tensors by row, n_ctrs by centre, the indices, and settings. Centres that are the
    same for the whole batch stay as they are, unless the result is by centre.
    """
    n = n_rows + n_ctrs
    rows = batch_first(info, in_dims[:n_rows], *args[:n_rows])
    ctrs = list(args[n_rows:n])
    (indices,) = batch_first(info, (in_dims[n],), args[n])
    if not share_ctrs or any(dim is not None for dim in in_dims[n_rows:n]):
        ctrs = batch_first(info, in_dims[n_rows:n], *ctrs)
        shift = torch.arange(info.batch_size, device=indices.device)[:, None, None] * ctrs[0].shape[1]
        indices = torch.where(indices < 0, indices, indices + shift)
        ctrs = [c.flatten(0, 1) for c in ctrs]
    return [*(r.flatten(0, 1) for r in rows), *ctrs, indices.flatten(0, 1), *args[n + 1 :]]


def _split(values: Tensor, batch_size: int) -> Tensor:
    return values.reshape(batch_size, values.shape[0] // max(1, batch_size), *values.shape[1:])


for _operator, _function in ((knn_distances, _Distances), (knn_pair_products, _Products), (knn_pair_sums, _Sums)):
    _operator.register_autograd(_function.backward, setup_context=_function.setup_context)
    _operator.register_vmap(_function.vmap)
