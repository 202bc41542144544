"""Of the groups that a row has listed, the centres whose scores may reach its threshold."""

from __future__ import annotations

import triton
import triton.language as tl

from janelia_core.ml._knn.screens.rerank import doubt as reasons

_OVERFLOW: tl.constexpr = tl.constexpr(reasons.OVERFLOW)
_CROWDED: tl.constexpr = tl.constexpr(reasons.CROWDED)


@triton.jit(do_not_specialize=["n", "n_packed", "n_ctrs", "n_lists"])
def list_members(
    x, c, row_numbers, numbers, order, shown, thresholds, lists, counts, live_groups, found, n_found, doubt,
    n, n_packed, n_ctrs, n_lists,
    W: tl.constexpr, BK: tl.constexpr, G: tl.constexpr, NG: tl.constexpr, GROUPS: tl.constexpr, TOGETHER: tl.constexpr,
    CAP: tl.constexpr, KEEP: tl.constexpr, MASKED: tl.constexpr, ORDERED: tl.constexpr,
):  # fmt: skip
    """Score the members of a row's groups, GROUPS at a time, and list in found (n, KEEP) which centres these are.

    order (n_packed,): the row number of a packed centre, -1: none; without ORDERED the first n_ctrs are as they come.
    live_groups (n, KEEP): room for the groups.
    Their scores are float32 sums of float16 products in some order, so that the bounds of the tiles hold for them, too.
    """
    row = tl.program_id(0).to(tl.int64)
    threshold = tl.load(thresholds + row)
    z, r = tl.load(row_numbers + row), tl.load(row_numbers + n + row)
    slots = tl.arange(0, CAP)
    n_groups = 0
    full = 0
    for first in range(0, n_lists, TOGETHER):
        which = first + tl.arange(0, TOGETHER)
        length = tl.load(counts + row * n_lists + which, mask=which < n_lists, other=0)
        there = slots[None, :] < length[:, None]
        where = lists + ((row * n_lists + which[:, None]) * CAP + slots[None, :]) * 2
        group = tl.load(where + 1, mask=there, other=0)
        alone = tl.reshape(tl.where(there, group, -1), (TOGETHER * CAP,))
        one = (alone >= 0).to(tl.int32)
        slot = n_groups + tl.cumsum(one, axis=0) - one
        tl.store(live_groups + row * KEEP + slot, alone, mask=(alone >= 0) & (slot < KEEP))
        n_groups += tl.sum(one, axis=0)
        full = tl.maximum(full, tl.max(length, axis=0))
    tl.debug_barrier()
    lost = tl.where(full > CAP, _OVERFLOW, 0)
    lost = lost | tl.where(n_groups > KEEP, _CROWDED, 0)
    n_groups = tl.minimum(n_groups, KEEP)
    total = 0
    columns = tl.arange(0, BK)
    inside = tl.arange(0, GROUPS * G)
    for at in range(0, n_groups, GROUPS):
        place = at + inside // G
        of = tl.load(live_groups + row * KEEP + place, mask=place < n_groups, other=-1)
        centre = (of // NG) * (NG * G) + of % NG + NG * (inside % G)
        known = of >= 0
        number = tl.where(centre < n_ctrs, centre, -1)
        if ORDERED:
            number = tl.load(order + centre, mask=known, other=-1)
        known = known & (number >= 0)
        if MASKED:
            known = known & (tl.load(shown + row * n_ctrs + centre, mask=known, other=0) != 0)
        score = tl.zeros((GROUPS * G,), tl.float32)
        for k in range(0, W, BK):
            here = columns + k < W
            own = tl.load(x + row * W + k + columns, mask=here, other=0.0).to(tl.float32)
            others = tl.load(
                c + centre.to(tl.int64)[:, None] * W + (k + columns)[None, :],
                mask=known[:, None] & here[None, :],
                other=0.0,
            )
            score += tl.sum(others.to(tl.float32) * own[None, :], axis=1)
        q = tl.load(numbers + centre, mask=known, other=0.0)
        u = tl.load(numbers + n_packed + centre, mask=known, other=0.0)
        high = tl.load(numbers + 2 * n_packed + centre, mask=known, other=0.0)
        hit = known & (score + high + (z * q + r * u) >= threshold)
        new = hit.to(tl.int32)
        at_last = total + tl.cumsum(new, axis=0) - new
        tl.store(found + row * KEEP + at_last, number, mask=hit & (at_last < KEEP))
        total += tl.sum(new, axis=0)
    lost = lost | tl.where(total > KEEP, _CROWDED, 0)
    tl.store(n_found + row, tl.minimum(total, KEEP))
    tl.store(doubt + row, tl.load(doubt + row) | lost)
