"""Whether centres are still what they were."""

from __future__ import annotations

import torch
from torch import Tensor


def version_of(values: Tensor) -> tuple[int, ...]:
    """Return what changes whenever values do: torch's counter, and where they are; tensors of inference have none."""
    counter = -1 if values.is_inference() else values._version
    return counter, values.data_ptr(), *values.shape, *values.stride()


def check_unchanged(ctrs: Tensor, version: tuple[int, ...]) -> None:
    """Raise a RuntimeError if centres are not of this version any more. What is compiled keeps nothing, and may."""
    if not torch.compiler.is_compiling() and version_of(ctrs) != version:
        raise RuntimeError(
            "ctrs were changed in place since this CenterIndex was made, and what it keeps is of the old values; "
            "make a new one: CenterIndex(ctrs)"
        )
