"""log(cosh(x)): accurate relative to its value for every x, with derivatives of every order.

    log cosh' = tanh,    tanh' = sech^2,    (sech^2)' = -2 tanh sech^2

Each line is an autograd Function that saves only its arguments and whose derivative is written with the next,
so every order is as accurate as the functions themselves. docs/log_cosh.md holds the accuracy argument.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd import Function
from torch.overrides import handle_torch_function

import janelia_core.ml._log_cosh.formulas as formulas
from janelia_core.ml._log_cosh.blocks import Elementwise, evaluate
from janelia_core.ml._ordinary import check_ordinary
from janelia_core.ml._runtime.transforms import (
    Batch,
    Context,
    InDims,
    batch_first,
    break_graph,
    is_differentiated,
    is_overridden,
    is_transformed,
    keep,
    saved_primals,
    transforms,
)

_LOG_COSH = Elementwise(formulas.log_cosh, formulas.log_cosh_in_double, "log_cosh")
_TIMES_TANH = Elementwise(formulas.times_tanh, kernel="times_tanh")
_TIMES_SECH2 = Elementwise(formulas.times_sech2)
_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def log_cosh(x: Tensor) -> Tensor:
    """Return log(cosh(x)), element by element, without overflow or cancellation.

    Args:
        x: Any shape, strides and device; float16, bfloat16, float32 or float64. Integers and booleans are
            taken as the default dtype, as `torch.tanh` takes them.

    Returns:
        A tensor of x's shape and device. Even in x and monotone in |x|; 0 at 0, inf at +-inf, NaN at NaN.

    Raises:
        TypeError: x isn't a dense real tensor of one of these dtypes.

    Exactness:
        Within 2 ulp of the true value for every float32 and float64, 0 and subnormals included; correctly
        rounded in float16 and bfloat16. Large CPU tensors go through a Numba kernel and small ones through
        torch operations: both keep the bound, their last bits may differ.

    Memory:
        The result, and x for backward. A CPU tensor whose memory has gaps or overlaps is copied once.

    Example:
        >>> log_cosh(torch.tensor([0.0, 1e-4, 1000.0], dtype=torch.float64))
        tensor([0.0000e+00, 5.0000e-09, 9.9931e+02], dtype=torch.float64)
    """
    if is_overridden(x):  # before the type is asked for: the stand-ins of torch.fx are no tensors
        return handle_torch_function(log_cosh, (x,), x)
    check_ordinary("x", x)
    if x.dtype not in _DTYPES:
        x = _promoted(x)
    if torch.compiler.is_compiling():
        if is_differentiated():
            if "Grad" in transforms() and len(transforms()) > 1:
                break_graph(f"torch.compile cannot nest {transforms()}; compile without fullgraph")
            # Of torch.func.grad's own argument Dynamo thinks that it needs no gradient; of a view of it not.
            x = x.view_as(x)
        return _LogCosh.apply(x)  # type: ignore[no-any-return, no-untyped-call]
    if is_transformed():
        return _TransformedLogCosh.apply(x)  # type: ignore[no-any-return, no-untyped-call]
    if x.requires_grad and torch.is_grad_enabled():
        return _LogCosh.apply(x)  # type: ignore[no-any-return, no-untyped-call]
    return evaluate(_LOG_COSH, x)


def _promoted(x: Tensor) -> Tensor:
    """Integers and booleans as the default dtype; other dtypes are refused."""
    if x.is_floating_point() or x.is_complex() or x.is_quantized:
        raise TypeError(f"x must be real: float16, bfloat16, float32, float64 or integer; got {x.dtype}")
    return x.to(torch.get_default_dtype())


def _times_tanh(g: Tensor, x: Tensor) -> Tensor:
    """Return g * tanh(x), recording a graph only if one may be asked for."""
    return _product(_TIMES_TANH, _TimesTanh, g, x)


def _times_sech2(g: Tensor, x: Tensor) -> Tensor:
    """Return g / cosh(x)^2, recording a graph only if one may be asked for."""
    return _product(_TIMES_SECH2, _TimesSech2, g, x)


def _product(function: Elementwise, recorded: type[Function], g: Tensor, x: Tensor) -> Tensor:
    if not torch.compiler.is_compiling() and (
        (torch.is_grad_enabled() and (g.requires_grad or x.requires_grad)) or is_transformed()
    ):
        return recorded.apply(g, x)  # type: ignore[no-any-return, no-untyped-call]
    return evaluate(function, g, x)


class _LogCosh(Function):
    """Reverse mode alone: the cheapest to call, and the form that torch.compile takes whole."""

    @staticmethod
    def forward(ctx: Context, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return evaluate(_LOG_COSH, x)

    @staticmethod
    def backward(ctx: Context, g: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return _times_tanh(g, x)


class _Saved(Function):
    """What the Functions for torch.func and forward mode share: they save their arguments."""

    @staticmethod
    def setup_context(ctx: Context, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        keep(ctx, inputs)


class _TransformedLogCosh(_Saved):
    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return evaluate(_LOG_COSH, x)

    @staticmethod
    def backward(ctx: Context, g: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return _times_tanh(g, x)

    @staticmethod
    def jvp(ctx: Context, dx: Tensor) -> Tensor:
        with saved_primals(ctx) as (x,):
            return _times_tanh(dx, x)

    @staticmethod
    def vmap(info: Batch, in_dims: InDims, x: Tensor) -> tuple[Tensor, int | None]:
        return log_cosh(x), in_dims[0]


class _TimesTanh(_Saved):
    @staticmethod
    def forward(g: Tensor, x: Tensor) -> Tensor:
        return evaluate(_TIMES_TANH, g, x)

    @staticmethod
    def backward(ctx: Context, u: Tensor) -> tuple[Tensor, Tensor]:
        g, x = ctx.saved_tensors
        return _times_tanh(u, x), _times_sech2(u * g, x)

    @staticmethod
    def jvp(ctx: Context, dg: Tensor, dx: Tensor) -> Tensor:
        with saved_primals(ctx) as (g, x):
            return _times_tanh(dg, x) + _times_sech2(dx * g, x)

    @staticmethod
    def vmap(info: Batch, in_dims: InDims, g: Tensor, x: Tensor) -> tuple[Tensor, int]:
        return _times_tanh(*batch_first(info, in_dims, g, x)), 0


class _TimesSech2(_Saved):
    @staticmethod
    def forward(g: Tensor, x: Tensor) -> Tensor:
        return evaluate(_TIMES_SECH2, g, x)

    @staticmethod
    def backward(ctx: Context, u: Tensor) -> tuple[Tensor, Tensor]:
        g, x = ctx.saved_tensors
        return _times_sech2(u, x), -2 * _times_tanh(_times_sech2(u * g, x), x)

    @staticmethod
    def jvp(ctx: Context, dg: Tensor, dx: Tensor) -> Tensor:
        with saved_primals(ctx) as (g, x):
            return _times_sech2(dg, x) - 2 * _times_tanh(_times_sech2(dx * g, x), x)

    @staticmethod
    def vmap(info: Batch, in_dims: InDims, g: Tensor, x: Tensor) -> tuple[Tensor, int]:
        return _times_sech2(*batch_first(info, in_dims, g, x)), 0
