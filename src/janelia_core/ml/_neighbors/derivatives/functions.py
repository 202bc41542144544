"""Operators with derivatives of every order in every mode of torch: what all of them share.

An autograd Function gives the derivatives, with forward mode for torch.func; the operator registered with them serves
elsewhere, and is what torch.compile and torch.export take whole.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.library import CustomOpDef  # type: ignore[attr-defined]

from janelia_core.ml._runtime.transforms import (
    Batch,
    Context,
    InDims,
    batch_first,
    break_graph,
    is_differentiated,
    is_plain,
    is_transformed,
    keep,
    one_by_one,
)

Rule = Callable[[Callable[..., Any], Batch, InDims, tuple[Any, ...]], Any]
"""What vmap does: (the call of one problem, batch, dimensions of the arguments, arguments) -> results, dimensions."""


Tangent = Tensor | None
"""Of an argument; None: it does not move."""


class Saved(Function):
    """A Function that saves the tensors among its arguments, which come first; settings follow."""

    @staticmethod
    def setup_context(ctx: Context, inputs: tuple[Any, ...], output: Any) -> None:
        """Keep the arguments."""
        tensors = [value for value in inputs if isinstance(value, Tensor)]
        keep(ctx, tensors, inputs[len(tensors) :])


def differentiable(operator: CustomOpDef, function: type[Saved], rule: Rule) -> Callable[..., Any]:
    """Give an operator and a Function, which has `backward` and `jvp`, to each other.

    Args:
        operator: Evaluates.
        function: Knows the derivatives.
        rule: Of vmap.

    Returns:
        What calls the Function or the operator, whichever the caller's mode wants.
    """
    evaluate = operator._init_fn

    def call(*args: Any) -> Any:
        if is_alone(*args):
            return evaluate(*args)
        return (function.apply if takes_functions() else operator)(*args)  # type: ignore[no-untyped-call]

    def vmap(info: Batch, in_dims: InDims, *args: Any) -> Any:
        return rule(call, info, in_dims, args)

    function.forward = staticmethod(operator)  # type: ignore[method-assign]
    function.vmap = staticmethod(vmap)  # type: ignore[method-assign]
    operator.register_autograd(function.backward, setup_context=function.setup_context)
    operator.register_vmap(vmap)
    return call


def is_alone(*args: Any) -> bool:
    """Whether nobody wants to know of a call: torch's dispatcher takes longer than what is to be done for few pairs."""
    tensors = [value for value in args if isinstance(value, Tensor)]
    return (
        is_plain(*tensors)
        and not is_transformed()
        and not (torch.is_grad_enabled() and any(t.requires_grad for t in tensors))
    )


def takes_functions() -> bool:
    """Whether torch.func or forward mode wants the Functions; the operators do for everything else."""
    if not torch.compiler.is_compiling():
        return is_transformed()
    if is_differentiated():  # Dynamo takes no Function that has a jvp, and torch.func no operator's own derivative
        break_graph("torch.compile takes no derivative by torch.func of knn; compile without fullgraph")
    return False


def like(gradient: Tensor | None, of: Tensor, ctx: Context, i: int) -> Tensor | None:
    """Return the gradient of argument i, where one is needed, in the dtype of the argument."""
    return gradient.to(of.dtype) if gradient is not None and ctx.needs_input_grad[i] else None


def or_zero(tangent: Tensor | None, primal: Tensor) -> Tensor:
    """Return the tangent of primal, 0 where it has none."""
    return torch.zeros_like(primal) if tangent is None else tangent


def each_alone(call: Callable[..., Any], info: Batch, in_dims: InDims, args: tuple[Any, ...]) -> Any:
    """Call once for each problem of a batch."""
    found = one_by_one(call, info, in_dims, args)
    if isinstance(found[0], Tensor):
        return torch.stack(found), 0
    return tuple(map(torch.stack, zip(*found, strict=True))), (0,) * len(found[0])


def as_one(kinds: str, share_ctrs: bool = True) -> Rule:
    """Return a rule that calls once: rows under rows, centres under centres, the first centres shifted.

    The arguments are tensors by row ("x" in kinds) and by centre ("c"), the indices, the first centres, and settings.
    Centres that are the same for the whole batch stay as they are, unless the result is by centre.
    """

    def rule(call: Callable[..., Any], info: Batch, in_dims: InDims, args: tuple[Any, ...]) -> Any:
        found = call(*_flat(info, in_dims, args, kinds, share_ctrs))
        if isinstance(found, Tensor):
            return _split(found, info.batch_size), 0
        return tuple(_split(values, info.batch_size) for values in found), (0,) * len(found)

    return rule


def _flat(info: Batch, in_dims: InDims, args: tuple[Any, ...], kinds: str, share_ctrs: bool) -> list[Any]:
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
