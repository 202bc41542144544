"""Points in the order of the curve, coordinate by coordinate, and the boxes of leaves."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def arrange(points, order, out, n, room, filler, D: tl.constexpr, BLOCK: tl.constexpr):
    """Write out (D, room): coordinate by coordinate, points (n, D) in `order` (n,) int64, and filler behind them."""
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    here = at < n
    rows = tl.load(order + at, mask=here, other=0)
    for q in tl.static_range(D):
        z = tl.load(points + rows * D + q, mask=here, other=filler)
        tl.store(out + q * room.to(tl.int64) + at, z, mask=at < room)


@triton.jit
def box_leaves(centres, low, high, room, leaves, nodes, D: tl.constexpr, LEAF: tl.constexpr, BLOCK: tl.constexpr):
    """Write the first `leaves` of low, high (D, nodes): the extremes of the finite ones in each LEAF of (D, room)."""
    leaf = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    at = leaf[:, None] * LEAF + tl.arange(0, LEAF)[None, :]
    for q in tl.static_range(D):
        z = tl.load(centres + q * room.to(tl.int64) + at, mask=at < room, other=float("inf"))
        where = q * nodes.to(tl.int64) + leaf
        tl.store(low + where, tl.min(z, axis=1), mask=leaf < leaves)
        tl.store(high + where, tl.max(tl.where(z < float("inf"), z, float("-inf")), axis=1), mask=leaf < leaves)
