"""Which centres a row may have: the caller's function, asked for one tile at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from janelia_core.ml._knn.data.points import Points

Allowed = Callable[[Tensor, int, int], Tensor]
"""(rows (r,) int64, start, stop) -> (r, stop - start) bool: row numbers of x against rows start .. stop-1 of ctrs."""


@dataclass(frozen=True)
class Mask:
    """Tiles of `allowed` for positions among the centres searched, which may be a subset of the rows of ctrs."""

    allowed: Allowed
    ctrs: Points

    def tile(self, rows: Tensor, start: int, stop: int) -> Tensor:
        """Return (r, stop - start) bool: may row rows[i] of x have the centre at position start + j?"""
        if self.ctrs.subset is None:
            return self._asked(rows, start, stop)
        numbers = self.ctrs.subset[start:stop]
        first, size = int(numbers[0]), stop - start
        parts = []
        # A thin subset spans many rows of ctrs: they are asked for as many at a time as the tile is wide.
        for base in range(first, int(numbers[-1]) + 1, size):
            here = numbers[(numbers >= base) & (numbers < base + size)]
            if len(here):
                top = int(here[-1]) + 1
                parts.append(self._asked(rows, base, top)[:, here - base])
        return torch.cat(parts, dim=1)

    def _asked(self, rows: Tensor, start: int, stop: int) -> Tensor:
        tile = self.allowed(rows, start, stop)
        asked = f"mask(rows, {start}, {stop}) must return a bool tensor of shape ({len(rows)}, {stop - start})"
        if not isinstance(tile, Tensor):
            raise TypeError(f"{asked}, got {type(tile).__name__}")
        if tile.dtype != torch.bool or tile.shape != (len(rows), stop - start):
            raise ValueError(f"{asked}, got {tile.dtype} of shape {tuple(tile.shape)}")
        return tile
