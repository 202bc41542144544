"""A look at a few rows among a sample of centres: how many of these would pass the first mesh."""

from __future__ import annotations

import math

from torch import Tensor

from janelia_core.ml._knn.data.leading import least_outside
from janelia_core.ml._knn.data.points import Points, as_float64
from janelia_core.ml._knn.screens.dense.rough import rough_distances
from janelia_core.ml._knn.screens.dense.sieve.cost import SAMPLE
from janelia_core.ml._knn.screens.dense.sieve.images import Images

_ROWS = 32
_STEPS, _LOST = 127.0, 12.0**-0.5  # of a byte, and what rounding to a step loses, of it
_FIRST, _MOST_OUTSIDE = 15, 0.38  # of the leading directions, whose share is soon told: 0.3 for 60 alike, 0.45 for 256
MOST_REST = 0.4
"""Of the squares of coordinates: where more lies outside the leading directions, images tell too little."""


def outside(ctrs: Points) -> float:
    """Return which share of a few centres lies outside the first leading directions, or less, in no time."""
    return least_outside(ctrs, _FIRST)


def tells_too_little(outside: float) -> bool:
    """Tell whether more directions lead than are looked at, where so much lies outside."""
    return outside > _MOST_OUTSIDE


def passing(x: Points, ctrs: Points, images: Images, k: int) -> float:
    """Return which share of the centres has images as near as the k-th nearest centre, with what bytes lose."""
    rows = x.block(0, len(x), -(-len(x) // _ROWS))
    sample = ctrs.block(0, len(ctrs), -(-len(ctrs) // SAMPLE))
    wanted = max(1, min(len(sample), round(k * len(sample) / len(ctrs))))
    middle = images.leading.middle
    far = rough_distances((as_float64(rows) - middle).float(), (as_float64(sample) - middle).float())
    radius = far.kthvalue(wanted, dim=1).values[:, None]
    mine, theirs = images.of(rows)[0], images.of(sample)[0]
    lost = _lost(mine)[:, None] * theirs.norm(dim=1) + mine.norm(dim=1)[:, None] * _lost(theirs)
    near = rough_distances(mine, theirs).square_() - 2.0 * lost <= radius.square()
    return float(near.float().mean())


def _lost(images: Tensor) -> Tensor:
    """Return roughly what bytes lose of images."""
    lost: Tensor = images.abs().amax(dim=1) * (math.sqrt(images.shape[1]) * _LOST / _STEPS)
    return lost
