"""Rows of the direct screen as its kernels take them, and what keys prove: the equations are those of `screen`."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from janelia_core.ml._knn.arithmetic.bounds import TINY32, UNIT32, UNIT64, gamma
from janelia_core.ml._knn.data.directions import directions
from janelia_core.ml._knn.data.points import as_float64
from janelia_core.ml._knn.metrics.dot import LARGEST_SQUARE, LEAST_SQUARE
from janelia_core.ml._knn.metrics.metric import COSINE, DISTANCE, DOT
from janelia_core.ml._knn.screens.direct.cost import SHORT
from janelia_core.ml._knn.screens.direct.kernels import LARGEST_SQUARE32, LEAST_SQUARE32, FewRows, Lowest
from janelia_core.ml._runtime.arrays import B8, F64, Reals
from janelia_core.ml._simd.run_tiles import CTRS, ROWS, run_length

_DOWN = 2.0**-48  # outweighs the float64 roundings of a bound
_LEAST = 2.0**-1070
_UP = 1.0 + 2.0**-20  # outweighs those of a norm, and its rounding to float32


class Held(NamedTuple):
    """Rows in the type of keys.

    Fields:
        points: (r, d).
        reach: (r,) float64, what errors are relative to.
        lost: (r,), which rows are beyond the bounds: nothing is listed of them.
    """

    points: Reals
    reach: F64
    lost: B8

    def few(self) -> FewRows:
        """Return the rows as kernels take them, with limits of their own."""
        (r, d), dtype = self.points.shape, self.points.dtype
        n, run = -(-r // ROWS) * ROWS, run_length(dtype)
        whole = 0 if d <= SHORT else (d - 1) // run * run
        points = np.zeros((n, d if d <= SHORT else whole + run), dtype)
        points[:r, :whole] = self.points[:, :whole]
        points[:r, whole:] = self.points if d <= SHORT else self.points[:, d - run :]
        reach, limits = np.zeros(n, dtype), np.full(n, -np.inf, dtype)
        reach[:r], limits[:r] = self.reach, np.where(self.lost, -np.inf, np.inf)
        return FewRows(points, reach.repeat(CTRS), limits.repeat(CTRS))

    def lists(self, width: int) -> Lowest:
        """Return lists without entries."""
        r, dtype = len(self.points), self.points.dtype
        return Lowest(np.empty((r, width), dtype), np.empty((r, width), np.int64), np.zeros(r, np.int64))


def hold(x: Tensor, form: int, dtype: Any) -> Held:
    """Return stored rows (r, d) in the type of keys, which holds them."""
    wide = directions(x).numpy() if form == COSINE else as_float64(x).numpy()
    lost, reach = ~np.isfinite(wide).all(axis=1), np.zeros(len(wide))
    if form == DOT:
        with np.errstate(over="ignore", invalid="ignore"):
            square = np.square(wide).sum(axis=1)
        lost |= ~(square <= (LARGEST_SQUARE32 if dtype is np.float32 else LARGEST_SQUARE))
        reach = gamma(wide.shape[1] + 8, _unit(dtype)) * np.sqrt(np.where(lost, 0.0, square)) * _UP
    return Held(np.where(lost[:, None], 0.0, wide).astype(dtype), reach, lost)


def at_least_of(keys: F64, form: int, d: int, dtype: Any) -> F64:
    """Return lower bounds of order values with at least these keys; of distances, inf stays."""
    unit, tiny = _unit(dtype), TINY32 if dtype is np.float32 else 2.0**-1020
    if form == DISTANCE:
        low: F64 = (keys - (d + 2) * tiny) * (1.0 - gamma(d + 2, unit)) * (1.0 - _DOWN) - _LEAST
    elif form == DOT:
        low = (keys - (d + 8) * tiny) - _DOWN * np.abs(keys)
    else:
        least = LEAST_SQUARE32 if dtype is np.float32 else LEAST_SQUARE
        lost = gamma(d + 24, unit) + gamma(2 * d + 24, UNIT64) + (d + 8) * tiny / least**0.5
        low = (1.0 + keys) - (lost + _DOWN * (1.0 + np.abs(keys)))
    return low


def _unit(dtype: Any) -> float:
    return UNIT32 if dtype is np.float32 else UNIT64
