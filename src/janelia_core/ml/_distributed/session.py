"""What a call has at hand on every process: checked arguments, the group, and what the others have."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

from janelia_core.ml._distributed.facts import Facts, agreed, common
from janelia_core.ml._distributed.gradients import Blocks, Measured
from janelia_core.ml._distributed.group import Group
from janelia_core.ml._distributed.measured import measured
from janelia_core.ml._distributed.owner import Owned, Sending, received, send, settled
from janelia_core.ml._distributed.rounds import Round
from janelia_core.ml._distributed.shard import Shard
from janelia_core.ml._knn.distances.distances import result_dtype
from janelia_core.ml._knn.face import checked_count, checked_memory, checked_points
from janelia_core.ml._knn.metrics.mapped import check_columns
from janelia_core.ml._neighbors.spelling import check_metric
from janelia_core.ml.index import CenterIndex

RowsAre = Literal["replicated", "sharded"]


class Asked(NamedTuple):
    """Checked arguments of this process."""

    x: Tensor
    ctrs: Tensor | CenterIndex
    values: Tensor
    k: int
    metric: str
    sharded: bool
    memory: int


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

    def sent(self, round: Round, widths: list[int], found: Tensor) -> Sending:
        """Begin to send what was found (r, width of this process) for a block of rows, in the order of its values."""
        frame = self.group.together("looking at centres", lambda: self.shard.frame(round.x))
        shared = common(self.group, self.asked.metric, frame)
        lists = self.group.together(
            "ordering lists", lambda: self.shard.lists(round.x, found, shared.metric, shared.in_float64)
        )
        return send(self.group, max(self.facts.n_ctrs), round, widths, lists, shared)

    def answer(self, sending: Sending, k: int) -> tuple[Tensor, Tensor]:
        """Return the first k (r, k) of the lists for the rows that this process owns, and their distances."""
        share = self.asked.memory // 4
        mine = sending.round.owned(self.group.rank)
        listed, found = received(self.group, self.facts, sending, mine.shape[1])
        nearest = settled(self.group, self.facts, self.shard, mine, found, k, sending.common, share)
        owned = Owned(listed, sending.widths, nearest)
        return nearest, measured(self.group, self.shard, sending, owned, self.asked.metric, self.dtype, share)

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
        if not (torch.is_grad_enabled() and (self.asked.x.requires_grad or self.asked.values.requires_grad)):
            return far
        blocks = Blocks(self.group, n_rows, most, self.first)
        how = self.asked.metric, self.asked.memory // 4
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
) -> Session:
    """Check the arguments of all processes, and learn what the others have."""
    talk = Group(group, x.device if isinstance(x, Tensor) else torch.device("cpu"))
    check = functools.partial(_checked, x, ctrs, k, rows, metric, max_memory)
    asked = talk.together("checking arguments", check)
    facts = agreed(talk, asked.x, asked.values, len(asked.ctrs), asked.k, asked.metric, asked.sharded)
    return Session(talk, asked, facts, Shard(asked.ctrs, asked.metric, asked.memory // 2))


def _checked(
    x: Tensor, ctrs: Tensor | CenterIndex, k: int, rows: str, metric: str | None, max_memory: int | None
) -> Asked:
    values = ctrs.ctrs if isinstance(ctrs, CenterIndex) else ctrs
    checked_points(x, values)
    name = (ctrs.metric if isinstance(ctrs, CenterIndex) else "euclidean") if metric is None else metric
    check_metric(name)
    check_columns(name, x.shape[1], "x")
    if rows not in ("replicated", "sharded"):
        raise ValueError(f"rows must be 'replicated' or 'sharded', got {rows!r}")
    count, memory = checked_count("k", k), checked_memory(max_memory, x.device)
    return Asked(x, ctrs, values, count, name, rows == "sharded", memory)
