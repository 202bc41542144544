"""The k-th best of what a row has listed is a threshold that k centres reach; what falls below it goes.

Found by bisection of bits, largest first: twenty-four counts, whatever k is, and what the lower bits would add is
left out: a threshold may be lower. Lists are kept in their order.
"""

from __future__ import annotations

import triton
import triton.language as tl

from janelia_core.ml._knn.screens.rerank import doubt as reasons
from janelia_core.ml._knn.screens.triton.bounds import NEVER

_LEAST: tl.constexpr = tl.constexpr(-(2**31))
_OVERFLOW: tl.constexpr = tl.constexpr(reasons.OVERFLOW)
_ROUNDED: tl.constexpr = tl.constexpr(2.0**-21)
_NOBODY: tl.constexpr = tl.constexpr(NEVER / 2)
_STRANGE: tl.constexpr = tl.constexpr(reasons.STRANGE)


@triton.jit
def _kth(values, k):
    """The k-th largest of values (n,), none of them NaN, or a little less (2^-15 of it); -inf where there are fewer."""
    bits = values.to(tl.int32, bitcast=True)
    keys = tl.where(bits < 0, bits ^ 0x7FFFFFFF, bits)  # as integers in the order of the numbers
    found = tl.sum((keys >= 0).to(tl.int32), axis=0) >= k
    key = tl.where(found, 0, _LEAST)
    step = 1 << 30
    for _ in range(23):
        higher = key + step
        key = tl.where(tl.sum((keys >= higher).to(tl.int32), axis=0) >= k, higher, key)
        step = step >> 1
    key = tl.maximum(key, -2139095041)  # that of -inf
    return tl.where(key < 0, key ^ 0x7FFFFFFF, key).to(tl.float32, bitcast=True)


@triton.jit
def _proven(threshold):
    """A threshold, or -inf where centres that are out of range may have made it: these have no lower bound."""
    return tl.where(threshold < _NOBODY, float("-inf"), threshold)


@triton.jit
def _may_reach(least, group, there, threshold, z, r, extremes, NG: tl.constexpr):
    """Whether a group that is sure of `least` may hold a centre that reaches the threshold."""
    tile = group // NG
    q = tl.load(extremes + tile * 4, mask=there, other=0.0)
    u = tl.load(extremes + tile * 4 + 1, mask=there, other=0.0)
    high = tl.load(extremes + tile * 4 + 2, mask=there, other=0.0)
    low = tl.load(extremes + tile * 4 + 3, mask=there, other=0.0)
    # From `least` the maximum comes back, but for what roundings have taken of the lower bound (see `bounds`, 4); a
    # tile whose lower bound is -inf has kept no number that would tell.
    reach = least + (high - low) + 2.0 * (z * q + r * u) + _ROUNDED * tl.abs(low)
    return there & ((low == float("-inf")) | (reach >= threshold))


@triton.jit(do_not_specialize=["n", "width", "parts", "k"])
def choose_first(
    stored, row_numbers, extremes, strange, thresholds, lists, counts, doubt, n, width, parts, k,
    P2: tl.constexpr, NG: tl.constexpr, STEP: tl.constexpr, CAP: tl.constexpr, MASKED: tl.constexpr,
    KNOWN: tl.constexpr,
):  # fmt: skip
    """Of what `scan` stored of a row (n, width): its threshold, and lists of the groups that reach it (the first part).

    KNOWN: The threshold is there; else it is the k-th of the P2 >= width numbers.
    """
    row = tl.program_id(0).to(tl.int64)
    z, r = tl.load(row_numbers + row), tl.load(row_numbers + n + row)
    fine = (tl.load(row_numbers + 2 * n + row) < float("inf")) & (tl.load(strange) == 0)
    if KNOWN:
        threshold = tl.load(thresholds + row)
    else:
        all_of_it = tl.arange(0, P2)
        threshold = _kth(tl.load(stored + row * width + all_of_it, mask=all_of_it < width, other=float("-inf")), k)
    threshold = tl.where(fine, _proven(threshold), float("inf"))
    wanted = tl.where(fine, width, 0)
    total = tl.zeros((8,), tl.int32)
    for start in range(0, wanted, STEP):
        at = start + tl.arange(0, STEP)
        there = at < wanted
        least = tl.load(stored + row * width + at, mask=there, other=float("-inf"))
        hit = _may_reach(least, at, there, threshold, z, r, extremes, NG)
        if MASKED:
            hit = hit & (least > float("-inf"))
        hits = tl.reshape(hit.to(tl.int32), (STEP // 8, 8))
        slot = tl.reshape(total[None, :] + tl.cumsum(hits, axis=0) - hits, (STEP,))
        where = lists + ((row * parts * 8 + at % 8) * CAP + slot) * 2
        kept = hit & (slot < CAP)
        tl.store(where, least.to(tl.int32, bitcast=True), mask=kept)
        tl.store(where + 1, at, mask=kept)
        total += tl.sum(hits, axis=0)
    tl.store(counts + row * parts * 8 + tl.arange(0, 8), tl.minimum(total, CAP))
    for part in range(1, parts):
        tl.store(counts + (row * parts + part) * 8 + tl.arange(0, 8), 0)
    full = tl.max(total, axis=0) > CAP
    tl.store(thresholds + row, threshold)
    tl.store(doubt + row, tl.where(fine, tl.where(full, _OVERFLOW, 0), _STRANGE))


@triton.jit(do_not_specialize=["n", "k", "n_lists"])
def choose_again(
    row_numbers, extremes, thresholds, lists, counts, doubt, n, k, n_lists,
    LISTS: tl.constexpr, CAP: tl.constexpr,
):  # fmt: skip
    """Raise a row's threshold by what is listed now, and leave in its n_lists <= LISTS lists what reaches it."""
    row = tl.program_id(0).to(tl.int64)
    which = tl.arange(0, LISTS)
    slots = tl.arange(0, CAP)
    length = tl.load(counts + row * n_lists + which, mask=which < n_lists, other=0)
    there = slots[None, :] < length[:, None]
    where = lists + ((row * n_lists + which[:, None]) * CAP + slots[None, :]) * 2
    least = tl.load(where, mask=there, other=0).to(tl.float32, bitcast=True)
    group = tl.load(where + 1, mask=there, other=0)
    before = tl.load(thresholds + row)
    alone = tl.reshape(tl.where(there, least, float("-inf")), (LISTS * CAP,))
    threshold = tl.maximum(_proven(_kth(alone, k)), before)
    hit = _may_reach(
        least, group, there, threshold, tl.load(row_numbers + row), tl.load(row_numbers + n + row), extremes, 8
    )
    hits = hit.to(tl.int32)
    slot = tl.cumsum(hits, axis=1) - hits
    tl.debug_barrier()
    where = lists + ((row * n_lists + which[:, None]) * CAP + slot) * 2
    tl.store(where, least.to(tl.int32, bitcast=True), mask=hit)
    tl.store(where + 1, group, mask=hit)
    tl.store(counts + row * n_lists + which, tl.sum(hits, axis=1), mask=which < n_lists)
    tl.store(thresholds + row, threshold)
    if tl.max(length, axis=0) > CAP:
        tl.store(doubt + row, tl.load(doubt + row) | _OVERFLOW)
