"""Coordinates as the tree holds them: float32, what is lost by it, and whether keys are exact."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from janelia_core.ml._knn.data.points import are_multiples
from janelia_core.ml._runtime.arrays import F32, F64

BLOCK = 1 << 13
"""Rows looked at together."""
_NARROW = (torch.float32, torch.float16, torch.bfloat16, torch.uint8, torch.int8, torch.int16, torch.bool)


def as_float32(values: Tensor) -> tuple[F32, F64, float]:
    """Return float32 coordinates, the float64 ones if they differ (else none), the largest residual norm."""
    if values.dtype in _NARROW:
        return values.to(torch.float32).contiguous().numpy(), np.empty((0, 0)), 0.0
    raw = values.to(torch.float64).contiguous().numpy()
    z = raw.astype(np.float32)
    if np.array_equal(raw, z):
        return z, np.empty((0, 0)), 0.0
    return z, raw, float(residuals(raw, z).max(initial=0.0))


def is_float32(values: Tensor) -> bool:
    """Tell whether float32 holds all values."""
    return values.dtype in _NARROW or all(
        len(as_float32(values[i : i + BLOCK])[1]) == 0 for i in range(0, len(values), BLOCK)
    )


def residuals(raw: F64, z: F32) -> F64:
    """Return upper bounds of |raw - z| for each row."""
    difference = raw - z
    norms: F64 = np.sqrt(np.einsum("ij,ij->i", difference, difference))
    vanished = raw.shape[1] * 2.0**-530  # squares below 2^-1060
    bounds: F64 = norms * (1.0 + raw.shape[1] * 2.0**-50) + vanished
    return bounds


def on_lattice(ctrs: F32, x: Tensor) -> bool:
    """Tell whether all values, which float32 holds, are multiples of a power of two so coarse that keys are exact."""
    z = torch.from_numpy(ctrs)
    return _fits(z[:64], x[:64]) and _fits(z, x)


def _fits(*tables: Tensor) -> bool:
    """Tell whether the finest step that keeps keys exact divides all values."""
    blocks = [values[i : i + BLOCK] for values in tables for i in range(0, len(values), BLOCK)]
    ends = [(float(block.min()), float(block.max())) for block in map(_in_float32, blocks)]
    spread = max(high for _, high in ends) - min(low for low, _ in ends)
    if spread == 0.0:
        return True
    # d (spread / step)^2 < 2^24
    step = 2.0 ** np.ceil(np.log2(spread / (4095.0 / np.sqrt(tables[0].shape[1]))))
    if not 2.0**-50 <= step <= 2.0**50:
        return False
    return all(are_multiples(_in_float32(block), float(step)) for block in blocks)


def _in_float32(values: Tensor) -> Tensor:
    return torch.from_numpy(as_float32(values)[0])
