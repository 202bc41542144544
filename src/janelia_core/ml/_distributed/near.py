"""Blocks whose rows have very different numbers of neighbours, cut into parts whose lists fit."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from janelia_core.ml._distributed.group import Group
from janelia_core.ml._distributed.rounds import PER_SLOT, Round


class Part(NamedTuple):
    """Rows of a block that go round together.

    Attributes:
        round: The rows.
        which: (r,) their places in the block.
        widths: How many centres each process lists for a row: as many as it has for the one that has most.
    """

    round: Round
    which: Tensor
    widths: list[int]


def parts(group: Group, block: Round, counts: Tensor, memory: int) -> Iterator[Part]:
    """Yield parts of a block, one row of each process at least.

    Args:
        group: The processes.
        block: The rows.
        counts: (r,) how many neighbours each has among the centres of this process.
        memory: Bytes that the lists of a part may take.
    """
    table = group.gathered(counts, "telling each other how many are near")
    longest = _by_turn(table, block.counts)
    at, most = 0, max(1, memory // PER_SLOT // group.size)
    while at < len(longest):
        widths, stop = longest[at], at + 1
        while stop < len(longest):
            wider = [max(pair) for pair in zip(widths, longest[stop], strict=True)]
            if max(1, sum(wider)) * (stop + 1 - at) > most:
                break
            widths, stop = wider, stop + 1
        yield Part(*block.part(at, stop), widths)
        at = stop


def _by_turn(table: Tensor, owned: list[int]) -> list[list[int]]:
    """Return (turns, size) how long a list each process has for the first rows of all owners, then the second, ..

    Args:
        table: (size, r) how many neighbours each process has for each row of a block.
        owned: How many of the rows each process owns.
    """
    out = torch.zeros(len(table), max(owned), dtype=table.dtype, device=table.device)
    for part in torch.split(table, owned, dim=1):
        out[:, : part.shape[1]] = torch.maximum(out[:, : part.shape[1]], part)
    longest: list[list[int]] = out.T.tolist()
    return longest
