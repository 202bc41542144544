"""Numba kernels that round order values of listed pairs where nothing leaves a doubt of them.

To float32 what float64 tells of them, to float64 what double-double arithmetic does.
"""

from __future__ import annotations

import numpy as np

from janelia_core.ml._knn.arithmetic.compensated import compensated_product, compensated_square
from janelia_core.ml._knn.arithmetic.to_float32 import PLAIN, round_root, round_value
from janelia_core.ml._knn.arithmetic.to_float64 import round_sum
from janelia_core.ml._knn.metrics.metric import DISTANCE, Bound
from janelia_core.ml._knn.verify.pair_kernels import value_of_pair
from janelia_core.ml._runtime.arrays import B8, F32, F64, I64, Reals
from janelia_core.ml._runtime.jit import jit
from janelia_core.ml._simd.row_sums import product, squared_distance


@jit
def rounded_values(
    form: int, root: bool, within: Bound, x: Reals, ctrs: Reals, indices: I64, out: F32, certain: B8
) -> int:
    """Fills order values or their roots, in float32, of rows x (r, d) and the centres listed in indices (r, k).

    Args:
        form: As for `value_of_pair`, like `within`.
        root: Whether square roots are wanted.
        within: How far order values can be off.
        x: (r, d) stored values, C order, any real dtype.
        ctrs: (n_ctrs, d), likewise.
        indices: (r, k) int64, -1 for none.
        out: (r, k) float32, written; +inf where there is none.
        certain: (r, k) bool, written: float64 left no doubt.

    Returns:
        How many are not certain.
    """
    doubtful, (relative, absolute) = 0, within
    for i in range(indices.shape[0]):
        x_square = product(x, i, x, i) if form != DISTANCE else 0.0
        for slot in range(indices.shape[1]):
            j = indices[i, slot]
            if j < 0:
                out[i, slot], certain[i, slot] = np.float32(np.inf), True
                continue
            if form == DISTANCE:  # not by value_of_pair: a call that is not inlined counts references to its arrays
                value = squared_distance(x, i, ctrs, j)
                error = value * relative + absolute
            else:
                value, error = value_of_pair(form, within, x, i, ctrs, j, x_square)
            if root and PLAIN < value < np.inf:
                out[i, slot], certain[i, slot] = round_root(value, relative)
            else:
                out[i, slot], certain[i, slot] = round_value(value, error, root)
            doubtful += not certain[i, slot]
    return doubtful


@jit
def rounded_sums(form: int, root: bool, x: Reals, ctrs: Reals, indices: I64, out: F64, certain: B8) -> int:
    """Fills squared distances, their roots, or negative inner products in float64, as `rounded_values` does float32.

    Returns:
        How many are not certain.
    """
    doubtful = 0
    for i in range(indices.shape[0]):
        for slot in range(indices.shape[1]):
            j = indices[i, slot]
            if j < 0:
                out[i, slot], certain[i, slot] = np.inf, True
                continue
            if form == DISTANCE:
                hi, lo, error = compensated_square(x, i, ctrs, j)
            else:
                hi, lo, error = compensated_product(x, i, ctrs, j)
                hi, lo = -hi, -lo
            out[i, slot], certain[i, slot] = round_sum(hi, lo, error, root)
            doubtful += not certain[i, slot]
    return doubtful
