"""Which centres of a block each query of a block may have: those that share a label with it.

A search of queries that have the same labels goes among the centres that these allow. Where there are many such
groups, all queries go among all centres under a mask, asked for a tile at a time.
"""

from __future__ import annotations

import torch
from torch import Tensor

from janelia_core.files.labels.lists import Lists
from janelia_core.files.labels.tiles import Tiles, ranges
from janelia_core.ml._knn.merge import Find

_GROUP = 1e6  # pairs of rows that take as long to search as one more search takes to begin


class Shared:
    """What a block of queries and a block of centres have in common.

    Args:
        queries: Labels of n_smps rows.
        n_smps: See queries.
        centres: Labels of n_ctrs rows.
        n_ctrs: See centres.
        every: A centre must have all labels of a query, not one of them.
    """

    def __init__(self, queries: Lists, n_smps: int, centres: Lists, n_ctrs: int, every: bool = False) -> None:
        self._n_smps, self._n_ctrs, self._every = n_smps, n_ctrs, every
        names = torch.unique(centres.label)
        place = torch.searchsorted(names, centres.label)
        # Sorted by (label, centre), so that a range of centres is a range of every label's list.
        self._keys = (place * n_ctrs + centres.row).sort().values
        at = torch.searchsorted(names, queries.label)
        known = at < len(names)
        known[known.clone()] = names[at[known]] == queries.label[known]
        self._label = torch.where(known, at, len(names))  # what no centre has: an empty list behind all others
        self._ends = torch.nn.functional.pad(torch.bincount(queries.row, minlength=n_smps).cumsum(0), (1, 0))
        self._tiles = Tiles(self._keys, n_ctrs, queries.row, self._label, n_smps, len(names), every)

    def __call__(self, rows: Tensor, start: int, stop: int) -> Tensor:
        """Return (r, stop - start) bool: which centres start .. stop - 1 some rows may have, as `find` asks."""
        return self._tiles(rows, start, stop)

    def find(self, find: Find, x: Tensor, ctrs: Tensor, k: int) -> Tensor:
        """Search with `find`; return (k, n) int64, -1 where a row may have fewer than k centres."""
        number, examples = self._groups()
        if number is None or _dearer(number, self._sizes(examples), self._n_smps * self._n_ctrs):
            return find(x, ctrs, k, allowed=self)
        out = torch.full((k, len(x)), -1, dtype=torch.int64)
        for group, row in enumerate(examples):
            some = self(row[None], 0, self._n_ctrs)[0].nonzero()[:, 0]
            if len(some):
                rows, most = (number == group).nonzero()[:, 0], min(k, len(some))
                some = some.to(ctrs.device)
                out[:most, rows] = find(x[rows.to(x.device)], ctrs, most, subset=some).cpu()
        return out

    def _sizes(self, rows: Tensor) -> Tensor:
        """Return at most how many centres (r,) some rows may have."""
        counts = self._ends.diff()[rows]
        label = self._label[ranges(self._ends[rows], counts)]
        ends = torch.searchsorted(self._keys, torch.stack([label, label + 1]) * self._n_ctrs)
        row = torch.repeat_interleave(torch.arange(len(rows)), counts)
        if self._every:
            return torch.full((len(rows),), self._n_ctrs).scatter_reduce_(0, row, ends[1] - ends[0], "amin")
        return (
            torch.zeros(len(rows), dtype=torch.int64).scatter_add_(0, row, ends[1] - ends[0]).clamp_(max=self._n_ctrs)
        )

    def _groups(self) -> tuple[Tensor | None, Tensor]:
        """Return the group (n,) of each query, whose labels are the same, and a row of each; None: they are many."""
        most = max(1, int(self._n_smps * self._n_ctrs / _GROUP))
        counts = self._ends.diff()
        # A hash of a sum would do for most; lists padded to the same length are compared as they are.
        width = max(1, int(counts.max()))
        if width * self._n_smps > 4 * len(self._label) + 4 * self._n_smps:
            return None, counts
        table = torch.full((self._n_smps, width), -1, dtype=torch.int64)
        row = torch.repeat_interleave(torch.arange(self._n_smps), counts)
        table[row, torch.arange(len(row)) - self._ends[row]] = self._label
        distinct, number = torch.unique(table, dim=0, return_inverse=True)
        if len(distinct) > most:
            return None, counts
        examples = torch.empty(len(distinct), dtype=torch.int64)
        examples[number] = torch.arange(self._n_smps)
        return number, examples


def _dearer(number: Tensor, sizes: Tensor, pairs: int) -> bool:
    """Tell whether groups, each among so many centres, take longer than all pairs under a mask."""
    rows = torch.bincount(number, minlength=len(sizes)).double()
    return float(rows @ sizes.double()) + _GROUP * len(sizes) > pairs
