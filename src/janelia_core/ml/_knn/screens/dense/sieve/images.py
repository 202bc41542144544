"""Images of points (`data.leading`) made so that bytes lose little of them.

A byte is a share of a point's largest coordinate, and the first leading direction has by far the largest. So directions
are turned among each other until all have about the same share: V R, with R orthogonal, is as good as V, since all that
is proven of it is measured anew. The length of the rest comes in QUARTERS columns, each a half of it: for lengths a, b

    QUARTERS (a / 2 - b / 2)^2 = (a - b)^2,

and halving is exact. Distances of images, and how far these are off, are those of `data.leading`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from janelia_core.ml._knn.data.leading import Leading, turned
from janelia_core.ml._knn.data.points import Points
from janelia_core.ml._runtime.workers import Workers

QUARTERS = 4
_SHARE = 2  # of a chunk, for coordinates taken at a time


class Images:
    """Makes images.

    Args:
        found: Leading directions.

    Attributes:
        leading: The same, turned.
    """

    def __init__(self, found: Leading) -> None:
        p = found.directions.shape[1]
        source = torch.Generator(device="cpu").manual_seed(0)
        rough = torch.randn(p, p, generator=source, dtype=torch.float64, device="cpu")
        self.leading = turned(found, torch.linalg.qr(rough).Q)

    def of(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Return images of finite points (r, d), as (r, p + QUARTERS) float32, and how far off they are, (r,)."""
        images, off = self.leading.of(values)
        return torch.cat([images[:, :-1], (images[:, -1:] / 2.0).expand(-1, QUARTERS)], dim=1), off

    def of_all(self, points: Points, workers: Workers) -> tuple[Tensor, Tensor]:
        """Return the same of many points."""
        n, p = len(points), self.leading.directions.shape[1]
        images = torch.empty(n, p + QUARTERS, dtype=torch.float32, device="cpu")
        off = torch.empty(n, dtype=torch.float64, device="cpu")

        def fill(part: tuple[int, int]) -> None:
            some = slice(*part)
            images[some], off[some] = self.of(points.block(*part))

        workers.each(fill, points.chunks(_SHARE))
        return images, off
