"""The lists of all processes for the rows that one of them owns, made one in the exact order.

Who is nearest is decided by order values alone as a rule. Where their intervals of error overlap, the stored centres
are fetched from the processes that have them, in rounds of as many as fit, and settled exactly.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
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
from janelia_core.ml._knn.metrics.metric import Metric
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


def _side_by_side(facts: Facts, sending: Sending, parts: list[Tensor], n: int) -> tuple[Tensor, ...]:
    """Return (n, w) of what came from one process after the other, with centres by their numbers among all."""
    widths = sending.widths
    tables = [
        torch.cat(
            [
                part.reshape(n, width)
                for part, width in zip(torch.split(flat, [n * width for width in widths]), widths, strict=True)
            ],
            dim=1,
        )
        for flat in parts
    ]
    local, *more = tables
    starts = torch.tensor(facts.offsets[:-1], device=local.device).repeat_interleave(
        torch.tensor(widths, device=local.device), output_size=sum(widths)
    )
    return torch.where(local < 0, -1, local.long() + starts), *more


class _Turns(NamedTuple):
    """Lists in the order of their values, and who of them is near-tied.

    Attributes:
        listed: (r, w) as they came.
        found: The same in order.
        row: (p,) rows of near-tied centres, ascending.
        number: (p,) the centres.
        turn: (r,) at which turn a row is settled; -1: it needs none.
        n_turns: How many turns there are.
    """

    listed: Tensor
    found: Ordered
    row: Tensor
    number: Tensor
    turn: Tensor
    n_turns: int


def settled(group: Group, facts: Facts, shard: Shard, sending: Sending, k: int, room: int) -> Owned:
    """Wait for lists, and return who is nearest.

    Args:
        group: The processes.
        facts: What they have.
        shard: The centres of this one.
        sending: The lists.
        k: How many places matter.
        room: Bytes that fetched centres may take.
    """
    x, common = sending.round.owned(group.rank), sending.common
    parts = [part.wait() for part in sending.parts]

    def begin() -> tuple[_Turns, list[int]]:
        # Who has centres reads them for all others at once.
        most = max(1, room // group.size // max(1, x.shape[1] * shard.values.element_size()))
        turns = _turns(_side_by_side(facts, sending, parts, len(x)), common.metric, x, k, most)
        return turns, [turns.n_turns]

    turns, counts = group.told("putting lists in order", 1, begin)
    out = turns.found.indices[:, :k].clone()
    kernels = may_serve() and are_loaded(x.dtype, shard.values.dtype, common.metric)
    for number in range(max(count for (count,) in counts)):
        rows = (turns.turn == number).nonzero()[:, 0]
        fetched = fetch(group, facts, shard, functools.partial(_wanted, turns, number))

        def work(rows: Tensor = rows, fetched: Fetched = fetched) -> Tensor:
            found = turns.found.rows(rows)
            return settle(x[rows], fetched, found, k, common.metric, common.in_float64, kernels)[0][:, :k]

        out[rows] = group.together("putting near-ties in order", work)
    return Owned(turns.listed, sending.widths, out)


def _turns(lists: tuple[Tensor, ...], metric: Metric, x: Tensor, k: int, most: int) -> _Turns:
    """Put lists in the order of their values, and share out near-ties to turns of at most so many centres or a row."""
    listed, value, *error = lists
    found = order(listed, value, error[0].double() if error else metric.errors_of(value, x.shape[1]))
    row, number = contested(found, k, metric)
    counts = torch.bincount(row, minlength=len(x))
    turn = torch.where(counts > 0, (counts.cumsum(0) - 1) // most, -1)
    return _Turns(listed, found, row, number, turn, int(turn.max()) + 1 if len(row) else 0)


def _wanted(turns: _Turns, number: int) -> Tensor:
    """Return the near-tied centres of a turn, ascending."""
    wanted: Tensor = torch.unique(turns.number[turns.turn[turns.row] == number])
    return wanted


def fetch(group: Group, facts: Facts, shard: Shard, wanted: Callable[[], Tensor]) -> Fetched:
    """Return stored centres by their ascending numbers among all, each from the process that has it."""
    stage = "asking each other for centres"
    offsets = torch.tensor(facts.offsets, device=shard.values.device)

    def ask() -> tuple[Tensor, list[int]]:
        numbers = wanted()
        return numbers, torch.searchsorted(numbers, offsets).diff().tolist()

    numbers, table = group.told(stage, group.size, ask)
    give, take = table[group.rank], [row[group.rank] for row in table]
    asked = group.exchange(numbers, give, take, stage).wait()
    rows = group.together("reading centres", lambda: picked_rows(shard.values, asked - offsets[group.rank]))
    return Fetched(numbers, group.exchange(rows, take, give, "sending each other centres").wait())


def chosen(owned: Owned) -> tuple[Tensor, Tensor]:
    """Return (r, w) bool: which of the listed are nearest; and at which of them the nearest (r, k) stand."""
    by_number = owned.listed.argsort(dim=1)
    place = torch.searchsorted(owned.listed.gather(1, by_number), owned.nearest.contiguous())
    at = by_number.gather(1, place.clamp(max=max(0, owned.listed.shape[1] - 1)))
    won = torch.zeros_like(owned.listed, dtype=torch.bool)
    return won.scatter_(1, at, owned.nearest >= 0) if owned.nearest.numel() else won, at
