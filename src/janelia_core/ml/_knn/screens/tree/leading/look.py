"""A look at a few rows among a sample of centres: how many leading directions tell nearly as much as all columns."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from janelia_core.ml._knn.data.leading import Leading
from janelia_core.ml._knn.data.points import Points, as_float64

_ROWS, _CTRS = 96, 1024
_ENOUGH, _MOST_NEAR = 1.03, 1.3  # times as many centres as are wanted have images as near as the farthest of these
_FAR = 0.9  # of the rows have what they lack within what is walked beyond,
_WIDER = 1.25  # times this
MOST_REST = 0.2
"""Of the squares of coordinates: where more lies outside the leading directions, images tell too little."""


class Told(NamedTuple):
    """What the look told.

    Attributes:
        leading: As many directions as tell enough; None: no number does.
        gap: By so much the squared distance of the k-th image falls short of a true one, for most rows.
    """

    leading: Leading | None
    gap: float


def look(x: Points, ctrs: Points, found: Leading, k: int) -> Told:
    """Find how many of the directions found tell enough; all is rough."""
    most = max(1, min(_CTRS, ctrs.chunk // ctrs.d))
    rows = as_float64(x.block(0, len(x), -(-len(x) // min(_ROWS, most)))) - found.middle
    sample = as_float64(ctrs.block(0, len(ctrs), -(-len(ctrs) // most))) - found.middle
    wanted = max(1, min(len(sample), round(k * len(sample) / len(ctrs))))
    images, others = (rows @ found.directions).float(), (sample @ found.directions).float()
    rest, of_others = rows.square().sum(1), sample.square().sum(1)
    farthest = torch.cdist(rows.float(), sample.float()).square_().kthvalue(wanted, dim=1).values[:, None]
    among = torch.zeros(len(rows), len(sample), dtype=torch.float32, device="cpu")
    for p in range(1, images.shape[1] + 1):
        mine, theirs = images[:, p - 1], others[:, p - 1]
        among += (mine[:, None] - theirs).square_()
        rest, of_others = rest - mine.double().square(), of_others - theirs.double().square()
        if float(found.share[p - 1]) > MOST_REST:
            continue
        near = among + (_root(rest)[:, None] - _root(of_others)).square_()
        most_near = _ENOUGH if p < images.shape[1] else _MOST_NEAR
        if float((near <= farthest).sum(1).double().mean()) <= most_near * wanted:
            short = (farthest[:, 0] - near.kthvalue(wanted, dim=1).values).clamp_(min=0.0)
            return Told(found.first(p), float(short.quantile(_FAR)) * _WIDER)
    return Told(None, 0.0)


def _root(squares: Tensor) -> Tensor:
    return squares.clamp(min=0.0).sqrt_().float()
