"""Numba kernels that answer rows one by one: grade a row, walk the tree, prove the order, round the distances."""

import math
from typing import NamedTuple

import numpy as np

from janelia_core.ml._knn.arithmetic.to_float32 import NORMAL, PLAIN, round_root, round_value
from janelia_core.ml._knn.screens.tree.answer import Errors, are_settled, measure
from janelia_core.ml._knn.screens.tree.layout import Boxes, kernel
from janelia_core.ml._knn.screens.tree.walk import SLACK, Wanted, limit, query
from janelia_core.ml._runtime.arrays import F32, F64, I32, I64
from janelia_core.ml._runtime.jit import jit_with
from janelia_core.ml._simd.bits import first_bit
from janelia_core.ml._simd.gaps import Way
from janelia_core.ml._simd.packet_keys import NO_ID
from janelia_core.ml._simd.sorted_lists import EMPTY, key_of

_DOUBTFUL, _PLAIN, _EXACT, _KEYS = 0, 1, 2, 3  # what is known of a row and the centres: see `_grade`
_COARSEST, _FINEST = 999, -999  # of zeros; of what is no lattice
_UNIT = 2.0**-24  # unit roundoff of float32

inlined_kernel = jit_with(error_model="numpy", forceinline=True)


class Ground(NamedTuple):
    """What is known of the centres of a tree.

    Attributes:
        low: The least coordinate.
        high: The greatest.
        finest: 2^finest divides all coordinates; _FINEST where that helps no one.
        live: Centres in the tree.
        copies: How many copies of a point were kept; 0 if all were.
        relative: `bounds.DistanceBound` of plain float64 distances.
        absolute: See relative.
    """

    low: float
    high: float
    finest: int
    live: int
    copies: int
    relative: float
    absolute: float


@kernel
def _exponent(magnitude: int) -> int:
    """The greatest e such that 2^e divides the normal float32 number with these bits, of which the sign is clear."""
    trailing: int = first_bit(np.int64(magnitude & 0x7FFFFF | 0x800000))
    return (magnitude >> 23) - 150 + trailing


@kernel
def grain(z: F32, spread: float) -> tuple[int, bool]:
    """Return the greatest e such that 2^e divides all coordinates, as far as it matters, and whether any is subnormal.

    Args:
        z: As in `Boxes`: NaN are no centres'.
        spread: Between the least and the greatest. Where float64 squares of it are not exact, e does not matter.
    """
    bits, finest, subnormals = z.view(np.int32), _COARSEST, 0
    for cell in range(bits.shape[0]):
        magnitude = bits[cell] & 0x7FFFFFFF
        subnormals += (magnitude > 0) & (magnitude < 0x800000)
    for cell in range(bits.shape[0]):
        magnitude = bits[cell] & 0x7FFFFFFF
        if 0x800000 <= magnitude < 0x7F800000:
            finest = min(finest, _exponent(magnitude))
            if math.ldexp(spread, -finest) > 2.0**26:
                return _FINEST, subnormals > 0
    return finest, subnormals > 0


@inlined_kernel
def _grade(bits: I32, x: F32, row: int, ground: Ground) -> int:
    """Grade a row: what it and the centres, together, allow to be concluded.

    With g = 2^e a power of two that divides all coordinates of both, and s the spread of these, differences are whole
    multiples of g, at most s; d (s / g)^2 <= 2^52 makes float64 squares and sums exact (_EXACT), and <= 4095^2, with
    |e| <= 50, float32 keys too (_KEYS, see `TreeScreen`). Where s / g rounds, s / g > 2^24, and it still compares so.
    Without squares less would do.

    Other rows are _PLAIN if all are finite and the greatest magnitude within `Frame.fits_float32`, else _DOUBTFUL; and
    so they are if any coordinate is subnormal, as whoever asks may read that as zero.
    """
    low, high, finest, usual = ground.low, ground.high, ground.finest, True
    for q in range(x.shape[1]):
        magnitude = bits[row, q] & 0x7FFFFFFF
        usual &= magnitude == 0 or 0x800000 <= magnitude < 0x7F800000
        if magnitude != 0:
            finest = min(finest, _exponent(magnitude))
        low, high = min(low, np.float64(x[row, q])), max(high, np.float64(x[row, q]))
    largest = max(-low, high)
    if not (usual and (largest == 0.0 or 2.0**-41 <= largest < 2.0**50)):
        return _DOUBTFUL
    finest = min(finest, 50)
    steps = math.ldexp(high - low, -finest)
    square = x.shape[1] * steps * steps
    if finest >= -50 and square <= 4095.0 * 4095.0:
        return _KEYS
    return _EXACT if square <= 2.0**52 else _PLAIN


@inlined_kernel
def _rounded(value: float, relative: float, absolute: float, root: bool) -> tuple[np.float32, bool]:
    """Round a D^ or its root, off by relative D^ + absolute: both 0 if D^ is D, which then rounds without an interval.

    Returns:
        The number, and whether it is certain.
    """
    if root and PLAIN < value < np.inf:
        return round_root(value, relative)
    if relative == 0.0 and not root:
        return np.float32(value), value == 0.0 or value >= NORMAL
    return round_value(value, value * relative + absolute, root)


@inlined_kernel
def _by_keys(way: Way, tree: Boxes, block: F32, listed: I64, ids: I64, far: F64) -> bool:
    """Find the k nearest of a row whose keys are its distances; listed is (1, k). Return whether they are proven."""
    k = listed.shape[1]
    everywhere = np.float32(np.inf), np.float32(np.inf)
    query(tree, block, Wanted(k, k, True, way, everywhere), listed, np.zeros(3, np.int64))
    for slot in range(k):
        ids[slot], far[slot] = listed[0, slot] & NO_ID, key_of(listed[0, slot])
    return bool(listed[0, k - 1] != EMPTY)


@inlined_kernel
def _by_distances(
    way: Way, tree: Boxes, block: F32, k: int, w: int, live: int, distance: tuple[float, float], ids: I64, far: F64
) -> bool:
    """Find the k nearest of a row among w listed. Return whether their float64 distances prove them."""
    d, listed, places = tree.d, np.empty((1, w), np.int64), np.empty(w, np.int64)
    errors = Errors(
        relative=(1.0 - 2.0 * (d + 2) * _UNIT) * (1.0 - 2.0**-50),
        absolute=(d + 2) * 2.0**-125,
        distance=distance,
        exact=distance[0] == 0.0,
        live=live,
    )
    reach = np.float32(1.0 + 2.0**-10), np.float32(4.0 * errors.absolute)
    query(tree, block, Wanted(k, w, False, way, reach), listed, np.zeros(3, np.int64))
    cut = (limit(listed[0, k - 1], listed[0, w - 1], reach) - errors.absolute) * errors.relative
    excluded = np.inf if w == live and listed[0, w - 1] != EMPTY else cut
    measure(way, tree.z, tree.ids, 0, listed, block, places, far, ids)
    return bool(are_settled(tree.z, d, k, places, far, errors, excluded))


@kernel
def answer_few(
    way: Way,
    tree: Boxes,
    numbers: I64,
    ground: Ground,
    x: F32,
    root: bool,
    indices: I64,
    distances: F32,
    doubtful: I64,
) -> int:
    """Answer rows, each by itself, and return how many are left in doubt.

    Args:
        way: How distances are made.
        tree: The tree; its coordinates are the stored values, none subnormal.
        numbers: What its centres are called; empty: by their positions.
        ground: What is known of them.
        x: (n, d) stored values, C order.
        root: Distances are wanted, not their squares.
        indices: (n, k) written, nearest first.
        distances: (n, k) written, correctly rounded.
        doubtful: (n,), of which the first are written: the rows in doubt, of which all else is anything.
    """
    (n, d), k, live, failed = x.shape, indices.shape[1], ground.live, 0
    bits, block, listed = x.view(np.int32), np.empty((1, d), np.float32), np.empty((1, k), np.int64)
    few = min(max(k, ground.copies) + SLACK, live)
    many = min(4 * few + 16, live)  # where copies, or near-ties, fill the first list
    ids, far = np.empty(many, np.int64), np.empty(many)
    for row in range(n):
        grade = _grade(bits, x, row, ground)
        distance = (ground.relative, ground.absolute) if grade == _PLAIN else (0.0, 0.0)
        proven, w = False, few
        for q in range(d):
            block[0, q] = x[row, q]
        if grade == _KEYS and k <= live:
            proven = _by_keys(way, tree, block, listed, ids, far)
        while grade in (_PLAIN, _EXACT) and k <= live and not proven:
            proven = _by_distances(way, tree, block, k, w, live, distance, ids[:w], far[:w])
            if w == many:
                break
            w = many
        for slot in range(k if proven else 0):
            distances[row, slot], certain = _rounded(far[slot], *distance, root)
            indices[row, slot] = numbers[ids[slot]] if len(numbers) else ids[slot]
            proven &= certain
        if not proven:
            doubtful[failed] = row
            failed += 1
    return failed
