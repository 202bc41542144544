"""How near rows can be to any centre of a cell: from one small matrix product.

Names and equations are those of `dense.cells.screen`.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from janelia_core.ml._knn.arithmetic.bounds import TINY32, UNIT32
from janelia_core.ml._knn.data.points import as_float64
from janelia_core.ml._knn.screens.dense.cells.centres import CellCentres
from janelia_core.ml._runtime.arrays import F32, F64, I64
from janelia_core.ml._runtime.jit import jit


class Ceilings:
    """Balls around cells.

    Args:
        centres: The centres.
    """

    def __init__(self, centres: CellCentres) -> None:
        middles = torch.from_numpy(centres.shifts) / centres.scale
        self._origin = middles.mean(0)
        self._middles, self._lengths = _rounded(middles - self._origin)
        self._reach, self._scale = centres.reach, centres.scale

    def of(self, rows: Tensor) -> tuple[F64, I64]:
        """Return what no -D / 2 of a row and a cell exceeds (r, g); and the cells, those nearest to any row first."""
        y, lengths = _rounded(as_float64(rows) - self._origin)
        ceilings, nearest = np.empty((len(y), len(self._middles))), np.empty(len(self._middles))
        products = torch.mm(y, self._middles.T).numpy()
        error, tiny = (rows.shape[1] + 12) * UNIT32, 4 * (rows.shape[1] + 2) * TINY32
        _ceilings(products, lengths, self._lengths, self._reach, self._scale, error, tiny, ceilings, nearest)
        return ceilings, nearest.argsort()


def _rounded(points: Tensor) -> tuple[Tensor, F64]:
    """Return points in float32, and about their norms."""
    lengths: F64 = points.square().sum(1).sqrt_().numpy()
    return points.float(), lengths


@jit
def _ceilings(
    products: F32,
    rows: F64,
    cells: F64,
    reach: F64,
    scale: float,
    error: float,
    tiny: float,
    ceilings: F64,
    nearest: F64,
) -> None:
    """Writes ceilings, and about how near cells are to any row.

    Args:
        products: (r, g), of rows and middles of cells.
        rows: (r,), their norms.
        cells: (g,), likewise.
        reach: (g,), R_g.
        scale: A power of two, by which reach has been multiplied.
        error: Of squares, over the square of the sum of norms; and more than eight times 2^-24.
        tiny: What underflow adds to the error of a square, or of a distance.
        ceilings: (r, g), written.
        nearest: (g,), written.
    """
    nearest[:] = np.inf
    for i in range(products.shape[0]):
        for g in range(products.shape[1]):
            square = rows[i] * rows[i] + cells[g] * cells[g] - 2.0 * np.float64(products[i, g])
            nearest[g] = min(nearest[g], square)
            both = (rows[i] + cells[g]) * 1.0001
            distance = np.sqrt(max(0.0, square - error * both * both - tiny)) - 2.0**-22 * both - tiny
            gap = max(0.0, distance * (1.0 - 2.0**-40) * scale - reach[g] * (1.0 + 2.0**-40))
            ceilings[i, g] = -0.5 * (1.0 - 2.0**-40) * gap * gap
