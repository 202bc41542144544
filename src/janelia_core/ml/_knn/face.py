"""Checks at the face: every error names the argument, what was received and what is expected."""

from __future__ import annotations

import contextlib
import numbers
import operator

import torch
from torch import Tensor

from janelia_core.ml._knn.plan.budget import sensible_memory
from janelia_core.ml._knn.problem import LEAST_MEMORY
from janelia_core.ml._ordinary import check_here, check_ordinary


def checked_points(x: Tensor, ctrs: Tensor) -> None:
    """Check that x (n_smps, d) and ctrs (n_ctrs, d) can be compared."""
    # Step 1: arguments are checked
    for name, value, shape in (("x", x, "(n_smps, d)"), ("ctrs", ctrs, "(n_ctrs, d)")):
        checked_values(name, value, shape)
        if value.ndim != 2:
            raise ValueError(f"{name} must have shape {shape}, got {tuple(value.shape)}")
    checked_pair(x, ctrs)


def checked_values(name: str, value: object, shape: str) -> None:
    """Check that value is a dense real tensor."""
    if not isinstance(value, Tensor):
        raise TypeError(
            f"{name} must be a torch.Tensor of shape {shape}, got {type(value).__name__}{_remedy(name, value)}"
        )
    check_ordinary(name, value)
    check_here(name, value)
    if value.dtype.is_complex or value.is_quantized:
        raise TypeError(f"{name} must hold real numbers, got dtype {value.dtype}; convert it first")


def _remedy(name: str, value: object) -> str:
    """Say how to make a tensor of what others keep numbers in."""
    if isinstance(value, numbers.Number | str | bytes | None):
        return ""
    if type(value).__name__ == "CenterIndex":
        return "; call its own method: index.knn(x, k)"
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
    count = _integer(name, value, "an int")
    if count < 1:
        raise ValueError(f"{name} must be at least 1, got {count}")
    if most is not None and most < 1:
        raise ValueError(f"{name} = {count} asks for what is not there: {most_name} = {max(most, 0)}")
    if most is not None and count > most:
        raise ValueError(f"{name} must be at most {most_name} = {most}, got {count}")
    return count


def checked_memory(max_memory: object, device: torch.device) -> int:
    """Return max_memory as an int if it is a number of bytes that a search can keep to; None: what is sensible."""
    if max_memory is None:
        return sensible_memory(device)
    n_bytes = _integer("max_memory", max_memory, "an int, a number of bytes")
    if n_bytes < LEAST_MEMORY:
        raise ValueError(f"max_memory must be at least {LEAST_MEMORY} bytes (1 MiB), got {n_bytes}")
    return n_bytes


def _integer(name: str, value: object, expected: str) -> int:
    """Return a Python or NumPy integer, or a tensor of no dimension that holds one, as an int; a bool is none.

    A `torch.SymInt`, which stands for an int while torch.export or make_fx traces, stays as it is.
    """
    if type(value) is int or isinstance(value, torch.SymInt):
        return value  # type: ignore[return-value]
    is_integer = not isinstance(value, bool)
    if isinstance(value, Tensor):  # torch takes a bool, and a vector of one element, for an index
        is_integer = value.ndim == 0 and value.dtype != torch.bool
    if is_integer:
        with contextlib.suppress(TypeError):
            return operator.index(value)  # type: ignore[arg-type]
    raise TypeError(f"{name} must be {expected}, got {type(value).__name__}: {value!r}")


def checked_generator(generator: object, device: torch.device) -> None:
    """Check that generator is None or a torch.Generator for the device."""
    if generator is None:
        return
    if not isinstance(generator, torch.Generator):
        raise TypeError(f"generator must be a torch.Generator or None, got {type(generator).__name__}")
    if generator.device.type != device.type:
        raise ValueError(f"generator must be on x's device {device}, got one on {generator.device}")
