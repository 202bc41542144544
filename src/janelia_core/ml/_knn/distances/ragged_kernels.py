"""Numba kernels that round the order values of ragged pairs where nothing leaves a doubt of them, or their roots."""

from __future__ import annotations

import numpy as np

from janelia_core.ml._knn.arithmetic.compensated import compensated_square
from janelia_core.ml._knn.arithmetic.to_float32 import PLAIN, round_value
from janelia_core.ml._knn.arithmetic.to_float64 import round_sum
from janelia_core.ml._knn.distances.rounding_kernels import round_plain
from janelia_core.ml._knn.metrics.metric import Bound
from janelia_core.ml._knn.verify.pair_kernels import square_of_gap
from janelia_core.ml._runtime.arrays import B8, F32, F64, I64, Reals
from janelia_core.ml._runtime.jit import jit
from janelia_core.ml._simd.row_sums import prefetch

_PAIRS = 256  # whose squares are held, for a loop over them that becomes vectors
_AHEAD = 12  # pairs: centres come from all over memory


@jit
def rounded_ragged(
    root: bool,
    within: Bound,
    x: Reals,
    ctrs: Reals,
    offsets: I64,
    indices: I64,
    rows: tuple[int, int],
    out: F32,
    certain: B8,
) -> int:
    """Fill distances or their squares, in float32, of some rows and the centres listed for them.

    Args:
        root: Whether square roots are wanted.
        within: How far squares can be off.
        x: (n, d) stored values, C order, any real dtype.
        ctrs: (n_ctrs, d), likewise.
        offsets: (n + 1,) where the list of each row begins.
        indices: (p,) row numbers of centres.
        rows: The first row, and the one behind the last.
        out: (p,), written for these rows, as all that follows.
        certain: (p,) float64 left no doubt.

    Returns:
        How many are not certain.
    """
    (relative, absolute), (row, stop), squares, doubtful = within, rows, np.empty(_PAIRS), 0
    last = indices.shape[0] - 1
    for start in range(offsets[row], offsets[stop], _PAIRS):
        n = min(_PAIRS, offsets[stop] - start)
        for t in range(n):
            while start + t >= offsets[row + 1]:
                row += 1
            prefetch(ctrs, indices[min(start + t + _AHEAD, last)])
            squares[t] = square_of_gap(x, row, ctrs, indices[start + t])
        if round_plain(root, relative, squares[:n], out[start : start + n], certain[start : start + n]) == n:
            continue
        for t in range(n):
            value, at = squares[t], start + t
            if not PLAIN < value < np.inf:
                out[at], certain[at] = round_value(value, value * relative + absolute, root)
            doubtful += not certain[at]
    return doubtful


@jit
def rounded_ragged_sums(
    root: bool, x: Reals, ctrs: Reals, offsets: I64, indices: I64, rows: tuple[int, int], out: F64, certain: B8
) -> int:
    """Fill the same in float64, by double-doubles; see `rounded_ragged`."""
    (row, stop), doubtful = rows, 0
    for at in range(offsets[row], offsets[stop]):
        while at >= offsets[row + 1]:
            row += 1
        hi, lo, error = compensated_square(x, row, ctrs, indices[at])
        out[at], certain[at] = round_sum(hi, lo, error, root)
        doubtful += not certain[at]
    return doubtful
