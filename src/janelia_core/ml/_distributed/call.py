"""knn among centres in shards: the exchange of a block of rows runs beside the search of the next."""

from __future__ import annotations

import functools
from typing import Literal, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

from janelia_core.ml._distributed.facts import Facts, agreed, common
from janelia_core.ml._distributed.gradients import Blocks, Measured
from janelia_core.ml._distributed.group import Group
from janelia_core.ml._distributed.measured import measured
from janelia_core.ml._distributed.owner import Owned, Sending, received, send, settled
from janelia_core.ml._distributed.rounds import Round, largest_agreed, rounds, rows_at_once
from janelia_core.ml._distributed.shard import Mask, Shard
from janelia_core.ml._knn.distances.distances import result_dtype
from janelia_core.ml._knn.face import checked_count, checked_memory, checked_points
from janelia_core.ml._knn.metrics.mapped import check_columns
from janelia_core.ml._neighbors.found import Neighbors
from janelia_core.ml._neighbors.spelling import check_metric
from janelia_core.ml.index import CenterIndex

RowsAre = Literal["replicated", "sharded"]


class Asked(NamedTuple):
    """The checked arguments of a call."""

    x: Tensor
    ctrs: Tensor | CenterIndex
    values: Tensor
    k: int
    metric: str
    sharded: bool
    mask: Mask | None
    memory: int


def knn(
    x: Tensor,
    ctrs_shard: Tensor | CenterIndex,
    k: int,
    *,
    group: dist.ProcessGroup | None = None,
    rows: RowsAre = "replicated",
    metric: str | None = None,
    mask: Mask | None = None,
    max_memory: int | None = None,
) -> Neighbors:
    """Find the k nearest centres of each row, where each process of a group has some of the centres.

    All processes of the group call it together, with the same k, metric and kind of rows.

    Args:
        x: (n, d) rows on the device of the centres. "replicated": the same on all processes; "sharded": each has rows
            of its own, any number of them.
        ctrs_shard: (n_ctrs of this process, d) its centres, of one dtype on all processes; or a `CenterIndex` of them.
            Centres are numbered through: those of process 0, then those of process 1, and so on. A shard may be empty.
        k: How many to find, at most the number of centres of all processes.
        group: A group of torch.distributed that this process is in, of gloo or NCCL; None: all processes.
        rows: What x is.
        metric: As for `janelia_core.ml.knn`; None: the index's own, else "euclidean".
        mask: Who may be a neighbour: mask(rows, first, last) -> (r, last - first) bool for row numbers of x (of the
            sender, where x is sharded: rows are numbered through as centres are) and centres first .. last - 1, by
            their numbers among all. It is asked about the centres of this process alone.
        max_memory: Bytes of workspace of this process beyond inputs and results, at least a mebibyte; None: what the
            machine allows.

    Returns:
        distances (n, k), indices (n, k) int64 of this process's x: the same bytes as `janelia_core.ml.knn` gives for
        all centres in one tensor, whatever the number of processes and whoever has which centres. distances are
        differentiable in x and ctrs_shard, once: with replicated rows as if the same loss were computed on every
        process, with sharded rows as if the loss were the sum of the processes' losses. backward is a call that all
        processes make.

    Raises:
        TypeError, ValueError: An argument is wrong here, or not the same on all processes.
        DistributedError: Another process failed, or was lost; the message names the stage.

    Source: the design of all-to-all by ranges of rows is that of sample sort (Frazer and McKellar, 1970).
    """
    device = x.device if isinstance(x, Tensor) else torch.device("cpu")
    talk = Group(group, device)
    asked = talk.together(
        "checking arguments", functools.partial(_checked, x, ctrs_shard, k, rows, metric, mask, max_memory)
    )
    facts = agreed(talk, asked.x, asked.values, len(asked.ctrs), asked.k, asked.metric, asked.sharded)
    checked_count("k", asked.k, sum(facts.n_searched), "the number of centres of all processes")
    most = largest_agreed(talk, rows_at_once(facts, asked.x.shape[1], asked.k, asked.memory))
    indices, far = _searched(talk, facts, asked, most)
    return Neighbors(_differentiable(talk, facts, asked, most, indices, far), indices)


def _checked(
    x: Tensor,
    ctrs: Tensor | CenterIndex,
    k: int,
    rows: str,
    metric: str | None,
    mask: Mask | None,
    max_memory: int | None,
) -> Asked:
    values = ctrs.ctrs if isinstance(ctrs, CenterIndex) else ctrs
    checked_points(x, values)
    name = (ctrs.metric if isinstance(ctrs, CenterIndex) else "euclidean") if metric is None else metric
    check_metric(name)
    check_columns(name, x.shape[1], "x")
    if rows not in ("replicated", "sharded"):
        raise ValueError(f"rows must be 'replicated' or 'sharded', got {rows!r}")
    if not (mask is None or callable(mask)):
        raise TypeError(f"mask must be a function of (rows, first, last), got {type(mask).__name__}")
    count, memory = checked_count("k", k), checked_memory(max_memory, x.device)
    return Asked(x, ctrs, values, count, name, rows == "sharded", mask, memory)


def _searched(talk: Group, facts: Facts, asked: Asked, most: int) -> tuple[Tensor, Tensor]:
    """Return indices and distances of the rows of x that are this process's."""
    x, k = asked.x.detach(), asked.k
    shard = Shard(asked.ctrs, asked.metric, asked.memory // 2)
    dtype = result_dtype(x, shard.values)
    indices = torch.full((len(x), k), -1, dtype=torch.int64, device=x.device)
    far = torch.full((len(x), k), torch.inf, dtype=dtype, device=x.device)

    def finish(sending: Sending) -> None:
        mine = sending.round.owned(talk.rank)
        listed, found = received(talk, facts, k, sending, x.shape[1])
        nearest = settled(talk, facts, shard, mine, found, k, sending.common, asked.memory // 4)
        owned = Owned(listed, facts.widths(k), nearest)
        there = measured(talk, shard, sending, owned, asked.metric, dtype, asked.memory // 4)
        _put(talk, sending.round, asked, sum(facts.n_ctrs), (indices, nearest), (far, there))

    before: Sending | None = None
    for round in rounds(talk, x, facts, most, asked.sharded):
        sending = _begun(talk, facts, shard, asked, round)
        if before is not None:
            finish(before)
        before = sending
    if before is not None:
        finish(before)
    return indices, far


def _begun(talk: Group, facts: Facts, shard: Shard, asked: Asked, round: Round) -> Sending:
    """Search a block of rows among the centres of this process, and begin to send what was found."""
    allowed = _of_shard(asked.mask, round, facts.offsets[talk.rank])
    found, frame = talk.together("searching", lambda: (shard.find(round.x, asked.k, allowed), shard.frame(round.x)))
    shared = common(talk, asked.metric, frame)
    lists = talk.together("ordering lists", lambda: shard.lists(round.x, found, shared.metric, shared.in_float64))
    return send(talk, facts, asked.k, round, lists, shared)


def _of_shard(mask: Mask | None, round: Round, first: int) -> Mask | None:
    """Return the mask of the rows of a block and the centres of this process, the first of which has that number."""
    if mask is None:
        return None

    def of_shard(rows: Tensor, start: int, stop: int) -> Tensor:
        return mask(round.numbers[rows], start + first, stop + first)

    return of_shard


def _put(talk: Group, round: Round, asked: Asked, n_ctrs: int, *parts: tuple[Tensor, Tensor]) -> None:
    """Put what is known of the rows that this process owns where it belongs; replicated rows are owned by all."""
    for into, mine in parts:
        if asked.sharded:
            into[round.mine] = mine
        else:
            narrow = torch.int32 if mine.dtype == torch.int64 and n_ctrs < 2**31 else mine.dtype
            gathered = talk.rows_gathered(mine.to(narrow), round.counts, "sending each other answers")
            into[round.mine] = gathered.to(into.dtype)


def _differentiable(talk: Group, facts: Facts, asked: Asked, most: int, indices: Tensor, far: Tensor) -> Tensor:
    """Return distances with their derivatives, where somebody asks for them."""
    if not (torch.is_grad_enabled() and (asked.x.requires_grad or asked.values.requires_grad)):
        return far
    first = facts.offsets[talk.rank]
    blocks = Blocks(talk, facts.n_rows if asked.sharded else [], most, first)
    found: Tensor = Measured.apply(  # type: ignore[no-untyped-call]
        asked.x, asked.values, far, indices, blocks, (asked.metric, asked.memory // 4)
    )
    return found
