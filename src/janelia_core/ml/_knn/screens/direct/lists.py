"""Numba kernels that join the lists of several shares of the centres, and close them."""

from __future__ import annotations

import numpy as np

from janelia_core.ml._knn.screens.direct.kernels import Lowest, enter
from janelia_core.ml._runtime.arrays import F64, Reals
from janelia_core.ml._runtime.jit import jit
from janelia_core.ml._simd.run_tiles import CTRS


@jit
def take_over(other: Lowest, lowest: Lowest, limits: Reals) -> None:
    """Lists what another share listed of the same rows, where it is low enough; limits are those of `lowest`."""
    for i in range(other.n.shape[0]):
        for place in range(other.n[i]):
            if other.keys[i, place] < limits[i * CTRS]:
                enter(lowest, i, other.keys[i, place], other.ids[i, place], limits)


@jit
def close(lowest: Lowest, highest: F64) -> None:
    """Writes -1 behind each list, and to `highest` what no key left out is below: the largest number, or the top's."""
    keys, ids, n = lowest
    for i in range(n.shape[0]):
        highest[i] = keys[i, 0] if n[i] == keys.shape[1] else np.finfo(keys.dtype).max
        ids[i, n[i] :] = -1
