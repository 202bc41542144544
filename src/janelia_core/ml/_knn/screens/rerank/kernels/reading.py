"""Stored values, as kernels compute with them."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def stored(values):
    """Stored values in float64: exact but for 64-bit integers."""
    if values.dtype == tl.bfloat16 or values.dtype == tl.float16:
        values = values.to(tl.float32)
    return values.to(tl.float64)
