"""Distances of the nearest, rounded once where the stored centres are: for who won alone, told by a bit a centre."""

from __future__ import annotations

import torch
from torch import Tensor

from janelia_core.ml._distributed.group import Group
from janelia_core.ml._distributed.owner import Owned, Sending, chosen, place_by_number
from janelia_core.ml._distributed.shard import Shard
from janelia_core.ml._knn.distances.distances import distances

_BITS = (1, 2, 4, 8, 16, 32, 64, 128)


def measured(
    group: Group, shard: Shard, sending: Sending, owned: Owned, metric: str, dtype: torch.dtype, memory: int
) -> Tensor:
    """Return the distances (r, k) of the rows that this process owns, inf where there is no centre."""
    won, width = chosen(owned), sending.lists.indices.shape[1]
    parts = torch.split(won, owned.widths, dim=1)
    bits = torch.cat([_packed(part) for part in parts])
    give = [_bytes(part.numel()) for part in parts]
    take = [_bytes(count * width) for count in sending.round.counts]
    stage = "asking each other for distances"
    raw = group.exchange(bits, give, take, stage).wait()
    asked = torch.cat(
        [
            _unpacked(part, count, width)
            for part, count in zip(torch.split(raw, take), sending.round.counts, strict=True)
        ]
    )

    def work() -> Tensor:
        wanted = torch.where(asked, sending.lists.indices, -1)
        return distances(sending.round.x, shard.values, wanted, metric, memory).to(dtype)[asked]

    mine = group.together("measuring distances", work)
    counts = [int(part.sum()) for part in torch.split(asked, sending.round.counts)]
    coming = group.exchange(mine, counts, [int(part.sum()) for part in parts], "sending each other distances").wait()
    table = torch.full(won.shape, torch.inf, dtype=dtype, device=won.device)
    at = 0
    for part, into in zip(parts, torch.split(table, owned.widths, dim=1), strict=True):
        count = int(part.sum())
        into[part] = coming[at : at + count]
        at += count
    found = place_by_number(owned, table)
    return found.masked_fill(owned.nearest < 0, torch.inf)


def _bytes(bits: int) -> int:
    return -(-bits // 8)


def _packed(flags: Tensor) -> Tensor:
    """Return bools (r, w) as bytes."""
    flat = flags.reshape(-1)
    flat = torch.nn.functional.pad(flat, (0, -len(flat) % 8)).reshape(-1, 8)
    return (flat * torch.tensor(_BITS, dtype=torch.uint8, device=flat.device)).sum(dim=1, dtype=torch.uint8)


def _unpacked(raw: Tensor, n: int, width: int) -> Tensor:
    """Return bools (n, width) from bytes."""
    flags = raw[:, None].bitwise_and(torch.tensor(_BITS, dtype=torch.uint8, device=raw.device)) != 0
    return flags.reshape(-1)[: n * width].reshape(n, width)
