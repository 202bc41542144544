"""radius among centres in shards: who is within is decided where the centres are, the order by who owns the row."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

from janelia_core.ml._distributed.rounds import PER_SLOT, Round, largest_agreed, rounds, rows_at_once
from janelia_core.ml._distributed.session import RowsAre, Session, opened
from janelia_core.ml._neighbors.radius.found import RadiusNeighbors
from janelia_core.ml._neighbors.radius.radii import checked_radii
from janelia_core.ml.index import CenterIndex

_EXPECTED = 16  # neighbours of a row, before anybody knows how many there are
_STAGE = "sending each other answers"


class Found(NamedTuple):
    """How many neighbours some rows have (r,), who they are and how far away (p,), row after row."""

    counts: Tensor
    indices: Tensor
    far: Tensor


def radius(
    x: Tensor,
    ctrs_shard: Tensor | CenterIndex,
    r: float,
    *,
    group: dist.ProcessGroup | None = None,
    rows: RowsAre = "replicated",
    metric: str | None = None,
    max_memory: int | None = None,
) -> RadiusNeighbors:
    """Find all centres within r of each row, where each process of a group has some of the centres.

    Args:
        x: (n, d) rows, as for `knn` here.
        ctrs_shard: The centres of this process, as there.
        r: The radius, one number, the same on all processes; a centre at that very distance belongs.
        group: As there.
        rows: As there.
        metric: As there.
        max_memory: Bytes of workspace of this process beyond inputs and results; more where the neighbours of a single
            row do not fit.

    Returns:
        What `janelia_core.ml.radius` gives for all centres in one tensor, byte for byte, for the rows that are this
        process's: offsets (n + 1,), indices (p,), distances (p,), nearest first, ties by number. distances are
        differentiable as those of `knn` here are.

    Raises:
        TypeError, ValueError: An argument is wrong here, or not the same on all processes.
        DistributedError: Another process failed, or was lost; the message names the stage.
    """
    call = opened(x, ctrs_shard, 1, group, rows, metric, max_memory)
    _agree_on(call, r)
    most = largest_agreed(call.group, rows_at_once(call.facts, x.shape[1], _EXPECTED, call.asked.memory))
    found = [_of_block(call, r, block) for block in _blocks(call, most)]
    counts, indices, far = (torch.cat(column) for column in zip(_nothing(call), *found, strict=True))
    offsets = torch.nn.functional.pad(counts.cumsum(0), (1, 0))
    if torch.is_grad_enabled() and (x.requires_grad or call.asked.values.requires_grad):
        row = torch.repeat_interleave(torch.arange(len(counts), device=x.device), counts, output_size=len(indices))
        n_pairs = call.group.gathered(torch.tensor(len(row)), _STAGE).tolist() if call.asked.sharded else []
        far = call.differentiable(x[row], indices[:, None], far[:, None], n_pairs, most)[:, 0]
    return RadiusNeighbors(offsets, indices, far)


def _agree_on(call: Session, r: float) -> None:
    """Check the radius, here and everywhere."""
    x = call.asked.x
    mine = call.group.together("checking the radius", lambda: checked_radii(r, x[:0], x[:0], call.asked.metric))
    if mine.ndim != 1 or isinstance(r, Tensor):
        raise TypeError(f"r must be one number, got {type(r).__name__}")
    others = call.group.gathered(torch.tensor(float(r), dtype=torch.float64), "telling each other the radius").tolist()
    if len(set(others)) > 1:
        raise ValueError(f"r must be the same on all processes, got {', '.join(map(str, sorted(set(others))))}")


def _blocks(call: Session, most: int) -> Iterator[Round]:
    return rounds(call.group, call.asked.x.detach(), call.facts, most, call.asked.sharded)


def _nothing(call: Session) -> Found:
    none = torch.empty(0, dtype=torch.int64, device=call.asked.x.device)
    return Found(none, none, torch.empty(0, dtype=call.dtype, device=none.device))


def _of_block(call: Session, r: float, block: Round) -> Found:
    """Return who is near the rows of a block that this process is to know: those that it owns, or all."""
    here = call.group.together("searching", lambda: call.shard.within(block.x, r))
    longest = here.counts.max() if len(block.x) else torch.tensor(0)
    widths = call.group.gathered(longest, "telling each other how many are near").tolist()
    row = PER_SLOT * call.group.size * max(1, sum(widths))
    at_once = largest_agreed(call.group, max(1, call.asked.memory // 4 // row))
    parts = []
    for start in range(0, max(block.counts), at_once):
        some, which = block.part(start, start + at_once)
        mine = _padded(here, which, widths[call.group.rank])
        nearest, far = call.answer(call.sent(some, widths, mine), sum(widths))
        there = nearest >= 0
        parts.append(Found(there.sum(dim=1), nearest[there], far[there]))
    owned = Found(*(torch.cat(column) for column in zip(_nothing(call), *parts, strict=True)))
    return owned if call.asked.sharded else _of_all(call, owned, block.counts)


def _padded(here: RadiusNeighbors, rows: Tensor, width: int) -> Tensor:
    """Return who of this process is near some rows (r, width), -1 behind them."""
    slots = torch.arange(width, device=rows.device)
    there = slots < here.counts[rows, None]
    out = torch.full(there.shape, -1, dtype=torch.int64, device=rows.device)
    out[there] = here.indices[(here.offsets[rows, None] + slots)[there]]
    return out


def _of_all(call: Session, owned: Found, n_rows: list[int]) -> Found:
    """Return what all processes found of their rows, one process's after the other's."""
    counts = call.group.rows_gathered(owned.counts, n_rows, _STAGE)
    n_pairs = [int(part.sum()) for part in torch.split(counts, n_rows)]
    indices = call.group.rows_gathered(call.narrow(owned.indices), n_pairs, _STAGE)
    return Found(counts, indices.long(), call.group.rows_gathered(owned.far, n_pairs, _STAGE))
