"""Elementwise functions of CUDA tensors by one launch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

import janelia_core.ml._log_cosh.constants as c
from janelia_core.ml._runtime.device_kernels import device_kernels_serve, launching

_BLOCK = 1024  # elements of a program
_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def _constants(wide: bool) -> dict[str, dict[str, Any]]:
    """Return what each kernel takes, by its name."""
    small, tail, exp2, tanh = (
        (c.SMALL_64, c.TAIL_64, c.EXP2_64, c.TANH_64) if wide else (c.SMALL_32, c.TAIL_32, c.EXP2_32, c.TANH_32)
    )
    mantissa = 52 if wide else 23
    shared = {
        "MOST": 354.0 if wide else 43.0,
        "LOG2_E": c.LOG2_E,
        "ROUND": 1.5 * 2.0**mantissa,
        "EXP2": exp2,
        "MANTISSA": mantissa,
        "BLOCK": _BLOCK,
    }
    of_squares = tuple(value * 0.25 * 0.5**i for i, value in enumerate(small))  # of b^2; constants are of b^2 / 2
    return {
        "log_cosh": {**shared, "JOINT": c.JOINT, "SMALL": of_squares, "TAIL": tail},
        "times_tanh": {**shared, "JOINT": c.TANH_JOINT, "LN2": c.LN2_64 if wide else c.LN2_32, "TANH": tanh},
    }


_CONSTANTS = {wide: _constants(wide) for wide in (False, True)}


def fits(tensors: Sequence[Tensor]) -> bool:
    """Tell whether kernels of the tensors' device serve; all are of one shape and dtype."""
    return tensors[0].dtype in _FLOATS and tensors[0].numel() > 0 and device_kernels_serve(*tensors)


def evaluated(kernel: str, flats: Sequence[Tensor], out: Tensor) -> Tensor:
    """Fill out (n,) with what a kernel makes of tensors (n,) in the same order, all contiguous; return it."""
    from janelia_core.ml._log_cosh.triton import kernels

    n = out.numel()
    with launching(out):
        getattr(kernels, kernel)[(-(-n // _BLOCK),)](*flats, out, n, **_CONSTANTS[out.dtype == torch.float64][kernel])
    return out
