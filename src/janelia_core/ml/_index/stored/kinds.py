"""The types of numbers, as safetensors, NumPy and torch call them.

NumPy lacks some types that torch has. Their bits are kept as integers of the same size, and whoever knows the torch
type gets them back (`array_to_tensor`). Bytes are little-endian, as safetensors wants them.
"""

from __future__ import annotations

import re
from typing import Any, Final

import numpy.typing as npt
import torch
from torch import Tensor

Array = npt.NDArray[Any]

KINDS: Final = {
    "BOOL": "|b1",
    "U8": "|u1",
    "I8": "|i1",
    "U16": "<u2",
    "I16": "<i2",
    "F16": "<f2",
    "U32": "<u4",
    "I32": "<i4",
    "F32": "<f4",
    "U64": "<u8",
    "I64": "<i8",
    "F64": "<f8",
    "BF16": "<u2",
    "F8_E4M3": "|u1",
    "F8_E5M2": "|u1",
}
"""Those that safetensors has known since 0.4.3, with the NumPy type that holds their bits."""

_OF_ARRAYS: Final = {numpy: kind for kind, numpy in reversed(KINDS.items())}  # the first of each NumPy type
_ONLY_TORCH: Final = {"bfloat16": "BF16", "float8_e4m3fn": "F8_E4M3", "float8_e5m2": "F8_E5M2"}
_BITS: Final = {1: torch.uint8, 2: torch.uint16, 4: torch.uint32, 8: torch.uint64}


def kind_of_array(array: Array) -> str:
    """Return the kind of an array.

    Raises:
        TypeError: It holds no numbers that safetensors knows.
    """
    kind = _OF_ARRAYS.get(array.dtype.newbyteorder("<").str)
    if kind is None:
        raise TypeError(f"arrays of dtype {array.dtype} cannot be stored")
    return kind


def kind_of_tensor(values: Tensor) -> str | None:
    """Return the kind of values that NumPy lacks and safetensors has; None: that of their array."""
    return _ONLY_TORCH.get(name_of(values.dtype))


def name_of(dtype: torch.dtype) -> str:
    """Return the name of a torch dtype, such as float32."""
    return str(dtype).removeprefix("torch.")


def dtype_named(name: object) -> torch.dtype:
    """Return the torch dtype of that name.

    Raises:
        ValueError: There is none.
    """
    found = getattr(torch, name, None) if isinstance(name, str) and re.fullmatch(r"[a-z]\w*", name) else None
    if not isinstance(found, torch.dtype):
        raise ValueError(f"dtype {name} is unknown to this torch")
    return found


def tensor_to_array(values: Tensor) -> Array:
    """Return a tensor's numbers as an array, or their bits where NumPy lacks the type; no copy on the CPU."""
    here = values.detach().cpu().resolve_neg()
    carrier = _carrier(here.dtype)
    array: Array = (here if carrier is None else here.view(carrier)).numpy()
    return array


def array_to_tensor(array: Array, dtype: torch.dtype) -> Tensor:
    """Return the tensor whose `tensor_to_array` is this array, over the same memory.

    Raises:
        ValueError: That of a tensor of this dtype is of another type.
    """
    carrier = _carrier(dtype)
    with torch.inference_mode(False):  # whoever loads in that mode may want gradients later
        values = torch.from_numpy(array.astype(array.dtype.newbyteorder("="), copy=False))
        if values.dtype != (dtype if carrier is None else carrier):
            raise ValueError("numbers of another type than their dtype says")
        return values if carrier is None else values.view(dtype)


def _carrier(dtype: torch.dtype) -> torch.dtype | None:
    """Return the type of integers that hold the bits of a type that NumPy lacks, or None."""
    try:
        torch.empty(0, dtype=dtype, device="cpu").numpy()
    except TypeError:
        return _BITS[dtype.itemsize]
    return None
