"""Numba kernels that round order values of listed pairs: to float32, where float64 leaves no doubt of it; to float64.

Distances in float64 come of compensated sums, by the steps of `rounding.rounded_double`, one pair at a time; products
whose error is wanted are fused multiply-adds.
"""

from __future__ import annotations

import numpy as np

from janelia_core.ml._knn.arithmetic.bounds import OUTWARD
from janelia_core.ml._knn.arithmetic.compensated import total, with_square
from janelia_core.ml._knn.arithmetic.to_float32 import NORMAL, PLAIN, round_root, round_value
from janelia_core.ml._knn.metrics.metric import Bound
from janelia_core.ml._knn.verify.pair_kernels import value_of_pair
from janelia_core.ml._runtime.arrays import B8, F32, F64, I64, Reals
from janelia_core.ml._runtime.jit import inlined, jit
from janelia_core.ml._simd.fused import fma
from janelia_core.ml._simd.row_sums import product, squared_distance

_PAIRS = 256  # whose squares are held, for a loop over them that becomes vectors
_SHORT = 16  # coordinates: of fewer a call takes longer than their sum


@jit
def rounded_values(
    form: int, root: bool, within: Bound, x: Reals, ctrs: Reals, indices: I64, out: F32, certain: B8
) -> int:
    """Fills order values or their roots, in float32, of rows x (r, d) and the centres listed in indices (r, k).

    Args:
        form: As for `value_of_pair`, like `within`; not distances.
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
    doubtful, relative = 0, within[0]
    for i in range(indices.shape[0]):
        x_square = product(x, i, x, i)
        for slot in range(indices.shape[1]):
            j = indices[i, slot]
            if j < 0:
                out[i, slot], certain[i, slot] = np.float32(np.inf), True
                continue
            value, error = value_of_pair(form, within, x, i, ctrs, j, x_square)
            if root and PLAIN < value < np.inf:
                out[i, slot], certain[i, slot] = round_root(value, relative)
            else:
                out[i, slot], certain[i, slot] = round_value(value, error, root)
            doubtful += not certain[i, slot]
    return doubtful


@jit
def rounded_distances(root: bool, within: Bound, x: Reals, ctrs: Reals, indices: I64, out: F32, certain: B8) -> int:
    """Does the same for distances or their squares, some pairs at a time."""
    doubtful, k, (relative, absolute) = 0, indices.shape[1], within
    found, sure, squares = out.reshape(-1), certain.reshape(-1), np.empty(_PAIRS)
    for start in range(0, found.shape[0], _PAIRS):
        n = min(_PAIRS, found.shape[0] - start)
        fill_squares(x, ctrs, indices, start, n, squares)
        if round_plain(root, relative, squares[:n], found[start : start + n], sure[start : start + n]) == n:
            continue
        for at in range(start, start + n):
            value = squares[at - start]
            if indices[at // k, at % k] < 0:
                found[at], sure[at] = np.float32(np.inf), True
            elif not PLAIN < value < np.inf:
                found[at], sure[at] = round_value(value, value * relative + absolute, root)
            doubtful += not sure[at]
    return doubtful


@jit
def fill_squares(x: Reals, ctrs: Reals, indices: I64, start: int, n: int, squares: F64) -> None:
    """Writes D^ of n listed pairs from pair number `start` on; inf where there is none."""
    d, k = x.shape[1], indices.shape[1]
    i, slot = start // k, start % k
    for t in range(n):
        j = indices[i, slot]
        if j < 0:
            squares[t] = np.inf
        elif d < _SHORT:
            total = 0.0
            for q in range(d):
                gap = np.float64(x[i, q]) - np.float64(ctrs[j, q])
                total += gap * gap
            squares[t] = total
        else:
            squares[t] = squared_distance(x, i, ctrs, j)
        slot += 1
        if slot == k:
            i, slot = i + 1, 0


@jit
def round_plain(root: bool, relative: float, squares: F64, out: F32, certain: B8) -> int:
    """Rounds D^ or their roots as `round_root` does, without a branch; returns how many are certain.

    Squares themselves are off by twice as much as their roots, but `relative`, and what underflows, is that of D^; two
    roundings of each end are less than 2^-51 here, too.
    """
    n_certain, off = 0, relative + 2.0**-51
    for t in range(squares.shape[0]):
        square = squares[t]
        value = np.sqrt(square) if root else square
        first, last = np.float32(value - value * off), np.float32(value + value * off)
        plain = (square > PLAIN) & (square < np.inf)
        out[t], certain[t] = last, plain & (first == last) & (last >= NORMAL)
        n_certain += certain[t]
    return n_certain


@jit
def rounded_doubles(root: bool, x: Reals, ctrs: Reals, indices: I64, out: F64, certain: B8) -> int:
    """Does the same in float64, where out is float64 too."""
    doubtful = 0
    for i in range(indices.shape[0]):
        for slot in range(indices.shape[1]):
            j = indices[i, slot]
            if j < 0:
                out[i, slot], certain[i, slot] = np.inf, True
                continue
            s, low, m, lossy = 0.0, 0.0, 0.0, 0
            for q in range(x.shape[1]):  # here: a call that is given arrays counts references to them
                s, low, m, lossy = with_square(np.float64(x[i, q]), np.float64(ctrs[j, q]), s, low, m, lossy)
            hi, lo, error = total(s, low, m, lossy, x.shape[1])
            if root:
                hi, lo, error = root_of_sum(hi, lo, error)
            if error != 0.0:
                error = (error + 2.0**-52 * abs(lo)) * OUTWARD
            least, most = hi + (lo - error), hi + (lo + error)
            out[i, slot], certain[i, slot] = least if least != 0.0 else 0.0, least == most
            doubtful += not certain[i, slot]
    return doubtful


@inlined
def root_of_sum(hi: float, lo: float, error: float) -> tuple[float, float, float]:
    """Returns the root of hi + lo, known to within an error, in the same form, as `rounding.rounded_double` does."""
    if hi == 0.0 and lo == 0.0 and error == 0.0:
        return 0.0, 0.0, 0.0
    if not hi > PLAIN:
        return 0.0, 0.0, np.inf
    r = np.sqrt(hi)
    square = r * r
    rest = (hi - square) + (lo - fma(r, r, -square))
    error = error / (2.0 * r) * OUTWARD
    if rest != 0.0:
        error += r * 2.0**-100
    return r, rest / (2.0 * r), error
