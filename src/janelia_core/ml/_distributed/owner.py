"""The lists of all processes for the rows that one of them owns, made one in the exact order.

Who is nearest is decided by order values alone as a rule. Where their intervals of error overlap, the stored centres
are fetched from the processes that have them, in rounds of as many as fit, and settled exactly.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from janelia_core.ml._distributed.facts import Common, Facts
from janelia_core.ml._distributed.group import Coming, Group
from janelia_core.ml._distributed.rounds import Round
from janelia_core.ml._distributed.shard import Lists, Shard
from janelia_core.ml._knn.contract import Ordered
from janelia_core.ml._knn.data.fetched import Fetched
from janelia_core.ml._knn.data.points import picked_rows
from janelia_core.ml._knn.rows import picked
from janelia_core.ml._knn.settle.settle import contested, settle
from janelia_core.ml._knn.verify.verify import are_loaded, order
from janelia_core.ml._runtime.kernels import may_serve


class Sending(NamedTuple):
    """The lists of a round on their way to the owners of its rows.

    Attributes:
        round: The rows.
        widths: How many centres each process lists for a row.
        lists: What this process found and sent.
        common: What their values have in common.
        parts: What comes: row numbers of shards, values, and errors where no bound tells them.
    """

    round: Round
    widths: list[int]
    lists: Lists
    common: Common
    parts: tuple[Coming, ...]


class Owned(NamedTuple):
    """The rows that this process owns.

    Attributes:
        listed: (r, w) int64 numbers among all centres, process after process; -1 in empty slots.
        widths: How many of these slots each process filled.
        nearest: (r, k) the first k of them in the exact order.
    """

    listed: Tensor
    widths: list[int]
    nearest: Tensor


def send(group: Group, n_ctrs: int, round: Round, widths: list[int], lists: Lists, common: Common) -> Sending:
    """Begin to send lists to the owners of their rows: 12 bytes a centre, or 16.

    Args:
        group: The processes.
        n_ctrs: Rows of the largest shard.
        round: The rows.
        widths: How many centres each process lists for a row.
        lists: This process's, in the order of their values.
        common: What values have in common.
    """
    give = [count * widths[group.rank] for count in round.counts]
    take = [round.counts[group.rank] * width for width in widths]
    sent = [lists.indices.to(torch.int32 if n_ctrs < 2**31 else torch.int64), lists.value]
    if not common.metric.uniform:
        sent.append(_rounded_up(lists.error))
    stage = "sending each other lists"
    coming = tuple(group.exchange(part.reshape(-1), give, take, stage) for part in sent)
    return Sending(round, widths, lists, common, coming)


def _rounded_up(error: Tensor) -> Tensor:
    """Return errors as float32, none smaller than it was."""
    narrow = error.to(torch.float32)
    return torch.where(narrow.double() < error, torch.nextafter(narrow, torch.full_like(narrow, torch.inf)), narrow)


def received(group: Group, facts: Facts, sending: Sending, d: int) -> tuple[Tensor, Ordered]:
    """Wait for the lists; return the numbers (r, w) among all centres as they came, and the same in order."""
    n, widths = sending.round.counts[group.rank], sending.widths
    local, value, *error = (_side_by_side(part.wait(), n, widths) for part in sending.parts)
    starts = torch.tensor(facts.offsets[:-1], device=local.device).repeat_interleave(
        torch.tensor(widths, device=local.device), output_size=sum(widths)
    )
    listed = torch.where(local < 0, -1, local.long() + starts)
    errors = error[0].double() if error else sending.common.metric.errors_of(value, d)
    return listed, order(listed, value, errors)


def _side_by_side(flat: Tensor, n: int, widths: list[int]) -> Tensor:
    parts = torch.split(flat, [n * width for width in widths])
    return torch.cat([part.reshape(n, width) for part, width in zip(parts, widths, strict=True)], dim=1)


def settled(
    group: Group, facts: Facts, shard: Shard, x: Tensor, found: Ordered, k: int, common: Common, room: int
) -> Tensor:
    """Return the first k (r, k) of lists in the exact order.

    Args:
        group: The processes.
        facts: What they have.
        shard: The centres of this one.
        x: (r, d) the rows that this process owns.
        found: Their lists, in the order of their values.
        k: How many places matter.
        common: What the values have in common.
        room: Bytes that fetched centres may take.
    """
    row, numbers = contested(found, k, common.metric)
    most = max(found.indices.shape[1], room // max(1, x.shape[1] * shard.values.element_size()))
    ends = torch.bincount(row, minlength=len(x)).cumsum(0)
    turn = (ends - 1).clamp(min=0) // most  # of each row; one row's members may belong to the turn before as well
    turns = int(turn[-1]) + 1 if len(row) else 0
    turns = int(group.gathered(torch.tensor(turns), "asking each other for centres").max())
    out = found.indices[:, :k].clone()
    kernels = may_serve() and are_loaded(x.dtype, shard.values.dtype, common.metric)
    for number in range(turns):
        rows = (turn == number).nonzero()[:, 0]
        wanted = torch.unique(numbers[turn[row] == number])
        fetched = fetch(group, facts, shard, wanted)

        def work(rows: Tensor = rows, fetched: Fetched = fetched) -> Tensor:
            part = settle(x[rows], fetched, found.rows(rows), k, common.metric, common.in_float64, kernels)
            return part[0][:, :k]

        out[rows] = group.together("putting near-ties in order", work)
    return out


def fetch(group: Group, facts: Facts, shard: Shard, wanted: Tensor) -> Fetched:
    """Return stored centres by their ascending numbers among all, each from the process that has it."""
    offsets = torch.tensor(facts.offsets, device=wanted.device)
    give = torch.searchsorted(wanted, offsets).diff().tolist()
    stage = "asking each other for centres"
    take = group.gathered(torch.tensor(give), stage)[:, group.rank].tolist()
    asked = group.exchange(wanted, give, take, stage).wait() - int(offsets[group.rank])
    rows = picked_rows(shard.values, asked.to(shard.values.device))
    return Fetched(wanted, group.exchange(rows, take, give, "sending each other centres").wait())


def chosen(owned: Owned) -> Tensor:
    """Return (r, w) bool: which of the listed are nearest."""
    by_number = owned.listed.argsort(dim=1)
    place = torch.searchsorted(owned.listed.gather(1, by_number), owned.nearest.contiguous())
    at = by_number.gather(1, place.clamp(max=max(0, owned.listed.shape[1] - 1)))
    out = torch.zeros_like(owned.listed, dtype=torch.bool)
    return out.scatter_(1, at, owned.nearest >= 0) if owned.nearest.numel() else out


def place_by_number(owned: Owned, values: Tensor) -> Tensor:
    """Return what stands at the nearest (r, k) of what stands at the listed (r, w)."""
    return picked(owned.listed, values, owned.nearest)
