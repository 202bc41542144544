"""Which centres a row may have: the caller's table, or function, asked for one tile at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from janelia_core.ml._knn.data.points import Points

Allowed = Callable[[Tensor, int, int], Tensor]
"""(rows (r,) int64, start, stop) -> (r, stop - start) bool: row numbers of x against rows start .. stop-1 of ctrs."""


@dataclass(frozen=True)
class Table:
    """A mask that stands in memory, as a function of tiles: it is read where it stands, and never copied whole.

    Attributes:
        values: (..., columns) bool, whose leading dimensions count rows, and may be expanded.
        row: What counts as row 0.
        column: What counts as column 0.
    """

    values: Tensor
    row: int = 0
    column: int = 0

    def __call__(self, rows: Tensor, start: int, stop: int) -> Tensor:
        """Return a tile."""
        columns, (*lead, n_rows) = slice(start + self.column, stop + self.column), self.values.shape[:-1]
        run = _run_of(rows, self.row)
        if run is not None and run[0] // n_rows == (run[1] - 1) // n_rows:  # of one table: nothing is gathered
            table = self.values
            for number in np.unravel_index(run[0] // n_rows, lead):
                table = table[int(number)]
            first = run[0] % n_rows
            return table[first : first + len(rows), columns]
        where: Any = (*_unravelled(rows + self.row, [*lead, n_rows]), columns)
        return self.values[where]

    def shifted(self, rows: int, columns: int) -> Table:
        """Return what is left behind so many rows and columns."""
        return replace(self, row=self.row + rows, column=self.column + columns)

    @property
    def is_plain(self) -> bool:
        """Whether the columns of a row lie side by side in a CPU's memory."""
        values = self.values
        return type(values) is Tensor and values.device.type == "cpu" and values.stride(-1) == 1

    def bytes_of(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return the bytes of a plain table, flat, and where in them the first column of each row (r,) is."""
        values = self.values.detach().view(torch.uint8)
        *shape, _ = values.shape
        items = values.as_strided((_extent(values),), (1,), values.storage_offset())
        where = torch.unravel_index(rows + self.row, tuple(shape))
        offsets = torch.full_like(rows, self.column)
        for numbers, stride in zip(where, values.stride()[:-1], strict=True):
            offsets += numbers * stride
        return items, offsets


def _unravelled(numbers: Tensor, shape: list[int]) -> list[Tensor]:
    """Return what torch.unravel_index does, which copies its divisors to the numbers' device and waits for that."""
    places: list[Tensor] = []
    for size in reversed(shape[1:]):
        places.append(numbers % size)
        numbers = numbers // size
    return [numbers, *reversed(places)]


def _run_of(rows: Tensor, more: int) -> tuple[int, int] | None:
    """Return the first of some row numbers and what follows the last, with more added, if they follow each other."""
    if rows.device.type != "cpu" or not len(rows):
        return None
    numbers = rows.numpy()
    first = int(numbers[0])
    follow = int(numbers[-1]) - first + 1 == len(numbers) and bool((np.diff(numbers) == 1).all())
    return (first + more, first + more + len(numbers)) if follow else None


def _extent(values: Tensor) -> int:
    """Return how many items lie between a tensor's first and last, with both."""
    return 1 + sum((size - 1) * stride for size, stride in zip(values.shape, values.stride(), strict=True))


@dataclass(frozen=True)
class Mask:
    """Tiles of `allowed` for positions among the centres searched, which may be a subset of the rows of ctrs."""

    allowed: Allowed
    ctrs: Points

    def table(self) -> Table | None:
        """Return the table whose columns are the positions of the centres, if it stands in a CPU's memory."""
        allowed = self.allowed
        return allowed if isinstance(allowed, Table) and self.ctrs.subset is None and allowed.is_plain else None

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

    def tiles(self, rows: Tensor, most: int) -> Tensor:
        """Return (r, n_ctrs) bool of all centres, asked for at most so many of them at once."""
        n = len(self.ctrs)
        shown = [self.tile(rows, start, min(start + most, n)) for start in range(0, n, most)]
        return shown[0] if len(shown) == 1 else torch.cat(shown, dim=1)

    def _asked(self, rows: Tensor, start: int, stop: int) -> Tensor:
        tile = self.allowed(rows, start, stop)
        asked = f"mask(rows, {start}, {stop}) must return a bool tensor of shape ({len(rows)}, {stop - start})"
        if not isinstance(tile, Tensor):
            raise TypeError(f"{asked}, got {type(tile).__name__}")
        if tile.dtype != torch.bool or tile.shape != (len(rows), stop - start):
            raise ValueError(f"{asked}, got {tile.dtype} of shape {tuple(tile.shape)}")
        return tile
