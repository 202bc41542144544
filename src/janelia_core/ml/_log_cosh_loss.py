"""The log cosh loss as a function, after the conventions of torch.nn.functional."""

from __future__ import annotations

import warnings
from typing import Literal, TypeAlias

import torch
from torch import Tensor
from torch.overrides import handle_torch_function

from janelia_core.ml._log_cosh import log_cosh
from janelia_core.ml._ordinary import check_ordinary
from janelia_core.ml._runtime.transforms import is_overridden

Reduction: TypeAlias = Literal["mean", "sum", "none"]
_REDUCTIONS = ("mean", "sum", "none")


def check_reduction(reduction: str) -> None:
    """Raise ValueError unless the reduction is one that torch.nn's losses know."""
    if reduction not in _REDUCTIONS:
        raise ValueError(f"reduction must be one of {', '.join(_REDUCTIONS)}; got {reduction!r}")


def log_cosh_loss(input: Tensor, target: Tensor, reduction: Reduction = "mean") -> Tensor:
    """Return log(cosh(input - target)), reduced: smooth as the squared error near 0, linear far away.

    Args:
        input: Predictions, any shape.
        target: Truth, of input's shape; other shapes broadcast, with the warning of `torch.nn.MSELoss`.
        reduction: "mean" or "sum" over all elements, or "none" for one value each.

    Returns:
        A tensor of no dimension, or with "none" of the broadcast shape.

    Raises:
        ValueError: The reduction is unknown.

    Example:
        >>> import torch
        >>> log_cosh_loss(torch.tensor([0.0, 3.0]), torch.tensor([0.0, 1.0]), reduction="sum")
        tensor(1.3250)
    """
    check_reduction(reduction)
    if is_overridden(input, target):
        return handle_torch_function(log_cosh_loss, (input, target), input, target, reduction=reduction)
    check_ordinary("input", input)
    check_ordinary("target", target)
    if not torch.compiler.is_compiling() and input.shape != target.shape:
        warnings.warn(
            f"Using a target size ({target.size()}) that is different to the input size ({input.size()}). "
            "This will likely lead to incorrect results due to broadcasting. "
            "Please ensure they have the same size.",
            stacklevel=2,
        )
    losses = log_cosh(input - target)
    if reduction == "mean":
        return losses.mean()
    return losses.sum() if reduction == "sum" else losses
