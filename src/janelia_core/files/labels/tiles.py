"""Which centres some queries may have, as a mask: a tile of it at a time.

The commonest labels are bits of a number that each row has, so that they cost a tile the same however many centres
have them. The others are looked up in sorted lists, which cost as much as they are long.
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

_BITS = 62
_MARK = 8  # pairs of numbers that are compared in the time in which a list marks one of its centres
_CELLS, _MARKS = 1 << 18, 1 << 16  # at a time, so that what is between takes some megabytes


class Tiles:
    """A mask of n_smps queries and n_ctrs centres.

    Args:
        keys: label * n_ctrs + centre of every label of a centre, ascending.
        n_ctrs: Number of centres.
        row: Of each label of a query, ascending.
        label: These labels, 0 <= label <= n_labels; the last is one that no centre has.
        n_smps: Number of queries.
        n_labels: Number of labels that centres have.
        every: A centre must have all labels of a query, not one of them.
    """

    def __init__(
        self, keys: Tensor, n_ctrs: int, row: Tensor, label: Tensor, n_smps: int, n_labels: int, every: bool
    ) -> None:
        self._keys, self._n_ctrs, self._every = keys, n_ctrs, every
        theirs = keys // n_ctrs
        bit = torch.full((n_labels + 1,), -1)
        marks = torch.bincount(label, minlength=n_labels + 1)[:-1] * torch.bincount(theirs, minlength=n_labels)
        common = marks.topk(min(_BITS, n_labels)).indices
        self._has_bits = _MARK * int(marks[common].sum()) >= n_smps * n_ctrs
        if self._has_bits:
            bit[common] = torch.arange(len(common))
        self._query_bits = _bits(bit[label], row, n_smps)
        self._centre_bits = _bits(bit[theirs], keys % n_ctrs, n_ctrs)
        rare = bit[label] < 0
        self._label = label[rare]
        self._ends = torch.nn.functional.pad(torch.bincount(row[rare], minlength=n_smps).cumsum(0), (1, 0))

    def __call__(self, rows: Tensor, start: int, stop: int) -> Tensor:
        """Return (r, stop - start) bool: which centres start .. stop - 1 some rows may have, as `find` asks."""
        device, rows = rows.device, rows.cpu()
        tile = torch.full((len(rows), stop - start), self._every)
        most = max(1, _CELLS // max(1, stop - start))
        for part, some in zip(torch.split(tile, most), torch.split(rows, most), strict=True):
            if self._has_bits:
                ours = self._query_bits[some][:, None]
                both = ours & self._centre_bits[start:stop]
                torch.eq(both, ours if self._every else 0, out=part)
                if not self._every:
                    part.logical_not_()
            self._add_lists(part, some, start, stop)
        return tile.to(device)

    def _add_lists(self, tile: Tensor, rows: Tensor, start: int, stop: int) -> None:
        """Add to a tile by common labels what the others say."""
        counts = self._ends.diff()[rows]
        if not self._every:
            row = torch.repeat_interleave(torch.arange(len(rows)), counts)
            self._mark(tile, row, self._label[ranges(self._ends[rows], counts)], start, stop)
            return
        for turn in range(int(counts.max()) if len(rows) else 0):
            some = (counts > turn).nonzero()[:, 0]
            one = torch.zeros(len(some), stop - start, dtype=torch.bool)
            self._mark(one, torch.arange(len(some)), self._label[self._ends[rows[some]] + turn], start, stop)
            tile[some] &= one

    def _mark(self, tile: Tensor, row: Tensor, label: Tensor, start: int, stop: int) -> None:
        """Mark in rows of a tile who among centres start .. stop - 1 has a label; so many at a time."""
        first = torch.searchsorted(self._keys, label * self._n_ctrs + start)
        counts = torch.searchsorted(self._keys, label * self._n_ctrs + stop) - first
        ends = counts.cumsum(0)
        full = range(_MARKS, int(ends[-1]) if len(ends) else 0, _MARKS)
        cuts = torch.searchsorted(ends, torch.tensor(full, dtype=torch.int64)).tolist()
        for begin, end in itertools.pairwise([0, *cuts, len(row)]):
            some = counts[begin:end]
            centre = self._keys[ranges(first[begin:end], some)] % self._n_ctrs
            tile.view(-1)[torch.repeat_interleave(row[begin:end], some) * (stop - start) + centre - start] = True


def _bits(bit: Tensor, row: Tensor, n: int) -> Tensor:
    """Return a number (n,) of each row, of its bits, each of which is there once; -1 is none."""
    some = bit >= 0
    return torch.zeros(n, dtype=torch.int64).scatter_add_(0, row[some], torch.ones_like(bit[some]) << bit[some])


def ranges(first: Tensor, counts: Tensor) -> Tensor:
    """Return first[0], first[0] + 1 .., counts[0] of them, then those of first[1], .."""
    ends = counts.cumsum(0)
    return torch.arange(int(ends[-1]) if len(ends) else 0) + torch.repeat_interleave(first - ends + counts, counts)
