"""A few products compared with float64, once in a process for every kind of tile: bounds hold here, or nothing runs.

Also lists are compared with what they must hold, since instructions of the chip write them.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from janelia_core.ml._knn.screens.triton import launches
from janelia_core.ml._knn.screens.triton.bounds import gamma16
from janelia_core.ml._knn.screens.triton.cost import Settings
from janelia_core.ml._knn.screens.triton.launches import Listed, Packed
from janelia_core.ml._knn.screens.triton.tiles import Tile

_TILES = 2
_KTH = 4


def is_sound(device: torch.device, settings: Settings) -> bool:
    """Tell whether products and lists are what they are taken for."""
    return _is_sound(device, settings.tile, settings.inline, settings.fetched)


@functools.cache
def _is_sound(device: torch.device, tile: Tile, inline: bool, fetched: bool) -> bool:
    settings = Settings(
        tile=tile, edges=(_TILES,), groups=8, biased=False, cap=16, keep=16, parts=1, whole=True, rows=1, again=1,
        kth=1, inline=inline, fetched=fetched,
    )  # fmt: skip
    x, c = _numbers(tile.rows, tile.width, 1).to(device), _numbers(_TILES * tile.ctrs, tile.width, 2).to(device)
    exact = x.double() @ c.double().T
    error = gamma16(tile.width) * x.double().norm(dim=1).amax() * c.double().norm(dim=1).amax()
    right = exact.view(len(x), _TILES, tile.ctrs // 8, 8).amax(dim=2).view(len(x), -1)
    listed, packed = _inputs(x, c, settings)
    stored = torch.full((len(x), 8 * _TILES), torch.nan, dtype=torch.float32, device=device)
    launches.scanned(listed, packed, settings, 0, _TILES, None, stored, True)
    near = ((stored.double() - right).abs() <= error).all()
    listed.thresholds.copy_(stored.sort(dim=1, descending=True).values[:, _KTH - 1])
    launches.scanned(listed, packed, settings, 0, _TILES, None, listed.lists, False)
    return bool(near & _are_listed(stored, listed))


def _are_listed(stored: Tensor, listed: Listed) -> Tensor:
    """Tell whether the groups that reach the thresholds are listed, those alone, in their order, with their maxima."""
    hits = stored >= listed.thresholds[:, None]
    n, device = len(stored), stored.device
    by_list = hits.view(n, _TILES, 8).transpose(1, 2)  # (n, 8, tiles)
    right = (by_list.sum(dim=2) == listed.counts[:, 0]).all()
    slot = by_list.cumsum(dim=2) - 1
    kept = listed.lists[:, 0].gather(2, slot.clamp(min=0)[..., None].expand(-1, -1, -1, 2))
    groups = torch.arange(8 * _TILES, dtype=torch.int32, device=device).view(_TILES, 8).T
    best = stored.view(torch.int32).view(n, _TILES, 8).transpose(1, 2)
    return right & (~by_list | ((kept[..., 1] == groups) & (kept[..., 0] == best))).all()


def _inputs(x: Tensor, c: Tensor, settings: Settings) -> tuple[Listed, Packed]:
    """Return operands whose products are all that counts: no bias, no margin."""
    n, device, f32, i32 = len(x), x.device, torch.float32, torch.int32
    empty = torch.zeros(1, dtype=f32, device=device)
    listed = Listed(
        x,
        torch.zeros(3, n, dtype=f32, device=device),
        torch.zeros(n, dtype=f32, device=device),
        torch.full((n, 1, 8, settings.cap, 2), -1, dtype=i32, device=device),
        torch.zeros(n, 1, 8, dtype=i32, device=device),
        torch.zeros(n, dtype=i32, device=device),
    )
    numbers = torch.zeros(4, len(c), dtype=f32, device=device)
    packed = Packed(c, numbers, torch.zeros(_TILES, 4, dtype=f32, device=device), None, empty.to(i32), empty, empty)
    return listed, packed


def _numbers(rows: int, width: int, seed: int) -> Tensor:
    """Return numbers of both signs and of many magnitudes, some of them subnormal."""
    source = torch.Generator("cpu").manual_seed(seed)
    values = torch.randn(rows, width, generator=source, device="cpu")
    return (values * 2.0 ** torch.randint(-18, 4, (1, width), generator=source, device="cpu")).half()
