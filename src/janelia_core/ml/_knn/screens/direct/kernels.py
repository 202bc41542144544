"""Numba kernels of the direct screen: keys of all centres with a few rows, and of each row the lowest.

Centres are read as they are stored, a block that caches hold at a time, and each block is used for all rows. Long
points are summed along their coordinates (`run_tiles`); short ones, of at most SHORT, are gathered into columns first,
so that a vector holds a coordinate of many centres.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from janelia_core.ml._knn.data.mask_kernels import Bits, is_allowed
from janelia_core.ml._knn.metrics.dot import LARGEST_SQUARE, LEAST_SQUARE
from janelia_core.ml._knn.metrics.metric import COSINE, DISTANCE
from janelia_core.ml._runtime.arrays import F64, I64, Reals
from janelia_core.ml._runtime.jit import inlined, jit, jit_with
from janelia_core.ml._simd.bits import first_bit
from janelia_core.ml._simd.row_sums import product
from janelia_core.ml._simd.run_tiles import BYTES, CELLS, CTRS, ROWS, low_gaps, low_products

LEAST_SQUARE32, LARGEST_SQUARE32 = 2.0**-80, 2.0**100
_BLOCK = 1 << 12  # coordinates of centres at a time
_COLUMNS = 256  # short centres at a time


Part = tuple[int, int, int]


class FewRows(NamedTuple):
    """Rows as kernels take them, n a multiple of ROWS; those beyond the r that were asked for have limits of -inf.

    Fields:
        points: (n, length), as `run_tiles` wants them; of at most SHORT coordinates, as they are.
        reach: (n * CTRS,), of each row CTRS times: what a centre's shift counts.
        limits: (n * CTRS,), likewise: a key that is not below need not be listed.
    """

    points: Reals
    reach: Reals
    limits: Reals


class Terms(NamedTuple):
    """What makes keys of sums: sum * scale + reach * shift, of each centre of a block."""

    scale: Reals
    shift: Reals


class Lowest(NamedTuple):
    """The lowest keys of r rows so far, each list a heap: entry q is at least as high as 2 q + 1 and 2 q + 2.

    Fields:
        keys: (r, w).
        ids: (r, w) int64.
        n: (r,) int64; how many there are.
    """

    keys: Reals
    ids: I64
    n: I64


@inlined
def _move(keys: Reals, ids: I64, row: np.uint64, old: np.uint64, new: np.uint64) -> None:
    keys[row, new], ids[row, new] = keys[row, old], ids[row, old]


@jit
def enter(lowest: Lowest, i: int, key: float, j: int, limits: Reals) -> None:
    """Lists centre j, which has a key below row i's limit, in the place of the highest where the list is full."""
    keys, ids, row, width, n = lowest.keys, lowest.ids, np.uint64(i), lowest.keys.shape[1], lowest.n[i]
    if n < width:
        place, lowest.n[i] = n, n + 1
        while place > 0 and keys[row, np.uint64((place - 1) // 2)] < key:
            above = (place - 1) // 2
            _move(keys, ids, row, np.uint64(above), np.uint64(place))
            place = above
    else:
        place, below = 0, 1
        while below < width:
            if below + 1 < width and keys[row, np.uint64(below + 1)] > keys[row, np.uint64(below)]:
                below += 1
            if keys[row, np.uint64(below)] <= key:
                break
            _move(keys, ids, row, np.uint64(below), np.uint64(place))
            place, below = below, 2 * below + 1
    keys[row, np.uint64(place)], ids[row, np.uint64(place)] = key, j
    if lowest.n[i] == width:
        limits[i * CTRS : (i + 1) * CTRS] = keys[row, np.uint64(0)]


@inlined
def _largest(bits: Reals, start: int, stop: int, so_far: int) -> int:
    """The largest magnitude of the flat floats with bits[start:stop], as bits; those of NaN are above all others."""
    magnitude, most = np.iinfo(bits.dtype).max, bits.dtype.type(so_far)
    for i in range(np.uint64(start), np.uint64(stop)):
        most = max(most, bits[i] & bits.dtype.type(magnitude))
    return int(most)


@jit_with(error_model="numpy")
def _set_terms(form: int, ctrs: Reals, first: int, n: int, squares: F64, terms: Terms) -> bool:
    """Writes the terms of n centres, given squared norms; returns whether bounds allow these (`sweep_long`)."""
    scale, shift, beyond = terms.scale, terms.shift, 0
    single = ctrs.itemsize == 4
    least, most = (LEAST_SQUARE32, LARGEST_SQUARE32) if single else (LEAST_SQUARE, LARGEST_SQUARE)
    if form == COSINE:
        for t in range(np.uint64(n)):
            scale[t] = -1.0 / np.sqrt(squares[t])
            beyond += not (least <= squares[t] <= most)
        if beyond > 0:
            for t in range(n):
                if not squares[t] >= least and _is_zero(ctrs, first + t):
                    scale[t], beyond = 0.0, beyond - 1
    else:
        for t in range(np.uint64(n)):
            scale[t], shift[t] = -1.0, np.sqrt(squares[t]) * (-1.0 - 2.0**-22)
            beyond += not squares[t] <= most
    return beyond == 0


@jit
def _is_zero(ctrs: Reals, j: int) -> bool:
    """Whether a centre is the zero vector."""
    other = 0
    for q in range(ctrs.shape[1]):
        other += ctrs[j, q] != 0.0
    return other == 0


@inlined
def _fill_keys(form: int, rows: FewRows, i: int, columns: Reals, n: int, terms: Terms, keys: Reals) -> int:
    """Writes the keys of row i with n centres in columns (d, n); returns how many are below its limit."""
    points, scale, shift = rows.points, terms.scale, terms.shift
    row, reach, limit = np.uint64(i), rows.reach[i * CTRS], rows.limits[i * CTRS]
    for t in range(np.uint64(n)):
        keys[t] = 0.0
    for q in range(np.uint64(columns.shape[0])):
        at = points[row, q]
        if form == DISTANCE:
            for t in range(np.uint64(n)):
                gap = at - columns[q, t]
                keys[t] += gap * gap
        else:
            for t in range(np.uint64(n)):
                keys[t] += at * columns[q, t]
    low = 0
    if form == DISTANCE:
        for t in range(np.uint64(n)):
            low += keys[t] < limit
    else:
        for t in range(np.uint64(n)):
            key = keys[t] * scale[t] + reach * shift[t]
            keys[t] = key
            low += key < limit
    return low


@jit
def sweep_short(
    form: int, rows: FewRows, ctrs: Reals, bits: Reals, part: Part, allowed: Bits, lowest: Lowest
) -> tuple[int, bool]:
    """As `sweep_long`, of centres of at most SHORT coordinates."""
    (start, stop, first), d, limits = part, ctrs.shape[1], rows.limits
    columns, keys = np.empty((d, _COLUMNS), ctrs.dtype), np.empty(_COLUMNS, ctrs.dtype)
    terms, squares = Terms(np.ones(_COLUMNS, ctrs.dtype), np.zeros(_COLUMNS, ctrs.dtype)), np.empty(_COLUMNS)
    largest, moderate = 0, True
    for block in range(start, stop, _COLUMNS):
        n = min(_COLUMNS, stop - block)
        largest = _largest(bits, block * d, (block + n) * d, largest)
        for t in range(np.uint64(n)):
            for q in range(np.uint64(d)):
                columns[q, t] = ctrs[np.uint64(block) + t, q]
        if form != DISTANCE:
            squares[:] = 0.0
            for q in range(np.uint64(d)):
                for t in range(np.uint64(n)):
                    squares[t] += np.float64(columns[q, t]) * np.float64(columns[q, t])
            moderate &= _set_terms(form, ctrs, block, n, squares, terms)
        for i in range(lowest.n.shape[0]):
            if _fill_keys(form, rows, i, columns, n, terms, keys) > 0:
                for t in range(n):
                    if keys[t] < limits[i * CTRS] and is_allowed(allowed, i, first + block + t):
                        enter(lowest, i, keys[t], first + block + t, limits)
    return largest, moderate


@jit
def _enter_one(
    form: int, rows: FewRows, ctrs: Reals, j: int, terms: Terms, t: int, first: int, allowed: Bits, lowest: Lowest
) -> None:
    """Looks at centre j, of long ones, with all rows; its terms have number t."""
    points, reach, limits, d = rows.points, rows.reach, rows.limits, ctrs.shape[1]
    for i in range(lowest.n.shape[0]):
        key = ctrs.dtype.type(0.0)
        for q in range(d):
            at = points[i, q if q < points.shape[1] - BYTES // ctrs.itemsize else q + points.shape[1] - d]
            if form == DISTANCE:
                key += (at - ctrs[j, q]) * (at - ctrs[j, q])
            else:
                key += at * ctrs[j, q]
        key = key * terms.scale[t] + reach[i * CTRS] * terms.shift[t]
        if key < limits[i * CTRS] and is_allowed(allowed, i, first + j):
            enter(lowest, i, key, first + j, limits)


@jit
def sweep_long(
    form: int, rows: FewRows, ctrs: Reals, bits: Reals, part: Part, allowed: Bits, lowest: Lowest
) -> tuple[int, bool]:
    """Looks at a part of the centres, of more than SHORT coordinates, with all rows; lists the lowest keys.

    Args:
        form: `Metric.form`; the keys are those of `direct.screen`.
        rows: The rows, of the type of ctrs.
        ctrs: (n_ctrs, d) centres in C order, float32 or float64.
        bits: Their bits, flat, as integers of as many bits.
        part: (start, stop, first), where first is added to the numbers of centres.
        allowed: Which centres each row may have, as those numbers say; (0, 0): all. Others are not listed.
        lowest: Those of the rows asked for.

    Returns:
        The largest magnitude of a coordinate, as bits (beyond those of infinity: NaN), and whether the norms of all
        centres are zero or such that no product leaves the type; distances do not ask.
    """
    (start, stop, first), d, limits, n_rows = part, ctrs.shape[1], rows.limits, rows.points.shape[0]
    size = max(1, _BLOCK // d // CTRS) * CTRS
    terms, squares = Terms(np.ones(size, ctrs.dtype), np.zeros(size, ctrs.dtype)), np.empty(size)
    keys = np.empty(CELLS, ctrs.dtype)
    largest, moderate = 0, True
    for block in range(start, stop, size):
        n = min(size, stop - block)
        largest = _largest(bits, block * d, (block + n) * d, largest)
        if form != DISTANCE:
            for t in range(n):
                squares[t] = product(ctrs, block + t, ctrs, block + t)
            moderate &= _set_terms(form, ctrs, block, n, squares, terms)
        whole = n // CTRS * CTRS
        for row in range(0, n_rows, ROWS):
            for t in range(0, whole, CTRS):
                if form == DISTANCE:
                    mask = low_gaps(rows, row, ctrs, block + t, terms, t, keys)
                else:
                    mask = low_products(rows, row, ctrs, block + t, terms, t, keys)
                while mask != 0:
                    cell = first_bit(mask)
                    mask &= mask - np.uint64(1)
                    i, j = row + cell // CTRS, block + t + cell % CTRS
                    if keys[cell] < limits[i * CTRS] and is_allowed(allowed, i, first + j):
                        enter(lowest, i, keys[cell], first + j, limits)
        for t in range(whole, n):
            _enter_one(form, rows, ctrs, block + t, terms, t, first, allowed, lowest)
    return largest, moderate
