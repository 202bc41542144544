"""Boxes over centres: made once, of the centres alone, on their device, by a fixed number of operations."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from janelia_core.ml._knn.data.points import Points
from janelia_core.ml._knn.screens.boxes.kernels.arrange import arrange, box_leaves
from janelia_core.ml._knn.screens.boxes.kernels.curve import place_on_curve
from janelia_core.ml._knn.screens.boxes.shapes import LEAF
from janelia_core.ml._knn.screens.boxes.values import Ground, at_infinity, bits_of_place, ground_of, placed, scale_of
from janelia_core.ml._runtime.device_kernels import launching

FAN = LEAF
_BLOCK = 256


class Boxes(NamedTuple):
    """Centres along the curve, in leaves, these in nodes, and these in nodes again.

    Attributes:
        centres: (d, room) float32, infinite behind the last.
        numbers: (room,) int32, what they are called.
        places: (n,) int64, ascending: where they lie on the curve.
        low: (d, nodes) float32, the corners of boxes: of leaves, of the nodes above them, and of the top ones.
        high: (d, nodes) float32.
        levels: How many these are, each a multiple of FAN; those that fill up hold nothing.
        ground: Where the centres lie.
        lacks: () float64, the most that the z of a centre lack; None: nothing.
    """

    centres: Tensor
    numbers: Tensor
    places: Tensor
    low: Tensor
    high: Tensor
    levels: tuple[int, int, int]
    ground: Ground
    lacks: Tensor | None

    @property
    def nbytes(self) -> int:
        """What is held."""
        parts = (self.centres, self.numbers, self.places, self.low, self.high)
        return sum(part.nbytes for part in parts)


def up_to(n: int, step: int) -> int:
    """Return the least multiple of step that is no less than n, at least one step."""
    return max(1, -(-n // step)) * step


def places_of(z: Tensor, ground: Ground) -> Tensor:
    """Return where points (n, d) float32 lie on the curve, (n,) int64."""
    n, d = z.shape
    places = torch.empty(n, dtype=torch.int64, device=z.device)
    scale, bits = scale_of(ground, d), bits_of_place(d)
    with launching(z):
        place_on_curve[(-(-n // _BLOCK),)](
            z, ground.low, scale, places, n, D=d, BITS=bits, BLOCK=_BLOCK, enable_fp_fusion=True
        )
    return places


def arranged(z: Tensor, order: Tensor, room: int, filler: float) -> Tensor:
    """Return (d, room): points (n, d) in that order, coordinate by coordinate, and filler behind them."""
    n, d = z.shape
    out = torch.empty(d, room, dtype=torch.float32, device=z.device)
    with launching(z):
        arrange[(-(-room // _BLOCK),)](z, order, out, n, room, filler, D=d, BLOCK=_BLOCK, enable_fp_fusion=True)
    return out


def plant(ctrs: Points) -> Boxes:
    """Put centres into boxes."""
    values = ctrs.block(0, len(ctrs))
    ground = ground_of(values)
    z, lacks = at_infinity(placed(values, ground.middle), ground.reach)
    places, order = places_of(z, ground).sort(stable=True)
    leaves = up_to(-(-len(z) // LEAF), FAN)
    above = up_to(leaves // FAN, FAN)
    levels = leaves, above, up_to(above // FAN, FAN)
    room = leaves * LEAF
    centres = arranged(z, order, room, torch.inf)
    numbers = torch.nn.functional.pad(ctrs.row_numbers(order).to(torch.int32), (0, room - len(z)))
    low = torch.full((ctrs.d, sum(levels)), torch.inf, dtype=torch.float32, device=z.device)
    high = torch.full_like(low, -torch.inf)
    with launching(z):
        box_leaves[(-(-leaves // 8),)](
            centres, low, high, room, leaves, sum(levels), D=ctrs.d, LEAF=LEAF, BLOCK=8, enable_fp_fusion=True
        )
    first = 0
    for many in levels[:2]:
        parents = slice(first + many, first + many + many // FAN)
        low[:, parents] = low[:, first : first + many].view(ctrs.d, -1, FAN).amin(dim=2)
        high[:, parents] = high[:, first : first + many].view(ctrs.d, -1, FAN).amax(dim=2)
        first += many
    return Boxes(centres, numbers, places, low, high, levels, ground, lacks)
