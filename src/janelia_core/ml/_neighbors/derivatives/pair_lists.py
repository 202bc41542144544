"""Which row pairs with which centre: found indices, counted from the first centre of each batch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor


class Pairs(NamedTuple):
    """The pairs (row i, centre) of a flat problem.

    Attributes:
        indices: (n, k) int64, -1 where there is no neighbour.
        first: (n_batches,) int64: of each batch of n / n_batches rows, the row number of the centre that its indices
            call 0. Empty: indices are row numbers.
    """

    indices: Tensor
    first: Tensor

    @property
    def rows_of_batch(self) -> int:
        """How many rows share a first centre."""
        return max(1, self.indices.shape[0] // max(1, self.first.shape[0]))

    def centres(self, rows: slice) -> Tensor:
        """Return the centres' row numbers (r, k) of some rows, -1 where there is none."""
        part = self.indices[rows]
        if self.first.shape[0] == 0:
            return part
        batches = torch.arange(rows.start, rows.start + part.shape[0], device=part.device) // self.rows_of_batch
        return torch.where(part < 0, -1, part + self.first[batches, None])

    def chunks(self, bytes_a_pair: int, budget: int) -> list[slice]:
        """Cut the rows into slices whose pairs take at most budget bytes."""
        step = max(1, budget // (self.indices.shape[1] * (bytes_a_pair + 32) + 1))
        return [slice(start, start + step) for start in range(0, self.indices.shape[0], step)]

    def by_centre(self, bytes_a_pair: int, budget: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Yield rows, slots and centres of the pairs that there are, chunk by chunk, each in the order of its centres.

        Sums that add up chunk by chunk have one order, whatever the device. On another than the CPU, which would have
        to be waited for to know how many there are, pairs that there are not come first, of centre -1.
        """
        k = self.indices.shape[1]
        for rows in self.chunks(bytes_a_pair + 32, budget):
            centres = self.centres(rows).reshape(-1)
            order = centres.argsort(stable=True)
            if centres.device.type == "cpu":
                order = order[int((centres < 0).sum()) :]
            if len(order):  # torch sums up no segments of nothing
                yield rows.start + order // k, order % k, centres[order]


def add_by_centre(out: Tensor, centres: Tensor, values: Tensor) -> None:
    """Add values (p, ...) of pairs in the order of their centres to the rows of out; not those of centre -1."""
    if out.device.type != "cpu":
        starts = torch.searchsorted(centres, torch.arange(len(out) + 1, device=out.device))
        lengths = torch.cat([starts[:1], starts.diff()])
        out += torch.segment_reduce(values, "sum", lengths=lengths, unsafe=True)[1:]
        return
    ctrs, counts = torch.unique_consecutive(centres, return_counts=True)
    out[ctrs] += torch.segment_reduce(values, "sum", lengths=counts)
