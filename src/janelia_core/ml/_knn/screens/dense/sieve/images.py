"""Images of points (`data.leading`) made so that bytes lose little of them, and in little time.

A byte is a share of a point's largest coordinate, and the first leading direction has by far the largest. So directions
are turned among each other until all have about the same share: V R, with R orthogonal, is as good as V, since all that
is proven of it is measured anew. The length of the rest comes in QUARTERS columns, each a half of it: for lengths a, b

    QUARTERS (a / 2 - b / 2)^2 = (a - b)^2,

and halving is exact. Distances of images are those of `data.leading`; how far these are off is not, since products are
in float32, with V as float32 holds it, and eta measured of that. With g = 2^-24 (TOGETHER + 8), w = 2^-51 (d + p + 16):

    v^ = v as float32 holds it, which moves q by 2^-24 (1 + 2^-9) |v| at most, as distances in images are no longer;
    y^ = V^T v^, of TOGETHER columns at a time in float32, sums of these in float64 (Cauchy-Schwarz over all parts), so
         |y^ - y| <= delta |v|,  delta = sqrt(p) g (1 + 2^-8);
    rho^2 = |v|^2 - |y|^2 but for eta |y|^2, hence off by E = (2 delta (1 + delta) + eta + w) (1 + 2^-8) |v|^2 at most,
         and rho^ by sqrt(E), or by E / rho^, for |a - b| (a + b) = |a^2 - b^2|;

and rounding q^ to float32 moves it by 2^-24 (1 + 2^-9) |v| once more. What underflows is below 2^-100, as there.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from janelia_core.ml._knn.data.leading import Leading, single, turned
from janelia_core.ml._knn.data.points import Points
from janelia_core.ml._knn.screens.dense.scan import Tiles
from janelia_core.ml._knn.screens.dense.sieve.image_kernels import QUARTERS, TOGETHER, Maker, make_images
from janelia_core.ml._runtime.workers import Workers
from janelia_core.ml._simd.dot_tiles import PARAMETERS, TILE

_SHARE = 2  # of a chunk, for coordinates taken at a time
_LOOSE = 1.0 + 2.0**-8


class Images:
    """Makes images.

    Args:
        found: Leading directions.

    Attributes:
        leading: The same, turned.
    """

    def __init__(self, found: Leading) -> None:
        d, p = found.directions.shape
        source = torch.Generator(device="cpu").manual_seed(0)
        rough = torch.randn(p, p, generator=source, dtype=torch.float64, device="cpu")
        self.leading = single(turned(found, torch.linalg.qr(rough).Q))
        delta = p**0.5 * (TOGETHER + 8) * 2.0**-24 * _LOOSE
        beyond = (2.0 * delta * (1.0 + delta) + self.leading.loss + (d + p + 16) * 2.0**-51) * _LOOSE
        self._maker = Maker(_tiled(self.leading.directions), self.leading.middle.numpy(), delta + 2.0**-22, beyond)

    def of(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Return images of finite points (r, d), as (r, p + QUARTERS) float32, and how far off they are, (r,)."""
        images, off = self._room(len(values))
        self._make(values, images, off)
        return images, off

    def of_all(self, points: Points, workers: Workers) -> tuple[Tensor, Tensor]:
        """Return the same of many points."""
        images, off = self._room(len(points))
        workers.each(
            lambda part: self._make(points.block(*part), images[part[0] : part[1]], off[part[0] : part[1]]),
            points.chunks(_SHARE),
        )
        return images, off

    def _room(self, n: int) -> tuple[Tensor, Tensor]:
        width = self.leading.directions.shape[1] + QUARTERS
        return (
            torch.empty(n, width, dtype=torch.float32, device="cpu"),
            torch.empty(n, dtype=torch.float64, device="cpu"),
        )

    def _make(self, values: Tensor, images: Tensor, off: Tensor) -> None:
        values = values.contiguous() if values.dtype in (torch.float32, torch.float64) else values.double()
        make_images(values.numpy(), self._maker, images.numpy(), off.numpy())


def _tiled(directions: Tensor) -> Tiles:
    """Return directions (d, p) in tiles, whose keys are sums of products and nothing else."""
    d, p = directions.shape
    parts, n_tiles = -(-d // TOGETHER), -(-p // TILE)
    padded = torch.zeros(parts * TOGETHER, n_tiles * TILE, dtype=torch.float32, device="cpu")
    padded[:d, :p] = directions
    words = padded.reshape(parts, TOGETHER, n_tiles, TILE).transpose(1, 2).contiguous()
    parameters = np.zeros((parts * n_tiles, PARAMETERS, TILE), np.float32)
    parameters[:, 0] = 1.0
    return Tiles(words.reshape(-1).numpy(), parameters.reshape(-1), 0, np.zeros((0, 2), np.float32))
