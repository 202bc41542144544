"""A cheap look at a few rows: how many centres lie so near to their nearest that float32 scores cannot part them.

Where they are many (points on a line or on top of each other, in whatever dimensions), no format of the dense screen
proves anything, and its rows end on the slow rungs of the ladder.
"""

from __future__ import annotations

import numpy as np

from janelia_core.ml._knn.data.points import Points, as_float64
from janelia_core.ml._runtime.arrays import F64
from janelia_core.ml._runtime.jit import jit
from janelia_core.ml._simd.row_sums import squared_distance

_ROWS, _CTRS = 16, 4096  # rows looked at, and centres, each of which stands for its neighbours
_FEW_ROWS, _FEW_CTRS = 4, 256  # that tell piles of equal points in a tenth of a millisecond
_SHARE = 4  # of a chunk, for their coordinates in float64


def crowding(x: Points, ctrs: Points, quick: bool = False) -> float:
    """Return about how many centres a row's nearest one cannot be told from by float32 scores, finite points on a CPU.

    On average over a few rows, extrapolated from a sample of the centres: 0 for most data. quick: of fewer.
    """
    n_rows, n_ctrs = (_FEW_ROWS, _FEW_CTRS) if quick else (_ROWS, _CTRS)
    most = max(1, min(n_ctrs, ctrs.chunk // _SHARE // max(1, ctrs.d)))
    rows = as_float64(x.block(0, len(x), -(-len(x) // min(n_rows, most)))).contiguous().numpy()
    sample = as_float64(ctrs.block(0, len(ctrs), -(-len(ctrs) // most))).contiguous().numpy()
    near = _near(rows, sample, sample.mean(0, keepdims=True), 4.0 * (ctrs.d + 10.0) * 2.0**-24)
    return float(near) / len(rows) * len(ctrs) / len(sample)


@jit
def _near(x: F64, ctrs: F64, middle: F64, error: float) -> int:
    """Count, for all rows, the centres as far as the nearest or farther by at most error |x - middle| |c - middle|."""
    near = 0
    norms, distances = np.empty(ctrs.shape[0]), np.empty(ctrs.shape[0])
    for j in range(ctrs.shape[0]):
        norms[j] = np.sqrt(squared_distance(ctrs, j, middle, 0))
    for i in range(x.shape[0]):
        least, norm = np.inf, error * np.sqrt(squared_distance(x, i, middle, 0))
        for j in range(ctrs.shape[0]):
            distances[j] = squared_distance(x, i, ctrs, j)
            least = min(least, distances[j])
        for j in range(ctrs.shape[0]):
            near += distances[j] <= least + norm * norms[j]
        near -= 1
    return near
