"""Numba kernels that round manhattan and chebyshev distances of listed pairs where nothing leaves a doubt of them.

Differences of float32 numbers often lie halfway between two of them, and so do sums of some, where no interval
decides: so to float32, too, they are rounded from double-doubles, which know when they are exact.
What is not finite is left to others. A coordinate below SMALL, whose differences a processor may flush, has an error of
LOSS.
"""

from __future__ import annotations

import numpy as np

from janelia_core.ml._knn.arithmetic.bounds import LOSS, OUTWARD, SMALL
from janelia_core.ml._knn.arithmetic.compensated import two_sum
from janelia_core.ml._knn.arithmetic.to_float32 import NORMAL, round_value
from janelia_core.ml._knn.arithmetic.to_float64 import round_sum
from janelia_core.ml._knn.metrics.metric import Bound
from janelia_core.ml._runtime.arrays import B8, I64, Reals
from janelia_core.ml._runtime.jit import jit


@jit
def sum_of_gaps(x: Reals, i: int, ctrs: Reals, j: int) -> tuple[float, float, float]:
    """Returns (hi, lo, error) of sum |x_q - c_q|, of an infinite error where that is not for here.

    What hi rounds off is added to lo, and what lo rounds off is known, too: that is all that is lost.
    """
    hi, lo, lost, tiny = 0.0, 0.0, 0.0, 0
    for q in range(x.shape[1]):
        f, g = np.float64(x[i, q]), np.float64(ctrs[j, q])
        gap, rest = two_sum(f, -g)
        hi, first = two_sum(hi, abs(gap))
        lo, one = two_sum(lo, first)
        lo, other = two_sum(lo, -rest if gap < 0.0 else rest)
        lost += abs(one) + abs(other)
        tiny += 1 if (abs(f) < SMALL and f != 0.0) or (abs(g) < SMALL and g != 0.0) else 0
    hi, lo = two_sum(hi, lo)
    return hi, lo, 2.0 * lost + tiny * LOSS if hi < np.inf else np.inf


@jit
def largest_gap(x: Reals, i: int, ctrs: Reals, j: int) -> tuple[float, float, float]:
    """Returns (hi, lo, error) of the largest |x_q - c_q|, likewise.

    Of two differences the larger is rounded to no less, and of those that are rounded alike it has the larger rest.
    """
    most, low, wild, tiny = 0.0, 0.0, 0, 0
    for q in range(x.shape[1]):
        f, g = np.float64(x[i, q]), np.float64(ctrs[j, q])
        gap, rest = two_sum(f, -g)
        rest = -rest if gap < 0.0 else rest
        wild += 0 if abs(gap) < np.inf else 1
        tiny += 1 if (abs(f) < SMALL and f != 0.0) or (abs(g) < SMALL and g != 0.0) else 0
        if abs(gap) > most or (abs(gap) == most and rest > low):
            most, low = abs(gap), rest
    return most, low, tiny * LOSS if wild == 0 else np.inf


@jit
def plain_sum(x: Reals, i: int, ctrs: Reals, j: int) -> float:
    """Returns sum |x_q - c_q| in float64."""
    total = 0.0
    for q in range(x.shape[1]):
        total += abs(np.float64(x[i, q]) - np.float64(ctrs[j, q]))
    return total


@jit
def rounded_gaps(
    largest: bool, narrow: bool, within: Bound, x: Reals, ctrs: Reals, indices: I64, out: Reals, certain: B8
) -> int:
    """Fills distances of rows x (r, d) and the centres listed in indices (r, k).

    Args:
        largest: Chebyshev distances are wanted; else manhattan ones.
        narrow: In float32; else in float64.
        within: How far plain sums can be off.
        x: (r, d) stored values, C order, any real dtype that float64 holds.
        ctrs: (n_ctrs, d), likewise.
        indices: (r, k) int64, -1 for none.
        out: (r, k) float32 or float64, written; +inf where there is none.
        certain: (r, k) bool, written: nothing left a doubt.

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
            if narrow and not largest:
                value = plain_sum(x, i, ctrs, j)
                out[i, slot], certain[i, slot] = round_value(value, value * within[0] + within[1], False)
                if certain[i, slot]:
                    continue
            hi, lo, error = largest_gap(x, i, ctrs, j) if largest else sum_of_gaps(x, i, ctrs, j)
            if not narrow:
                out[i, slot], certain[i, slot] = round_sum(hi, lo, error, False)
            elif lo == 0.0 and error == 0.0:
                out[i, slot] = np.float32(hi)  # of a subnormal number a thread may make 0
                certain[i, slot] = hi >= NORMAL or hi == 0.0
            else:
                out[i, slot], certain[i, slot] = round_value(hi, (abs(lo) + error) * OUTWARD, False)
            doubtful += not certain[i, slot]
    return doubtful
