"""knn among centres in shards: the exchange of a block of rows runs beside the search of the next."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor

from janelia_core.ml._distributed.asked import RowsAre
from janelia_core.ml._distributed.owner import Sending
from janelia_core.ml._distributed.rounds import Round, rounds, rows_at_once
from janelia_core.ml._distributed.session import Session, opened
from janelia_core.ml._distributed.shard import Mask
from janelia_core.ml._neighbors.found import Neighbors
from janelia_core.ml.index import CenterIndex


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
        k: How many to find. Where all processes together have fewer centres, the rest is filled up with -1 and inf.
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
    call = opened(x, ctrs_shard, k, group, rows, metric, max_memory, mask)
    most = rows_at_once(call.facts, x.shape[1], k)
    indices, far = call.group.together("making room for answers", lambda: _nobody(call))
    _search(call, mask, most, (indices, far))
    n_rows = call.facts.n_rows if call.asked.sharded else []
    found = call.group.together(
        "handing on what was found", lambda: call.differentiable(call.asked.x, indices, far, n_rows, most)
    )
    return Neighbors(found, indices)


def _nobody(call: Session) -> tuple[Tensor, Tensor]:
    """Return indices and distances of rows that have no neighbour."""
    shape, device = (len(call.asked.x), call.asked.k), call.asked.x.device
    none = torch.full(shape, -1, dtype=torch.int64, device=device)
    return none, torch.full(shape, torch.inf, dtype=call.dtype, device=device)


def _search(call: Session, mask: Mask | None, most: int, answers: tuple[Tensor, Tensor]) -> None:
    """Fill in indices and distances of the rows of x that are this process's, where there are centres."""
    k = min(call.asked.k, sum(call.facts.n_searched))
    if k == 0:
        return
    indices, far = (answer[:, :k] for answer in answers)

    def finish(sending: Sending) -> None:
        nearest, there = call.answer(sending, k)
        _put(call, sending.round, (indices, call.narrow(nearest)), (far, there))

    before: Sending | None = None
    for round in rounds(call.group, call.asked.x.detach(), call.facts, most, call.asked.sharded):
        sending = _begun(call, mask, round)
        if before is not None:
            finish(before)
        before = sending
    if before is not None:
        finish(before)


def _begun(call: Session, mask: Mask | None, round: Round) -> Sending:
    """Search a block of rows among the centres of this process, and begin to send what was found."""
    allowed = _of_shard(mask, round, call.first)
    found, shared = call.searched(round, lambda: call.shard.find(round.x, call.asked.k, allowed))
    return call.sent(round, call.facts.widths(call.asked.k), lambda: found, shared)


def _of_shard(mask: Mask | None, round: Round, first: int) -> Mask | None:
    """Return the mask of the rows of a block and the centres of this process, the first of which has that number."""
    if mask is None:
        return None

    def of_shard(rows: Tensor, start: int, stop: int) -> Tensor:
        return mask(round.numbers[rows], start + first, stop + first)

    return of_shard


def _put(call: Session, round: Round, *parts: tuple[Tensor, Tensor]) -> None:
    """Put what is known of the rows that this process owns where it belongs; replicated rows are owned by all."""
    for into, mine in parts:
        if not call.asked.sharded:
            mine = call.group.rows_gathered(mine, round.counts, "sending each other answers")
        into[round.mine] = mine.to(into.dtype)
