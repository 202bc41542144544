"""Distances of the nearest, rounded once where the stored centres are: for who won alone, told by a bit a centre."""

from __future__ import annotations

import torch
from torch import Tensor

from janelia_core.ml._distributed.group import Group
from janelia_core.ml._distributed.owner import Owned, Sending, chosen
from janelia_core.ml._distributed.shard import Shard
from janelia_core.ml._knn.distances.distances import distances

_BITS = (1, 2, 4, 8, 16, 32, 64, 128)


def measured(
    group: Group, shard: Shard, sending: Sending, owned: Owned, metric: str, dtype: torch.dtype, memory: int
) -> Tensor:
    """Return the distances (r, k) of the rows that this process owns, inf where there is no centre."""
    width = sending.lists.indices.shape[1]
    stage = "asking each other for distances"
    won, at, bits = group.together(stage, lambda: _asking(owned))
    give = [_bytes(len(won) * width) for width in owned.widths]
    take = [_bytes(count * width) for count in sending.round.counts]
    raw = group.exchange(bits, give, take, stage).wait()

    def work() -> tuple[Tensor, list[int]]:
        parts = zip(torch.split(raw, take), sending.round.counts, strict=True)
        asked = [_unpacked(part, count, width) for part, count in parts]
        mask = torch.cat(asked)
        wanted = torch.where(mask, sending.lists.indices, -1)
        far = distances(sending.round.x, shard.values, wanted, metric, memory)
        return far.to(dtype)[mask], [int(part.sum()) for part in asked]

    mine, counts = group.together("measuring distances", work)
    parts = torch.split(won, owned.widths, dim=1)
    coming = group.exchange(mine, counts, [int(part.sum()) for part in parts], "sending each other distances").wait()

    def place() -> Tensor:
        table = torch.full(won.shape, torch.inf, dtype=dtype, device=won.device)
        start = 0
        for part, into in zip(parts, torch.split(table, owned.widths, dim=1), strict=True):
            count = int(part.sum())
            into[part] = coming[start : start + count]
            start += count
        return table.gather(1, at).masked_fill_(owned.nearest < 0, torch.inf)

    return group.together("putting distances in their places", place)


def _asking(owned: Owned) -> tuple[Tensor, Tensor, Tensor]:
    """Return who of the listed is nearest, where the nearest stand, and the former as bits, process by process."""
    won, at = chosen(owned)
    return won, at, torch.cat([_packed(part) for part in torch.split(won, owned.widths, dim=1)])


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
