"""What a call has at hand on every process: checked arguments, the group, and what the others have."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from janelia_core.ml._distributed.asked import Asked, RowsAre, checked
from janelia_core.ml._distributed.facts import N_SEEN, Common, Facts, agreed, common, seen
from janelia_core.ml._distributed.gradients import Blocks, Measured
from janelia_core.ml._distributed.group import Group
from janelia_core.ml._distributed.measured import measured
from janelia_core.ml._distributed.owner import Sending, send, settled
from janelia_core.ml._distributed.rounds import Round
from janelia_core.ml._distributed.shard import Shard
from janelia_core.ml._knn.distances.distances import result_dtype
from janelia_core.ml.index import CenterIndex

T = TypeVar("T")


@dataclass(frozen=True)
class Session:
    """A call on this process.

    Attributes:
        group: All processes.
        asked: The arguments.
        facts: What all processes have.
        shard: The centres of this one.
    """

    group: Group
    asked: Asked
    facts: Facts
    shard: Shard

    @property
    def dtype(self) -> torch.dtype:
        """Of distances."""
        return result_dtype(self.asked.x, self.asked.values)

    @property
    def first(self) -> int:
        """The number, among all, of this process's first centre."""
        return self.facts.offsets[self.group.rank]

    def searched(self, round: Round, search: Callable[[], T]) -> tuple[T, Common]:
        """Search a block of rows; return what was found, and what order values have in common on all processes."""
        found, table = self.group.told("searching", N_SEEN, lambda: (search(), seen(self.shard.frame(round.x))))
        return found, common(self.asked.metric, table)

    def sent(self, round: Round, widths: list[int], found: Callable[[], Tensor], shared: Common) -> Sending:
        """Begin to send what was found (r, width of this process) for a block of rows, in the order of its values."""
        lists = self.group.together(
            "ordering lists", lambda: self.shard.lists(round.x, found(), shared.metric, shared.in_float64)
        )
        return send(self.group, max(self.facts.n_ctrs), round, widths, lists, shared)

    def answer(self, sending: Sending, k: int) -> tuple[Tensor, Tensor]:
        """Return the first k (r, k) of the lists for the rows that this process owns, and their distances."""
        share = self.facts.memory // 4
        owned = settled(self.group, self.facts, self.shard, sending, k, share)
        return owned.nearest, measured(self.group, self.shard, sending, owned, self.asked.metric, self.dtype, share)

    def narrow(self, numbers: Tensor) -> Tensor:
        """Return numbers of centres in what holds them all."""
        return numbers.to(torch.int32 if sum(self.facts.n_ctrs) < 2**31 else torch.int64)

    def differentiable(self, x: Tensor, indices: Tensor, far: Tensor, n_rows: list[int], most: int) -> Tensor:
        """Return distances (n, k) of rows x with their derivatives, where somebody asks for them.

        Args:
            x: (n, d) rows of this process.
            indices: (n, k) who is as far from them.
            far: (n, k) the distances.
            n_rows: How many rows each process has, where x is sharded; else nothing.
            most: How many rows of a process may go round at a time.
        """
        if not (self.asked.of_x or self.asked.of_ctrs):
            return far
        blocks = Blocks(self.group, n_rows, most, self.first)
        how = self.asked.metric, self.facts.memory // 4
        found: Tensor = Measured.apply(x, self.asked.values, far, indices, blocks, how)  # type: ignore[no-untyped-call]
        return found


def opened(
    x: Tensor,
    ctrs: Tensor | CenterIndex,
    k: int,
    group: dist.ProcessGroup | None,
    rows: RowsAre,
    metric: str | None,
    max_memory: int | None,
    mask: object = None,
) -> Session:
    """Check the arguments of all processes, and learn what the others have."""
    talk = Group(group, x.device if isinstance(x, Tensor) else torch.device("cpu"))

    def check() -> Asked:
        _check_mask(mask)
        return checked(x, ctrs, k, rows, metric, max_memory)

    asked, facts = agreed(talk, check)
    return Session(talk, asked, facts, Shard(asked.ctrs, asked.metric, facts.memory // 2))


def _check_mask(mask: object) -> None:
    if not (mask is None or callable(mask)):
        raise TypeError(f"mask must be a function of (rows, first, last), got {type(mask).__name__}")
