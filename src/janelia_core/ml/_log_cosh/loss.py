"""The log cosh loss as a function, after the conventions of torch.nn.functional."""

from __future__ import annotations

import warnings
from typing import Literal, TypeAlias

import torch
from torch import Tensor
from torch.overrides import handle_torch_function

from janelia_core.ml._log_cosh.function import log_cosh
from janelia_core.ml._ordinary import check_ordinary
from janelia_core.ml._runtime.machine import has_float64
from janelia_core.ml._runtime.transforms import is_overridden

Reduction: TypeAlias = Literal["mean", "sum", "none"]
_REDUCTIONS = ("mean", "sum", "none")
_HALF = (torch.float16, torch.bfloat16)


def check_reduction(reduction: str) -> None:
    """Raise ValueError unless the reduction is one that torch.nn's losses know."""
    if reduction not in _REDUCTIONS:
        raise ValueError(f"reduction must be one of {', '.join(_REDUCTIONS)}; got {reduction!r}")


def log_cosh_loss(input: Tensor, target: Tensor, reduction: Reduction = "mean") -> Tensor:
    """Return log(cosh(input - target)), reduced: smooth as the squared error near 0, linear far away.

    Args:
        input: Predictions, any shape; any real dtype.
        target: Truth, of input's shape; other shapes broadcast, with the warning of `torch.nn.MSELoss`. The dtype
            may differ.
        reduction: "mean" or "sum" over all elements, or "none" for one value each.

    Returns:
        A tensor of no dimension, or with "none" of the broadcast shape, of the dtype of `input - target`; where
        both are integers, of the default dtype, as `log_cosh` takes integers.

    Raises:
        TypeError: An argument isn't a real tensor.
        ValueError: The reduction is unknown.

    Exactness:
        Differences of integers never wrap; float16 and bfloat16 are subtracted and reduced in float32, so that what
        fits into the result is not lost on the way.

    Example:
        >>> import torch
        >>> log_cosh_loss(torch.tensor([0.0, 3.0]), torch.tensor([0.0, 1.0]), reduction="sum")
        tensor(1.3250)
    """
    check_reduction(reduction)
    if is_overridden(input, target):
        return handle_torch_function(log_cosh_loss, (input, target), input, target, reduction=reduction)
    for name, value in (("input", input), ("target", target)):
        check_ordinary(name, value)
        if value.is_complex() or value.is_quantized:
            raise TypeError(f"{name} must hold real numbers, got {value.dtype}")
    if not torch.compiler.is_compiling() and input.shape != target.shape:
        warnings.warn(
            f"Using a target size ({target.size()}) that is different to the input size ({input.size()}). "
            "This will likely lead to incorrect results due to broadcasting. "
            "Please ensure they have the same size.",
            stacklevel=2,
        )
    gap, dtype = _difference(input, target)
    losses = log_cosh(gap)
    if reduction != "none":
        losses = losses.mean() if reduction == "mean" else losses.sum()
    return losses.to(dtype)


def _difference(input: Tensor, target: Tensor) -> tuple[Tensor, torch.dtype]:
    """Return input - target in a dtype that loses nothing of it, and the dtype that the result is to have."""
    floating = [t for t in (input, target) if t.is_floating_point()]
    if len(floating) == 2:
        dtype = _promoted(input, target)
        if dtype in _HALF:
            input, target = input.float(), target.float()
        return input - target, dtype
    if not floating:
        return _difference_of_integers(input, target).to(torch.get_default_dtype()), torch.get_default_dtype()
    (one,) = floating
    # An integer becomes as wide as the other, or float64 where that does not hold it.
    other = target if one is input else input
    wide = one.dtype == torch.float64 or (other.dtype.itemsize > 2 and has_float64(other.device))
    gap = input.to(torch.float64) - target.to(torch.float64) if wide else input.float() - target.float()
    return gap.to(torch.float32 if one.dtype in _HALF else one.dtype), one.dtype


def _promoted(input: Tensor, target: Tensor) -> torch.dtype:
    """Return `torch.result_type`, which torch.compile does not take, of two floating tensors."""
    if (input.ndim == 0) != (target.ndim == 0):
        return target.dtype if input.ndim == 0 else input.dtype
    return torch.promote_types(input.dtype, target.dtype)


def _difference_of_integers(input: Tensor, target: Tensor) -> Tensor:
    """Return input - target of integers or booleans: int64, or float64 where that might not hold it."""
    if not any(t.dtype in (torch.int64, torch.uint64) for t in (input, target)):
        return input.to(torch.int64) - target.to(torch.int64)
    (high, low), (other_high, other_low) = _halves(input), _halves(target)
    return (high - other_high).to(torch.float64) * 2.0**32 + (low - other_low).to(torch.float64)


def _halves(t: Tensor) -> tuple[Tensor, Tensor]:
    """Return int64 high, low with t = 2^32 high + low and 0 <= low < 2^32."""
    whole = t.to(torch.int64)  # which keeps the bits of uint64
    high = whole >> 32
    return high & 0xFFFFFFFF if t.dtype == torch.uint64 else high, whole & 0xFFFFFFFF
