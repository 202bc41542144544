"""Blocks of rows on their way through the ladder, and small moves with them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from janelia_core.ml._knn.data.points import picked_rows


class Rows(NamedTuple):
    """A block of rows of x: stored values (r, d), and their row numbers (r,) in x."""

    values: Tensor
    numbers: Tensor

    def pick(self, positions: Tensor | slice) -> Rows:
        """Return some of the rows."""
        if isinstance(positions, slice):
            return Rows(self.values[positions], self.numbers[positions])
        values = picked_rows(self.values, positions.to(self.values.device))
        return Rows(values, self.numbers[positions.to(self.numbers.device)])


def parts(n: int, step: int, first: int = 0) -> list[slice]:
    """Cut n rows, those from `first` on, into parts of at most step rows."""
    return [slice(start, start + step) for start in range(first, n, step)]


def tiles(rows: int, columns: int, most: int) -> Iterator[tuple[slice, slice]]:
    """Cut a table into tiles of at most `most` places, or of one: whole rows where they fit."""
    width = min(max(1, columns), max(1, most))
    for part in parts(rows, max(1, most // width)):
        yield from ((part, slots) for slots in parts(columns, width))


def assign(out: Tensor, rows: Tensor, search: Callable[[Tensor], Tensor]) -> None:
    """Set out[rows] = search(positions of rows), where there are any."""
    positions = rows.nonzero()[:, 0]
    if positions.numel():
        out[positions] = search(positions)


def listed(mask: Tensor, start: int) -> Tensor:
    """List where mask (r, b) holds as start + column, (r, largest count) int64 padded with -1."""
    counts = mask.sum(dim=1)
    row, column = mask.nonzero(as_tuple=True)
    place = torch.arange(len(row), device=mask.device) - (counts.cumsum(0) - counts)[row]
    out = torch.full((len(mask), int(counts.max())), -1, dtype=torch.int64, device=mask.device)
    out[row, place] = column + start
    return out


def picked(listed: Tensor, values: Tensor, wanted: Tensor) -> Tensor:
    """Return the values (r, w) that stand at the numbers `wanted` (r, k) of the lists `listed` (r, w)."""
    by_number = listed.argsort(dim=1)
    place = torch.searchsorted(listed.gather(1, by_number), wanted.contiguous())
    return values.gather(1, by_number.gather(1, place))
