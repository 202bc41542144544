"""radius among centres in shards: who is within is decided where the centres are, the order by who owns the row."""

from __future__ import annotations

import functools
import struct
from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

from janelia_core.ml._distributed.asked import RowsAre
from janelia_core.ml._distributed.near import parts
from janelia_core.ml._distributed.rounds import Round, rounds, rows_at_once
from janelia_core.ml._distributed.session import Session, opened
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
    most = rows_at_once(call.facts, x.shape[1], _EXPECTED)
    blocks = rounds(call.group, x.detach(), call.facts, most, call.asked.sharded)
    found = [_of_block(call, r, block) for block in blocks]
    counts, indices, far = (torch.cat(column) for column in zip(_nothing(call), *found, strict=True))
    offsets = torch.nn.functional.pad(counts.cumsum(0), (1, 0))
    n_pairs = call.group.gathered(offsets[-1], _STAGE).tolist() if call.asked.sharded else []

    def differentiable() -> Tensor:
        if not (call.asked.of_x or call.asked.of_ctrs):
            return far
        row = torch.repeat_interleave(torch.arange(len(counts), device=x.device), counts, output_size=len(indices))
        return call.differentiable(x[row], indices[:, None], far[:, None], n_pairs, most)[:, 0]

    return RadiusNeighbors(offsets, indices, call.group.together("handing on what was found", differentiable))


def _agree_on(call: Session, r: float) -> None:
    """Check the radius, here and everywhere."""

    def check() -> tuple[None, list[int]]:
        x = call.asked.x
        if isinstance(r, Tensor) or checked_radii(r, x[:0], x[:0], call.asked.metric).ndim != 1:
            raise TypeError(f"r must be one number, got {type(r).__name__}")
        return None, list(struct.unpack("<q", struct.pack("<d", float(r))))

    _, table = call.group.told("checking the radius", 1, check)
    told = {struct.unpack("<d", struct.pack("<q", bits))[0] for (bits,) in table}
    if len(told) > 1:
        raise ValueError(f"r must be the same on all processes, got {', '.join(map(str, sorted(told)))}")


def _nothing(call: Session) -> Found:
    none = torch.empty(0, dtype=torch.int64, device=call.asked.x.device)
    return Found(none, none, torch.empty(0, dtype=call.dtype, device=none.device))


def _of_block(call: Session, r: float, block: Round) -> Found:
    """Return who is near the rows of a block that this process is to know: those that it owns, or all."""
    here, shared = call.searched(block, lambda: call.shard.within(block.x, r))
    found = []
    for part in parts(call.group, block, here.counts, call.facts.memory // 4):
        list_ = functools.partial(_padded, here, part.which, part.widths[call.group.rank])
        nearest, far = call.answer(call.sent(part.round, part.widths, list_, shared), sum(part.widths))
        there = nearest >= 0
        found.append(Found(there.sum(dim=1), nearest[there], far[there]))
    owned = Found(*(torch.cat(column) for column in zip(_nothing(call), *found, strict=True)))
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
