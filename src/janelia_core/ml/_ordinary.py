"""What every function here wants of a tensor: one dense block of values."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.masked import MaskedTensor

from janelia_core.ml._runtime.transforms import is_spread


def check_ordinary(name: str, value: object) -> None:
    """Raise TypeError, with what to do instead, unless value is a dense tensor: not nested, sparse or masked."""
    if not isinstance(value, Tensor):
        raise TypeError(f"{name} must be a torch.Tensor, got {type(value).__name__}; wrap it: torch.as_tensor({name})")
    if value.is_nested:
        raise TypeError(
            f"{name} must be a dense tensor, got a nested one; pad it: torch.nested.to_padded_tensor({name}, 0.0)"
        )
    if value.layout != torch.strided:
        raise TypeError(f"{name} must be a dense tensor, got layout {value.layout}; call {name}.to_dense()")
    if isinstance(value, MaskedTensor):
        raise TypeError(f"{name} must be an ordinary tensor, got a MaskedTensor; take {name}.get_data()")


def check_here(name: str, value: object) -> None:
    """Raise TypeError if value is a DTensor, of which this process has a part alone."""
    if is_spread(value):
        raise TypeError(
            f"{name} must be an ordinary tensor, got a DTensor; take {name}.to_local(), or {name}.full_tensor()"
        )
