"""Which values the kernels of the screens on a GPU read."""

from __future__ import annotations

import torch

from janelia_core.ml._knn.screens.contract import Asked

DTYPES = (
    torch.float32, torch.float64, torch.float16, torch.bfloat16,
    torch.int8, torch.int16, torch.int32, torch.int64, torch.uint8,
)  # fmt: skip
_MOST_ROWS = (1 << 31) - 1  # of a table that centres are rows of: their numbers have 32 bits


def why_not_read(asked: Asked, *more: torch.dtype) -> str:
    """Return why kernels that read DTYPES, and some more, do not read these values, or nothing."""
    for values in (asked.x.values, asked.centres.points.values):
        if values.dtype not in (*DTYPES, *more):
            return f"its kernels do not read {values.dtype}"
    return "its kernels know rows by 32-bit numbers" if len(asked.centres.points.values) > _MOST_ROWS else ""
