"""Numba kernel of small problems: sixteen rows at a time, one a lane, and float64 for whatever their keys leave open.

A key orders centres nearly as the metric does, in the format of the stored values, of unit roundoff u. Be T a number
that at least k keys of a row do not exceed (`lane_keys.kth_least`). Then a centre with a key above a limit is farther
than k others, and only those within it are looked at in float64:

    squared gaps D^    |D^ - D| <= g D + a, g = gamma(d + 2) as in `bounds.DistanceBound`, a = (d + 2) 2^-126 or 2^-1022
                       for what underflows or is flushed. The k have D <= (T + a) / (1 - g), who is above L has
                       D > (L - a) / (1 + g), so L = T (1 + 4 g) + 4 a does as long as g <= 1/4: (1 + g) / (1 - g)
                       is 1 + 2 g / (1 - g). An overflow or NaN is above L: T stays below 2^100.
    products           level_j - factor_j <x, c_j>, off by at most E: L = T + 2 E.
        distances      levels |c|^2 / 2, factors 1: half of D, less |x|^2 / 2. E = g (|x| C + C^2) + tiny, C the
                       largest norm of a centre, g = gamma(d + 8): gamma(d) |x| |c| for the product in any order
                       (Higham, section 3.1), one rounding of |c|^2 / 2, two of the product with the factor and of the
                       difference.
        dot            levels 0, factors 1. E = g |x| C + tiny.
        cosine         levels 0, factors 1 / |c|, off by 3 u: -|x| times the cosine. E = g |x| + tiny.
                       What underflows is less than 2^-70 a coordinate: threads compute with subnormals here, squared
                       norms are below 2^100, and those that are divided by above 2^-80.

The limit is rounded upward when it is brought to the format of the keys. A list holds the k + 1 first of the centres
within it by (order value, index). A row is `clear` if it lists k or more whose error intervals are disjoint, or if its
order values are integers that float64 holds: then equal means tied.

Under a mask keys of what a row may not have are inf. Where T is so for that, all keys up to 2^126 are within the
limit: what is not listed then has an order value far above 2^100, and a row is clear if the last that counts is below.
It lists k, or all that it may have.
"""

from __future__ import annotations

import numpy as np

from janelia_core.ml._knn.arithmetic.to_float32 import PLAIN, round_root, round_value
from janelia_core.ml._knn.metrics.dot import LEAST_SQUARE
from janelia_core.ml._knn.metrics.metric import COSINE, DISTANCE, DOT, Bound
from janelia_core.ml._knn.small.denied import bits_of_block, deny_all
from janelia_core.ml._knn.small.kernels import is_whole
from janelia_core.ml._runtime.arrays import B8, F32, F64, I64, Reals
from janelia_core.ml._runtime.jit import jit
from janelia_core.ml._simd.bits import first_bit
from janelia_core.ml._simd.lane_keys import (
    CTRS,
    ROWS,
    SHARE,
    STEP,
    gaps_of_one,
    gaps_of_several,
    kth_least,
    lanes_within,
    products_of_one,
    products_of_several,
    rank,
)
from janelia_core.ml._simd.row_sums import product, squared_distance

Question = tuple[int, int, bool, bool, bool]
"""`Metric.form`, k, `Metric.root`, whether keys are products, whether rows are centres and do not meet themselves."""

Heap = tuple[F64, I64, I64]
"""What lies within the limits of a block: order values and row numbers of centres, room for each row, and how many."""

Best = tuple[F64, I64]
"""Room for the first k + 1 of a row."""

_HUGE, _SMALL = 2.0**100, 2.0**-80  # squared norms
_MOST = 2.0**126  # keys; what a limit is more stays below 2^127
_UPWARD = 2.0**-23  # more than what a limit loses when it is rounded to float32


@jit
def nearest_by_lanes(
    question: Question,
    slack: Bound,
    within: Bound,
    x: Reals,
    ctrs: Reals,
    allowed: B8,
    indices: I64,
    strides: tuple[int, int],
    distances: F32,
    clear: B8,
) -> tuple[int, int]:
    """Searches all rows x (n, d) among centres (n_ctrs, d), k of them or more beside a row's own; both in C order.

    Args:
        question: See `Question`.
        slack: How far keys can be off: g and a, or what is tiny.
        within: `Metric.bound`.
        x: Rows.
        ctrs: Centres, of the dtype of the rows, float32 or float64.
        allowed: (n, n_ctrs), which centres rows may have, or (0, 0): all. Where a row has fewer than k, -1 and inf
            are written behind them.
        indices: Two dimensions in C order, written where a row is clear: place t of row i is item
            t * strides[0] + i * strides[1].
        strides: See indices.
        distances: (n, k), written likewise, or empty.
        clear: (n,), written.

    Returns:
        How many rows are not clear, and how many distances float64 leaves in doubt.
    """
    form, k, _, by_product, but_self = question
    n_ctrs, wanted = ctrs.shape[0], k + but_self
    groups = (2 * wanted + CTRS - 1) // CTRS * CTRS
    room, most, width = (n_ctrs + SHARE - 1) // SHARE * SHARE, 2 * wanted + STEP, min(k + 1, n_ctrs - but_self)
    keys, least = np.full(room * ROWS, np.nan, x.dtype), np.empty(groups * ROWS, x.dtype)
    columns, lists = np.empty(x.shape[1] * ROWS, x.dtype), np.empty(wanted * ROWS, x.dtype)
    limits = np.empty(ROWS, x.dtype)
    heap = np.empty(ROWS * (most + STEP)), np.empty(ROWS * (most + STEP), np.int64), np.zeros(ROWS, np.int64)
    best = np.empty(width), np.empty(width, np.int64)
    out = indices.reshape(indices.size), distances.reshape(distances.size), clear
    squares, levels, factors, reach = of_centres(form, by_product, ctrs)
    whole = form != COSINE and is_whole(x) and is_whole(ctrs)
    masked, words, counts = allowed.shape[0] > 0, np.empty(allowed.shape[1], np.uint16), np.full(ROWS, n_ctrs)
    in_doubt, unrounded = 0, 0
    for first in range(0, x.shape[0], ROWS):
        stop = min(first + ROWS, x.shape[0])
        fill_columns(x, first, columns)
        fill_keys(by_product, columns, ctrs, levels, factors, keys, least, groups)
        if masked:
            bits_of_block(allowed, first, stop, but_self, words, counts)
            deny_all(words, keys, least, groups)
        kth_least(least, groups, wanted, lists)
        set_limits(question, slack, reach, x, (first, stop), masked, lists, limits)
        list_those_within(question, x, first, ctrs, squares, keys, limits, heap, best)
        put_in_order(0, stop - first, heap, best)
        doubts = settle(question, whole, within, reach, x, (first, stop), counts, heap, out, strides)
        in_doubt += doubts[0]
        unrounded += doubts[1]
    return in_doubt, unrounded


@jit
def of_centres(form: int, by_product: bool, ctrs: Reals) -> tuple[F64, Reals, Reals, float]:
    """Returns |c|^2, levels and factors of products, and the largest |c|, NaN where products are none; else nothing."""
    n = ctrs.shape[0] if by_product else 0
    squares, levels, factors = np.empty(n), np.zeros(n, ctrs.dtype), np.ones(n, ctrs.dtype)
    largest, sound = 0.0, True
    for j in range(n):
        squares[j] = product(ctrs, j, ctrs, j)
        largest = max(largest, squares[j])
        sound &= squares[j] < _HUGE
        if form == DISTANCE:
            levels[j] = 0.5 * squares[j]
        if form == COSINE and squares[j] > _SMALL:
            factors[j] = 1.0 / np.sqrt(squares[j])
        elif form == COSINE:
            sound = False
    if form == DOT:
        sound &= largest > LEAST_SQUARE
    return squares, levels, factors, np.sqrt(largest) if sound else np.nan


@jit
def fill_columns(x: Reals, first: int, columns: Reals) -> None:
    """Writes rows first and following as columns; behind the last row it is repeated."""
    for lane in range(ROWS):
        i = min(first + lane, x.shape[0] - 1)
        for q in range(x.shape[1]):
            columns[q * ROWS + lane] = x[i, q]


@jit
def fill_keys(
    by_product: bool, columns: Reals, ctrs: Reals, levels: Reals, factors: Reals, keys: Reals, least: Reals, groups: int
) -> None:
    """Writes the keys of a block of rows, and the least of each group."""
    n_ctrs, group = ctrs.shape[0], 0
    several = n_ctrs - n_ctrs % CTRS
    least[:] = np.inf
    for j in range(0, several, CTRS):
        if by_product:
            products_of_several(columns, ctrs, j, levels, factors, keys, least, group)
        else:
            gaps_of_several(columns, ctrs, j, keys, least, group)
        group = group + CTRS if group + CTRS < groups else 0
    for j in range(several, n_ctrs):
        if by_product:
            products_of_one(columns, ctrs, j, levels, factors, keys, least, group)
        else:
            gaps_of_one(columns, ctrs, j, keys, least, group)
        group += 1


@jit
def set_limits(
    question: Question,
    slack: Bound,
    reach: float,
    x: Reals,
    rows: tuple[int, int],
    masked: bool,
    lists: Reals,
    limits: Reals,
) -> None:
    """Writes L of each row of a block, rounded upward, from its T; NaN where keys say nothing, and behind the last."""
    (form, _, _, by_product, _), (first, stop) = question, rows
    for lane in range(ROWS):
        i, t, limit = first + lane, np.float64(lists[lists.shape[0] - ROWS + lane]), np.nan
        t = np.float64(_MOST) if masked and t == np.inf else t
        if i < stop and by_product:
            square = product(x, i, x, i)
            if (LEAST_SQUARE if form != DISTANCE else -1.0) < square < _HUGE and reach >= 0.0 and t < np.inf:
                size = np.sqrt(square) * (1.0 if form == COSINE else reach)
                size += reach * reach if form == DISTANCE else 0.0
                limit = t + 2.0 * (slack[0] * size * (1.0 + 2.0**-20) + slack[1])
        elif i < stop and (t < _HUGE or t == _MOST):
            limit = t * (1.0 + 4.0 * slack[0]) + 4.0 * slack[1]
        limits[lane] = limit + abs(limit) * _UPWARD


@jit
def list_those_within(
    question: Question,
    x: Reals,
    first: int,
    ctrs: Reals,
    squares: F64,
    keys: Reals,
    limits: Reals,
    heap: Heap,
    best: Best,
) -> None:
    """Lists, for each row of a block, the centres within its limit, with float64 order values."""
    form, but_self, (near, who, held) = question[0], question[4], heap
    room = near.shape[0] // ROWS
    for shared in range(0, keys.shape[0] // ROWS, SHARE):
        mask = lanes_within(keys, shared, limits)
        while mask != 0:
            bit = first_bit(mask)
            mask &= mask - np.uint64(1)
            j, lane = shared + (bit >> 4), bit & (ROWS - 1)  # ROWS is 2^4
            i, place = first + lane, lane * room + held[lane]
            if but_self and i == j:
                continue
            if form == DISTANCE:
                value = squared_distance(x, i, ctrs, j)
            elif form == DOT:
                value = -product(x, i, ctrs, j)
            else:
                value = 1.0 - product(x, i, ctrs, j) / (np.sqrt(product(x, i, x, i)) * np.sqrt(squares[j]))
            if held[lane] == room - STEP:  # the first of them are enough
                put_in_order(lane, lane + 1, heap, best)
                place = lane * room + held[lane]
            near[place], who[place] = value, j
            held[lane] += 1


@jit
def put_in_order(first: int, stop: int, heap: Heap, best: Best) -> None:
    """Leaves of the entries of some lanes the first, in the order of (value, index)."""
    (near, who, held), (values, ids) = heap, best
    room = near.shape[0] // ROWS
    for lane in range(first, stop):
        start, n = lane * room, held[lane]
        for at in range(start + n, start + n + STEP):
            near[at] = np.inf
        for at in range(n):
            place = rank(near, start, n, near[start + at], at)
            if place < values.shape[0]:
                values[place], ids[place] = near[start + at], who[start + at]
        held[lane] = min(n, values.shape[0])
        for place in range(held[lane]):
            near[start + place], who[start + place] = values[place], ids[place]


@jit
def settle(
    question: Question,
    whole: bool,
    within: Bound,
    reach: float,
    x: Reals,
    rows: tuple[int, int],
    counts: I64,
    heap: Heap,
    out: tuple[I64, F32, B8],
    strides: tuple[int, int],
) -> tuple[int, int]:
    """Writes what the lists of a block, in order, prove; returns how many rows and distances they leave in doubt."""
    (form, k, root, _, _), (near, who, held), (indices, distances, clear) = question, heap, out
    room, in_doubt, unrounded = near.shape[0] // ROWS, 0, 0
    for i in range(rows[0], rows[1]):
        start, n, least = (i - rows[0]) * room, held[i - rows[0]], min(k, counts[i - rows[0]])
        held[i - rows[0]] = 0
        relative, absolute = within
        if form == DOT:
            absolute += relative * np.sqrt(product(x, i, x, i)) * reach
        if form != DISTANCE:
            relative = 0.0
        apart = True
        for place in range(start + 1, start + n):
            low, high = near[place - 1], near[place]
            apart &= high - abs(high) * relative - absolute > low + abs(low) * relative + absolute
        clear[i] = n >= least and (least == 0 or near[start + least - 1] < _HUGE) and (apart or whole)
        if not clear[i]:
            in_doubt += 1
            continue
        for place in range(k):
            indices[place * strides[0] + i * strides[1]] = who[start + place] if place < least else -1
        for place in range(least, k if distances.shape[0] > 0 else 0):
            distances[i * k + place] = np.inf
        for place in range(least if distances.shape[0] > 0 else 0):
            far = near[start + place]
            if root and far > PLAIN:
                value, certain = round_root(far, relative)
            else:
                value, certain = round_value(far, abs(far) * relative + absolute, root)
            distances[i * k + place] = value
            unrounded += not certain
    return in_doubt, unrounded
