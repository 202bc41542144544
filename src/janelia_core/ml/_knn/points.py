"""Stored values of the rows of a tensor, whatever its dtype, strides and device."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

_WIDE = (torch.int64, torch.uint64)  # dtypes with values that float64 cannot hold


@dataclass(frozen=True)
class Points:
    """The rows of a (n, d) tensor, or of the subset `subset` of them, read block by block and never copied whole.

    Attributes:
        values: (n, d) tensor as the caller stored it.
        subset: ascending int64 positions into values, or None for all rows (centre dropout draws a subset).
    """

    values: Tensor
    subset: Tensor | None = None

    def __len__(self) -> int:
        return self.values.shape[0] if self.subset is None else self.subset.shape[0]

    @property
    def d(self) -> int:
        """Number of coordinates."""
        return self.values.shape[1]

    @property
    def device(self) -> torch.device:
        """Where the values are stored."""
        return self.values.device

    def block(self, start: int, stop: int) -> Tensor:
        """Return rows start .. stop-1 as stored, a view where possible."""
        return self.values[start:stop] if self.subset is None else self.values[self.subset[start:stop]]

    def take(self, positions: Tensor) -> Tensor:
        """Return the rows at int64 positions (any shape) as stored: positions.shape + (d,)."""
        positions = positions.to(self.values.device)
        return self.values[positions if self.subset is None else self.subset[positions]]

    def original(self, positions: Tensor) -> Tensor:
        """Translate positions among these points to row numbers of `values`."""
        if self.subset is None:
            return positions
        return self.subset[positions.to(self.subset.device)]


def is_wide(values: Tensor) -> bool:
    """Tell whether float64 may be unable to hold the stored values."""
    return values.dtype in _WIDE


def float64_device(device: torch.device) -> torch.device:
    """Return the device on which float64 work for tensors on `device` is done: Apple GPUs have no float64."""
    return torch.device("cpu") if device.type == "mps" else device


def as_float64(values: Tensor) -> Tensor:
    """Return the values in float64: exact for all dtypes but 64-bit integers, which are rounded once."""
    return values.to(device=float64_device(values.device), dtype=torch.float64)


def halves(values: Tensor) -> tuple[Tensor, Tensor]:
    """Split 64-bit integers v = high + low with both parts exact in float64."""
    bits = values.to(float64_device(values.device)).view(torch.int64)
    low = bits & 0xFFFFFFFF
    high = bits >> 32
    if values.dtype == torch.uint64:
        high = high & 0xFFFFFFFF
    return high.to(torch.float64) * 2.0**32, low.to(torch.float64)
