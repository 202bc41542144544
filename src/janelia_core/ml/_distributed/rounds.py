"""Blocks of rows that all processes search at the same time, and who is to own which of their rows."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from janelia_core.ml._distributed.facts import Facts
from janelia_core.ml._distributed.group import Group

PER_SLOT = 220  # bytes of a centre in a list: found, sent, received, ordered
_PER_COORDINATE = 8  # of a row


class Round(NamedTuple):
    """One block of rows.

    Attributes:
        x: (r, d) rows, the same on all processes.
        numbers: (r,) int64 their numbers among all rows: of one process after the other, where x is sharded.
        counts: How many of them each process owns: first those of process 0, then of 1, ..
        mine: Which of this process's x: the rows that it owns or, where x is replicated, the whole block.
    """

    x: Tensor
    numbers: Tensor
    counts: list[int]
    mine: slice

    def owned(self, rank: int) -> Tensor:
        """Return the rows that a process owns."""
        first = sum(self.counts[:rank])
        return self.x[first : first + self.counts[rank]]

    def part(self, start: int, stop: int) -> tuple[Round, Tensor]:
        """Return rows start .. stop - 1 of what each process owns as a block of its own, and which they are."""
        firsts = [sum(self.counts[:rank]) for rank in range(len(self.counts))]
        counts = [max(0, min(stop, count) - start) for count in self.counts]
        runs = zip(firsts, counts, strict=True)
        which = torch.cat([torch.arange(count) + first + start for first, count in runs]).to(self.x.device)
        return Round(self.x[which], self.numbers[which], counts, self.mine), which


def rows_at_once(facts: Facts, d: int, k: int) -> int:
    """Return how many rows one process may own in a round."""
    size = len(facts.n_rows)
    widths = sum(facts.widths(k))
    # Of each row that it owns a process receives all lists; of each row of all owners it makes one.
    row = (widths + size * k) * PER_SLOT + size * d * _PER_COORDINATE
    return max(1, facts.memory // 4 // row)


def rounds(group: Group, x: Tensor, facts: Facts, most: int, sharded: bool) -> Iterator[Round]:
    """Yield the blocks; with a sharded x the processes send each other their rows."""
    if sharded:
        offsets = [sum(facts.n_rows[:rank]) for rank in range(group.size)]
        for start in range(0, max(facts.n_rows), most):
            counts = [max(0, min(most, n - start)) for n in facts.n_rows]
            mine = slice(start, start + counts[group.rank])
            block = group.rows_gathered(x[mine], counts, "sending each other rows")
            numbers = [torch.arange(count) + start + offset for count, offset in zip(counts, offsets, strict=True)]
            yield Round(block, torch.cat(numbers).to(x.device), counts, mine)
        return
    step = most * group.size
    for first in range(0, len(x), step):
        block = x[first : first + step]
        ends = [len(block) * rank // group.size for rank in range(group.size + 1)]
        counts = [stop - start for start, stop in itertools.pairwise(ends)]
        mine = slice(first, first + len(block))
        yield Round(block, torch.arange(mine.start, mine.stop, device=x.device), counts, mine)
