"""Boxes over centres: made once, of the centres alone, on their device, by a fixed number of operations."""

from __future__ import annotations

import contextlib
from typing import NamedTuple

import torch
from torch import Tensor

from janelia_core.ml._knn.data.points import Points
from janelia_core.ml._knn.screens.boxes.kernels.arrange import arrange, box_leaves
from janelia_core.ml._knn.screens.boxes.kernels.curve import place_on_curve
from janelia_core.ml._knn.screens.boxes.values import Ground, at_infinity, bits_of_place, ground_of, placed, scale_of

LEAF = FAN = 32
_BLOCK = 256


class Level(NamedTuple):
    """Boxes of one level, a multiple of FAN of them; those that fill up hold nothing.

    Attributes:
        low: (d, nodes) float32.
        high: (d, nodes) float32.
    """

    low: Tensor
    high: Tensor

    @property
    def nodes(self) -> int:
        """How many there are."""
        return self.low.shape[1]


class Boxes(NamedTuple):
    """Centres along the curve, in leaves, these in nodes, and these in nodes again.

    Attributes:
        centres: (d, room) float32, infinite behind the last.
        numbers: (room,) int32, what they are called.
        places: (n,) int64, ascending: where they lie on the curve.
        levels: The leaves, and two levels above them.
        ground: Where the centres lie.
        lacks: () float64, the most that the z of a centre lack; None: nothing.
    """

    centres: Tensor
    numbers: Tensor
    places: Tensor
    levels: tuple[Level, ...]
    ground: Ground
    lacks: Tensor | None

    @property
    def nbytes(self) -> int:
        """What is held."""
        boxes = sum(2 * level.low.nbytes for level in self.levels)
        return self.centres.nbytes + self.numbers.nbytes + self.places.nbytes + boxes


def on(device: torch.device) -> contextlib.AbstractContextManager[object]:
    """Return in what kernels are launched: they go to the current device, wherever tensors are."""
    return torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext()


def up_to(n: int, step: int) -> int:
    """Return the least multiple of step that is no less than n, at least one step."""
    return max(1, -(-n // step)) * step


def places_of(z: Tensor, ground: Ground) -> Tensor:
    """Return where points (n, d) float32 lie on the curve, (n,) int64."""
    n, d = z.shape
    places = torch.empty(n, dtype=torch.int64, device=z.device)
    scale, bits = scale_of(ground, d), bits_of_place(d)
    with on(z.device):
        place_on_curve[(-(-n // _BLOCK),)](z, ground.low, scale, places, n, D=d, BITS=bits, BLOCK=_BLOCK)
    return places


def arranged(z: Tensor, order: Tensor, room: int, filler: float) -> Tensor:
    """Return (d, room): points (n, d) in that order, coordinate by coordinate, and filler behind them."""
    n, d = z.shape
    out = torch.empty(d, room, dtype=torch.float32, device=z.device)
    with on(z.device):
        arrange[(-(-room // _BLOCK),)](z, order, out, n, room, filler, D=d, BLOCK=_BLOCK)
    return out


def plant(ctrs: Points) -> Boxes:
    """Put centres into boxes."""
    values = ctrs.block(0, len(ctrs))
    ground = ground_of(values)
    z, lacks = at_infinity(placed(values, ground.middle), ground.reach)
    places, order = places_of(z, ground).sort(stable=True)
    nodes = up_to(-(-len(z) // LEAF), FAN)
    room = nodes * LEAF
    centres = arranged(z, order, room, torch.inf)
    numbers = torch.nn.functional.pad(ctrs.row_numbers(order).to(torch.int32), (0, room - len(z)))
    low, high = (torch.empty(ctrs.d, nodes, dtype=torch.float32, device=z.device) for _ in range(2))
    with on(z.device):
        box_leaves[(-(-nodes // 8),)](centres, low, high, room, nodes, D=ctrs.d, LEAF=LEAF, BLOCK=8)
    levels = [Level(low, high)]
    for _ in range(2):
        levels.append(_above(levels[-1]))
    return Boxes(centres, numbers, places, tuple(levels), ground, lacks)


def _above(level: Level) -> Level:
    nodes = level.nodes // FAN
    more = up_to(nodes, FAN) - nodes
    low = level.low.view(-1, nodes, FAN).amin(dim=2)
    high = level.high.view(-1, nodes, FAN).amax(dim=2)
    pad = torch.nn.functional.pad
    return Level(pad(low, (0, more), value=torch.inf), pad(high, (0, more), value=-torch.inf))
