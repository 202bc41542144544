"""Distances of found neighbours, differentiable to every order: reverse and forward mode, vmap, torch.compile.

With Q, B and their matrices L (of differences) and A (of products) as in pairs.py, for fixed indices:

    sqeuclidean  s = Q(x, c; x, c)     ds = 2 Q(dx, dc; x, c)        gradient  L(2 g) (x, c)
    cosine       half of s of the unit vectors, but for a constant
    dot          -B(x, c; x, c) / 2    -B(dx, dc; x, c)              gradient  -A(g) (x, c)
    euclidean    r = |x - c|           dr = values (dx - dc)         gradient  sums (g)      of norm_pairs.py

    Q(u, v; x, c) of gradient h gives  L(h) (x, c) to (u, v)  and  L(h) (u, v) to (x, c)
    L(w) (x, c) of gradient (p, q) gives  Q(p, q; x, c) to w  and  L(w) (p, q) to (x, c)        likewise B and A

Where r = 0 the derivative is 0, a subgradient. Each function is an autograd Function with forward mode for
torch.func, and the operator registered from it elsewhere, which is what torch.compile and torch.export take whole.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from janelia_core.ml._knn.distances.distances import result_dtype
from janelia_core.ml._neighbors.derivatives import operators
from janelia_core.ml._runtime.transforms import (
    batch_first,
    break_graph,
    is_differentiated,
    is_transformed,
    saved_primals,
)


def distances(
    x: Tensor, ctrs: Tensor, indices: Tensor, metric: str, budget: int, first: Tensor | None = None
) -> Tensor:
    """Return the distance of each row of x to its neighbours, differentiable with respect to x and ctrs.

    Args:
        x: (n, d).
        ctrs: (m, d).
        indices: (n, k) int64 row numbers of ctrs, or -1.
        metric: "euclidean", "sqeuclidean", "cosine" or "dot".
        budget: Bytes of workspace of the derivatives.
        first: (n_batches,) int64: for each batch of rows the centre that its indices call 0; None: row numbers.

    Returns:
        (n, k), inf where the index is -1.
    """
    first = indices.new_empty(0) if first is None else first
    wanted = is_transformed() or (torch.is_grad_enabled() and (x.requires_grad or ctrs.requires_grad))
    if metric == "cosine" and wanted:
        # 1 - cos is half the squared distance of the unit vectors, up to a constant where one of them is zero.
        return _cosines(x.detach(), ctrs.detach(), _unit(x), _unit(ctrs), indices, first, budget)
    return _distances(x, ctrs, indices, first, metric, budget)


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
    """What the Functions share: the tensors among their arguments, which come first, are saved; settings follow."""

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        tensors = [value for value in inputs if isinstance(value, Tensor)]
        ctx.settings = inputs[len(tensors) :]
        ctx.save_for_backward(*tensors)
        ctx.save_for_forward(*tensors)


def _call(function: type[Saved], operator: Any, args: tuple[Any, ...]) -> Any:
    return (function.apply if takes_functions() else operator)(*args)


def _distances(*args: Any) -> Tensor:
    return _call(_Distances, operators.knn_distances, args)  # type: ignore[no-any-return]


def _cosines(*args: Any) -> Tensor:
    return _call(_Cosines, operators.knn_cosines, args)  # type: ignore[no-any-return]


def _products(*args: Any) -> Tensor:
    return _call(_Products, operators.knn_pair_products, args)  # type: ignore[no-any-return]


def _sums(*args: Any) -> tuple[Tensor, Tensor]:
    return _call(_Sums, operators.knn_pair_sums, args)  # type: ignore[no-any-return]


def _norm_values(*args: Any) -> Tensor:
    return _call(_NormValues, operators.knn_norm_values, args)  # type: ignore[no-any-return]


def _norm_sums(*args: Any) -> tuple[Tensor, Tensor]:
    return _call(_NormSums, operators.knn_norm_sums, args)  # type: ignore[no-any-return]


def takes_functions() -> bool:
    """Whether torch.func or forward mode wants the Functions; the operators do for everything else."""
    if not torch.compiler.is_compiling():
        return is_transformed()
    if is_differentiated():  # Dynamo takes no Function that has a jvp, and torch.func no operator's own derivative
        break_graph("torch.compile takes no derivative by torch.func of knn; compile without fullgraph")
    return False


_FACTORS = {"sqeuclidean": 2.0, "dot": -1.0}


class _Distances(Saved):
    @staticmethod
    def forward(*args: Any) -> Any:
        return operators.knn_distances(*args)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, ctrs, indices, first, *ctx.settings = inputs
        saved = (x, ctrs, indices, first, output)
        ctx.save_for_backward(*saved)
        ctx.save_for_forward(*saved)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Any, ...]:
        x, ctrs, indices, first, r = ctx.saved_tensors
        metric, budget = ctx.settings
        if metric == "euclidean":
            gx, gc = _norm_sums(g, *_no_directions(x, ctrs), x, ctrs, r.detach(), indices, first, budget)
        else:
            gx, gc = _sums(g, x, ctrs, indices, first, metric != "dot", _FACTORS[metric], budget)
        return like(gx, x, ctx, 0), like(gc, ctrs, ctx, 1), None, None, None, None

    @staticmethod
    def jvp(ctx: Any, dx: Tensor | None, dc: Tensor | None, *_: None) -> Tensor:
        with saved_primals(ctx) as (x, ctrs, indices, first, r):
            metric, budget = ctx.settings
            dx, dc = or_zero(dx, x), or_zero(dc, ctrs)
            if metric == "euclidean":
                return _norm_values(dx[:, None], dc[:, None], x, ctrs, r.detach(), indices, first, budget)
            return _products(dx, dc, x, ctrs, indices, first, metric != "dot", _FACTORS[metric], budget)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], *args: Any) -> tuple[Tensor, int]:
        return _split(_distances(*_flat(info, in_dims, args, "xc")), info.batch_size), 0


class _Cosines(Saved):
    @staticmethod
    def forward(*args: Any) -> Any:
        return operators.knn_cosines(*args)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, _, *saved, budget = inputs
        ctx.settings = (True, 1.0, budget)
        ctx.save_for_backward(*saved)
        ctx.save_for_forward(*saved)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Any, ...]:
        ux, uc, indices, first = ctx.saved_tensors
        gx, gc = _sums(g, ux, uc, indices, first, *ctx.settings)
        return None, None, like(gx, ux, ctx, 2), like(gc, uc, ctx, 3), None, None, None

    @staticmethod
    def jvp(ctx: Any, _x: Any, _c: Any, dx: Tensor | None, dc: Tensor | None, *_: None) -> Tensor:
        with saved_primals(ctx) as (ux, uc, indices, first):
            moved = or_zero(dx, ux), or_zero(dc, uc)
            return _products(*moved, ux, uc, indices, first, *ctx.settings)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], *args: Any) -> tuple[Tensor, int]:
        return _split(_cosines(*_flat(info, in_dims, args, "xcxc")), info.batch_size), 0


class _Products(Saved):
    @staticmethod
    def forward(*args: Any) -> Any:
        return operators.knn_pair_products(*args)

    @staticmethod
    def backward(ctx: Any, h: Tensor) -> tuple[Any, ...]:
        u, v, x, c, indices, first = ctx.saved_tensors
        needed = ctx.needs_input_grad
        grads: list[Tensor | None] = [None] * 9
        if needed[0] or needed[1]:
            grads[:2] = _sums(h, x, c, indices, first, *ctx.settings)
        if needed[2] or needed[3]:
            grads[2:4] = _sums(h, u, v, indices, first, *ctx.settings)
        grads[:4] = [like(g, t, ctx, i) for i, (g, t) in enumerate(zip(grads, (u, v, x, c), strict=False))]
        return tuple(grads)

    @staticmethod
    def jvp(ctx: Any, du: Any, dv: Any, dx: Any, dc: Any, *_: None) -> Tensor:
        with saved_primals(ctx) as (u, v, x, c, *pairs):
            found = _products(or_zero(du, u), or_zero(dv, v), x, c, *pairs, *ctx.settings)
            return found + _products(u, v, or_zero(dx, x), or_zero(dc, c), *pairs, *ctx.settings)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], *args: Any) -> tuple[Tensor, int]:
        return _split(_products(*_flat(info, in_dims, args, "xcxc")), info.batch_size), 0


class _Sums(Saved):
    @staticmethod
    def forward(*args: Any) -> Any:
        return operators.knn_pair_sums(*args)

    @staticmethod
    def backward(ctx: Any, p: Tensor, q: Tensor) -> tuple[Any, ...]:
        w, x, c, *pairs = ctx.saved_tensors
        needed = ctx.needs_input_grad
        gw = _products(p, q, x, c, *pairs, *ctx.settings) if needed[0] else None
        gx, gc = _sums(w, p, q, *pairs, *ctx.settings) if needed[1] or needed[2] else (None, None)
        return like(gw, w, ctx, 0), like(gx, x, ctx, 1), like(gc, c, ctx, 2), *[None] * 5

    @staticmethod
    def jvp(ctx: Any, dw: Any, dx: Any, dc: Any, *_: None) -> tuple[Tensor, Tensor]:
        with saved_primals(ctx) as (w, x, c, *pairs):
            by_w = _sums(or_zero(dw, w), x, c, *pairs, *ctx.settings)
            by_x = _sums(w, or_zero(dx, x), or_zero(dc, c), *pairs, *ctx.settings)
            return by_w[0] + by_x[0], by_w[1] + by_x[1]

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], *args: Any) -> tuple[tuple[Tensor, Tensor], tuple[int, int]]:
        sums = _sums(*_flat(info, in_dims, args, "xxc", share_ctrs=False))
        return (_split(sums[0], info.batch_size), _split(sums[1], info.batch_size)), (0, 0)


class _NormValues(Saved):
    """Derivatives of Euclidean distances along the directions u (n, m, d), v (m_ctrs, m, d), see norm_pairs.py."""

    @staticmethod
    def forward(*args: Any) -> Any:
        return operators.knn_norm_values(*args)

    @staticmethod
    def backward(ctx: Any, h: Tensor) -> tuple[Any, ...]:
        u, v, *points = ctx.saved_tensors
        needed = ctx.needs_input_grad
        gu, gv = _by_direction(h, u, v, points, ctx.settings) if needed[0] or needed[1] else (None, None)
        gx, gc = _norm_sums(h, u, v, *points, *ctx.settings) if needed[2] or needed[3] else (None, None)
        x, c, *_ = points
        return like(gu, u, ctx, 0), like(gv, v, ctx, 1), like(gx, x, ctx, 2), like(gc, c, ctx, 3), *[None] * 4

    @staticmethod
    def jvp(ctx: Any, du: Any, dv: Any, dx: Any, dc: Any, *_: None) -> Tensor:
        with saved_primals(ctx) as (u, v, x, c, *rest):
            points = (x, c, *rest)
            more = _with(u, or_zero(dx, x)), _with(v, or_zero(dc, c))
            found = _norm_values(*more, *points, *ctx.settings)
            for changed in _changed(u, v, du, dv):
                found = found + _norm_values(*changed, *points, *ctx.settings)
            return found

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], *args: Any) -> tuple[Tensor, int]:
        return _split(_norm_values(*_flat(info, in_dims, args, "xcxcx")), info.batch_size), 0


class _NormSums(Saved):
    """Sums of w times open derivatives of Euclidean distances, see norm_pairs.py."""

    @staticmethod
    def forward(*args: Any) -> Any:
        return operators.knn_norm_sums(*args)

    @staticmethod
    def backward(ctx: Any, p: Tensor, q: Tensor) -> tuple[Any, ...]:
        w, u, v, *points = ctx.saved_tensors
        needed = ctx.needs_input_grad
        more = _with(u, p), _with(v, q)
        gw = _norm_values(*more, *points, *ctx.settings) if needed[0] else None
        gu, gv = (None, None)
        if u.shape[1] and (needed[1] or needed[2]):
            gu, gv = _by_direction(w, *more, points, ctx.settings, u.shape[1])
        gx, gc = _norm_sums(w, *more, *points, *ctx.settings) if needed[3] or needed[4] else (None, None)
        x, c, *_ = points
        grads = [like(g, t, ctx, i) for i, (g, t) in enumerate(((gw, w), (gu, u), (gv, v), (gx, x), (gc, c)))]
        return *grads, *[None] * 4

    @staticmethod
    def jvp(ctx: Any, dw: Any, du: Any, dv: Any, dx: Any, dc: Any, *_: None) -> tuple[Tensor, Tensor]:
        with saved_primals(ctx) as (w, u, v, x, c, *rest):
            points = (x, c, *rest)
            more = _with(u, or_zero(dx, x)), _with(v, or_zero(dc, c))
            by_row, by_centre = _norm_sums(w, *more, *points, *ctx.settings)
            parts = [(or_zero(dw, w), u, v), *((w, *changed) for changed in _changed(u, v, du, dv))]
            for part in parts:
                found = _norm_sums(*part, *points, *ctx.settings)
                by_row, by_centre = by_row + found[0], by_centre + found[1]
            return by_row, by_centre

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], *args: Any) -> tuple[tuple[Tensor, Tensor], tuple[int, int]]:
        sums = _norm_sums(*_flat(info, in_dims, args, "xxcxcx", share_ctrs=False))
        return (_split(sums[0], info.batch_size), _split(sums[1], info.batch_size)), (0, 0)


def _no_directions(x: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    return x.new_empty(x.shape[0], 0, x.shape[1]), c.new_empty(c.shape[0], 0, c.shape[1])


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
        found.append(_norm_sums(w, *others, *points, *settings))
    by_row, by_centre = zip(*found, strict=True)
    return torch.stack(by_row, dim=1), torch.stack(by_centre, dim=1)


def _changed(u: Tensor, v: Tensor, du: Tensor | None, dv: Tensor | None) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield u and v with one direction after the other replaced by its tangent."""
    if du is None and dv is None:
        return
    du, dv = or_zero(du, u), or_zero(dv, v)
    for at in range(u.shape[1]):
        yield tuple(torch.cat([t[:, :at], dt[:, at : at + 1], t[:, at + 1 :]], dim=1) for t, dt in ((u, du), (v, dv)))  # type: ignore[misc]


def like(gradient: Tensor | None, of: Tensor, ctx: Any, i: int) -> Tensor | None:
    """Return the gradient of argument i, where one is needed, in the dtype of the argument."""
    return gradient.to(of.dtype) if gradient is not None and ctx.needs_input_grad[i] else None


def or_zero(tangent: Tensor | None, primal: Tensor) -> Tensor:
    """Return the tangent of primal, 0 where it has none."""
    return torch.zeros_like(primal) if tangent is None else tangent


def _flat(info: Any, in_dims: tuple[Any, ...], args: tuple[Any, ...], kinds: str, share_ctrs: bool = True) -> list[Any]:
    """Turn a batch of problems into one: rows under rows, centres under centres, the first centres shifted.

    The arguments are tensors by row ("x" in kinds) and by centre ("c"), the indices, the first centres, and settings.
    Centres that are the same for the whole batch stay as they are, unless the result is by centre.
    """
    n, size = len(kinds), info.batch_size
    of_ctrs = [at for at, kind in enumerate(kinds) if kind == "c"]
    shared = share_ctrs and all(in_dims[at] is None for at in of_ctrs)
    points = [
        arg if kind == "c" and shared else batch_first(info, (dim,), arg)[0].flatten(0, 1)
        for kind, dim, arg in zip(kinds, in_dims, args, strict=False)
    ]
    indices, first = batch_first(info, in_dims[n : n + 2], *args[n : n + 2])
    if first.shape[1] == 0:
        first = first.new_zeros(size, 1)
    if not shared:
        n_ctrs = points[of_ctrs[0]].shape[0] // max(1, size)
        first = first + torch.arange(size, device=first.device)[:, None] * n_ctrs
    return [*points, indices.flatten(0, 1), first.flatten(), *args[n + 2 :]]


def _split(values: Tensor, batch_size: int) -> Tensor:
    return values.reshape(batch_size, values.shape[0] // max(1, batch_size), *values.shape[1:])


for _operator, _function in (
    (operators.knn_distances, _Distances),
    (operators.knn_cosines, _Cosines),
    (operators.knn_pair_products, _Products),
    (operators.knn_pair_sums, _Sums),
    (operators.knn_norm_values, _NormValues),
    (operators.knn_norm_sums, _NormSums),
):
    _operator.register_autograd(_function.backward, setup_context=_function.setup_context)
    _operator.register_vmap(_function.vmap)
