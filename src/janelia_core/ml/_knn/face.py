"""Checks at the face: every error names the argument, what was received and what is expected."""

from __future__ import annotations

import numbers

import torch
from torch import Tensor

from janelia_core.ml._knn.plan import LEAST_MEMORY


def checked_points(x: Tensor, ctrs: Tensor) -> None:
    """Check that x (n_smps, d) and ctrs (n_ctrs, d) can be compared."""
    for name, value, shape in (("x", x, "(n_smps, d)"), ("ctrs", ctrs, "(n_ctrs, d)")):
        checked_values(name, value, shape)
        if value.ndim != 2:
            raise ValueError(f"{name} must have shape {shape}, got {tuple(value.shape)}")
    checked_pair(x, ctrs)


def checked_values(name: str, value: object, shape: str) -> None:
    """Check that value is a dense real tensor that holds values."""
    if not isinstance(value, Tensor):
        raise TypeError(
            f"{name} must be a torch.Tensor of shape {shape}, got {type(value).__name__}{_remedy(name, value)}"
        )
    if value.dtype.is_complex or value.is_quantized:
        raise TypeError(f"{name} must hold real numbers, got dtype {value.dtype}; convert it first")
    if value.layout != torch.strided:
        raise TypeError(f"{name} must be a dense tensor, got layout {value.layout}; call {name}.to_dense()")
    if value.device.type == "meta":
        raise ValueError(f"{name} is on the meta device and holds no values to compare")


def _remedy(name: str, value: object) -> str:
    """Say how to make a tensor of what others keep numbers in."""
    if isinstance(value, numbers.Number | str | bytes | None):
        return ""
    if hasattr(value, "to_numpy"):  # pandas, polars, pyarrow
        return f"; give torch.from_numpy({name}.to_numpy())"
    if type(value).__module__.split(".")[0] == "numpy":
        return f"; give torch.from_numpy({name}), which shares its memory"
    return f"; give torch.as_tensor({name})"


def checked_pair(x: Tensor, ctrs: Tensor) -> None:
    """Check that x (..., d) and ctrs (..., d) have one d and one device."""
    if x.shape[-1] != ctrs.shape[-1]:
        raise ValueError(
            f"x and ctrs must have the same number of columns d, got x {tuple(x.shape)} and ctrs {tuple(ctrs.shape)}"
        )
    if x.device != ctrs.device:
        raise ValueError(f"x and ctrs must be on one device, got x on {x.device} and ctrs on {ctrs.device}")


def checked_count(name: str, value: object, most: int | None = None, most_name: str = "") -> int:
    """Return value as an int if it is an integer with 1 <= value (<= most)."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(f"{name} must be an int, got {type(value).__name__}: {value!r}")
    count = int(value)
    if count < 1:
        raise ValueError(f"{name} must be at least 1, got {count}")
    if most is not None and most < 1:
        raise ValueError(f"{name} = {count} asks for what is not there: {most_name} = {max(most, 0)}")
    if most is not None and count > most:
        raise ValueError(f"{name} must be at most {most_name} = {most}, got {count}")
    return count


def checked_memory(max_memory: object) -> int:
    """Return max_memory as an int if it is a number of bytes that a search can keep to."""
    if isinstance(max_memory, bool) or not isinstance(max_memory, numbers.Integral):
        raise TypeError(
            f"max_memory must be an int, a number of bytes, got {type(max_memory).__name__}: {max_memory!r}"
        )
    if max_memory < LEAST_MEMORY:
        raise ValueError(f"max_memory must be at least {LEAST_MEMORY} bytes (1 MiB), got {max_memory}")
    return int(max_memory)


def checked_generator(generator: object, device: torch.device) -> None:
    """Check that generator is None or a torch.Generator for the device."""
    if generator is None:
        return
    if not isinstance(generator, torch.Generator):
        raise TypeError(f"generator must be a torch.Generator or None, got {type(generator).__name__}")
    if generator.device.type != device.type:
        raise ValueError(f"generator must be on x's device {device}, got one on {generator.device}")
