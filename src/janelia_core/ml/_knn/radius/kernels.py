"""Numba kernels that verify listed pairs by float64 order values: who is within a threshold, and in which order.

A threshold is a double-double T = hi + lo, hi the nearest float64 to T, in the units of order values. An order value
v^ with error e stands for v in [v^ - e, v^ + e]; `metric.bound` pays for evaluating these ends, and so do `dot_value`
and `cosine_value`, but for two roundings, for which e is taken larger by a bit of v^ wherever it isn't 0. As hi is
nearest to T, float64 numbers compare with T as with hi, but for hi itself, which is within if lo >= 0.

Whoever is certainly without is dropped; who may be either stays, and the row is flagged. So is a row in whose order two
intervals overlap, unless the centres are identical, equal values are exact, or double-double differences settle it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from janelia_core.ml._knn.metrics.metric import DISTANCE, Bound
from janelia_core.ml._knn.settle.kernels import settle_run
from janelia_core.ml._knn.verify.kernels import identical, precedes, sort
from janelia_core.ml._knn.verify.pair_kernels import square_of_gap, value_of_pair
from janelia_core.ml._runtime.arrays import F64, I64, U8, Reals
from janelia_core.ml._runtime.jit import inlined, jit
from janelia_core.ml._simd.row_sums import prefetch, product

NO_ORDER, BY_VALUE, BY_INDEX = range(3)
"""How a row's pairs are sorted; without order they stay where they are and are only counted."""
MEMBER, ORDER = 1, 2
"""Flags of a row: float64 can't tell whether some pair is within, or in which order some pairs come."""
_AHEAD = 12  # pairs: centres come from all over memory
_FEW = 24  # pairs: of more, insertion takes longer
_LONGEST = 64  # centres that rounding cannot tell apart, of a row: more are settled elsewhere


class Pairs(NamedTuple):
    """Listed centres of r rows, and their thresholds.

    Attributes:
        x: (r, d) rows, C order.
        ctrs: (n_ctrs, d) centres, likewise.
        counts: (r,) int64, how many are listed for each row.
        indices: (p,) int64 row numbers of centres, row after row.
        high: (r,) float64, hi.
        low: (r,) float64, lo.
        own: (r,) int64, a centre that is not meant, of each row; (): there is none.
    """

    x: Reals
    ctrs: Reals
    counts: I64
    indices: I64
    high: F64
    low: F64
    own: I64


@inlined
def _value(form: int, within: Bound, x: Reals, i: int, ctrs: Reals, j: int, x_square: float) -> tuple[float, float]:
    if form != DISTANCE:
        value, error = value_of_pair(form, within, x, i, ctrs, j, x_square)
        return value, error + (0.0 if error == 0.0 else 2.0**-51 * abs(value))
    value = square_of_gap(x, i, ctrs, j)
    return value, value * within[0] + within[1]


@jit
def keep_within(form: int, within: Bound, pairs: Pairs, order: int, kept: I64, values: F64, flags: U8) -> int:
    """Keep the pairs that may be within their row's threshold, each row's sorted.

    Args:
        form: `Metric.form`.
        within: `Metric.bound`; zeros where no order value rounds.
        pairs: What is listed. Unless NO_ORDER is asked for, its indices are overwritten: first come those kept.
        order: See above.
        kept: (r,), written: how many of each row are kept.
        values: (p,), written for those kept, like indices; () without order.
        flags: (r,), written.

    Returns:
        How many are kept in all.
    """
    x, ctrs, counts, indices, high, low, own = pairs
    most, total, first = 0, 0, 0
    for i in range(counts.shape[0]):
        most = max(most, counts[i])
    keys, spare_keys = np.empty(most), np.empty(most)
    ids, spare_ids = np.empty(most, np.int64), np.empty(most, np.int64)
    scratch, exact = np.empty((2, _LONGEST)), within[0] == 0.0 and within[1] == 0.0
    for i in range(counts.shape[0]):
        x_square = product(x, i, x, i) if form != DISTANCE else 0.0
        hi, lo, mine, n, doubt, worst = high[i], low[i], own[i] if len(own) else -1, 0, 0, 0.0
        for place in range(first, first + counts[i]):
            prefetch(ctrs, indices[min(place + _AHEAD, indices.shape[0] - 1)])
            if indices[place] == mine:
                continue
            value, error = _value(form, within, x, i, ctrs, indices[place], x_square)
            last, least = value + error, value - error
            inside = last < hi or (last == hi and lo >= 0.0)
            if not inside:
                if least > hi or (least == hi and lo < 0.0):
                    continue
                doubt += 1
            keys[n], ids[n], worst = value, indices[place], max(worst, error)
            n += 1
        first += counts[i]
        flag = np.uint8(MEMBER if doubt > 0 else 0)
        if order == BY_VALUE:
            _sort_by_value(keys, ids, n, spare_keys, spare_ids)
            if not exact:
                off = within if form == DISTANCE else (0.0, worst)
                sure = _settle(form == DISTANCE, off, x, i, ctrs, keys, ids, n, scratch)
                flag |= np.uint8(0 if sure else ORDER)
        elif order == BY_INDEX:
            _sort_by_index(keys, ids, n, spare_keys, spare_ids)
        if order != NO_ORDER:
            for slot in range(n):
                indices[total + slot], values[total + slot] = ids[slot], keys[slot]
        kept[i], flags[i] = n, flag
        total += n
    return total


@jit
def _sort_by_value(keys: F64, ids: I64, n: int, spare_keys: F64, spare_ids: I64) -> None:
    if n > _FEW:
        if sort(keys, ids, n, spare_keys, spare_ids):
            keys[:n], ids[:n] = spare_keys[:n], spare_ids[:n]
        return
    for slot in range(1, n):
        far, j, place = keys[slot], ids[slot], slot
        while place > 0 and precedes(far, j, keys[place - 1], ids[place - 1]):
            keys[place], ids[place] = keys[place - 1], ids[place - 1]
            place -= 1
        keys[place], ids[place] = far, j


@jit
def _sort_by_index(keys: F64, ids: I64, n: int, spare_keys: F64, spare_ids: I64) -> None:
    if n > _FEW:
        order = np.argsort(ids[:n])
        spare_keys[:n], spare_ids[:n] = keys[:n][order], ids[:n][order]
        keys[:n], ids[:n] = spare_keys[:n], spare_ids[:n]
        return
    for slot in range(1, n):
        far, j, place = keys[slot], ids[slot], slot
        while place > 0 and j < ids[place - 1]:
            keys[place], ids[place] = keys[place - 1], ids[place - 1]
            place -= 1
        keys[place], ids[place] = far, j


@jit
def _settle(
    settles: bool, error: Bound, x: Reals, i: int, ctrs: Reals, keys: F64, ids: I64, n: int, scratch: F64
) -> bool:
    """Whether the order of n sorted centres of row i is proven, after runs of near-ties are put in order."""
    (relative, absolute), first, proven = error, 0, True
    for stop in range(1, n + 1):
        if stop < n and not keys[stop] - keys[stop] * relative - absolute > (
            keys[stop - 1] + keys[stop - 1] * relative + absolute
        ):
            continue
        if stop - first > 1:
            alike = True
            for slot in range(first + 1, stop):
                alike = alike and identical(ctrs, ids[first], ids[slot])
            if not alike:
                short = settles and stop - first <= _LONGEST
                proven = short and settle_run(x, i, ctrs, ids, first, stop, scratch) and proven
                for slot in range(first, stop if short else first):  # they may have changed places
                    keys[slot] = square_of_gap(x, i, ctrs, ids[slot])
        first = stop
    return proven


@jit
def put_runs(positions: I64, counts: I64, offsets: I64, block: Reals, out: I64) -> None:
    """Write the lists of some rows, which stand one after the other in a block, where they belong.

    Args:
        positions: (r,) the rows.
        counts: (n,) how long the list of each row is, of all rows.
        offsets: (n + 1,) where it begins in out.
        block: (p,) the lists of these rows.
        out: Written.
    """
    place = 0
    for row in positions:
        start = offsets[row]
        for slot in range(counts[row]):
            out[start + slot] = block[place + slot]
        place += counts[row]
