"""Distances between a packet of rows and leaves or boxes of centres, in float32, and who is near enough.

LLVM's vectoriser will not keep a loop over coordinates of unknown length in registers, nor turn
comparisons into a bit mask; so the two inner loops of a tree (boxes and leaves) are written as vectors
directly. LLVM lowers them on every CPU it knows: two AVX registers here, four NEON registers elsewhere.

Exactness: a box's key and a point's key are the *same* sequence of float32 operations (a subtraction and what
`gaps.joined` makes of it, coordinate by coordinate; no contraction into a fused multiply-add is allowed). Each
operation is monotone in its operands, rounding included, and for every z in the box `x - min(max(x, lo), hi)` is 0 or
has the sign of x - z and no larger a magnitude.
So the box's rounded key never exceeds the rounded key of a point inside: pruning needs no margin.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from janelia_core.ml._simd.emit import Builder, Value, Values, constant, f32, i64, vector
from janelia_core.ml._simd.gaps import joined
from janelia_core.ml._simd.intrinsics import Array, Choice, Int64, intrinsic

LEAF = 16
"""Points of a leaf, and of a packet: the lanes of one vector operation."""
PACKET = 16
NO_ID = 0x7FFFFFFF
"""The id of no point, above all others."""


@intrinsic
def leaf_hits(
    build: Builder,
    way: Choice,
    z: Array,
    leaf: Int64,
    x: Array,
    lane: Int64,
    d: Int64,
    ids: Array,
    key_limits: Array,
    id_limits: Array,
    keys: Array,
) -> Int64:
    """Write a leaf's keys for one query of the packet at keys[lane * LEAF:]; return the mask of those before its limit.

    z holds leaves, LEAF values a coordinate; x holds the packet, PACKET values a coordinate.
    """
    first = build.times(leaf, LEAF)
    points, query = z.at(build.mul(first, d)), x.at(lane)

    def gap(q: Value) -> Value:
        value = build.load(build.behind(query, q, PACKET))
        return build.fsub(build.load(build.behind(points, q, LEAF), LEAF), build.splat(value, LEAF))

    (made,) = totals(build, way, d, [gap])
    build.store(made, keys.at(lane, LEAF))
    limits = (build.splat(build.load(limit.at(lane)), LEAF) for limit in (key_limits, id_limits))
    return _before(build, made, build.load(ids.at(first), LEAF), *limits)


@intrinsic
def box_hits(
    build: Builder,
    way: Choice,
    boxes: Array,
    node: Int64,
    other: Int64,
    lowest: Array,
    x: Array,
    d: Int64,
    key_limits: Array,
    id_limits: Array,
) -> Int64:
    """Return which of the packet's queries may find something before their limit in the boxes of two nodes.

    boxes holds lo, hi of each coordinate of each node in turn, lowest the lowest id inside. The mask of `node` is in
    the PACKET low bits of the result, that of `other` above it: both at once, as either is a long chain of operations.
    """
    packet, size = x.at(), build.times(d, 2)

    def gap(box: Value, q: Value) -> Value:
        side = build.behind(box, q, 2)
        lo, hi = (build.splat(build.load(build.behind(side, end)), PACKET) for end in (0, 1))
        value = build.load(build.behind(packet, q, PACKET), PACKET)
        return build.fsub(value, build.choose("<", build.choose(">", value, lo), hi))

    keys = totals(build, way, d, [partial(gap, boxes.at(build.mul(i, size))) for i in (node, other)])
    limits = [build.load(limit.at(), PACKET) for limit in (key_limits, id_limits)]
    ids = (build.splat(build.load(lowest.at(i)), PACKET) for i in (node, other))
    near, far = (_before(build, key, least, *limits) for key, least in zip(keys, ids, strict=True))
    return build.or_(near, build.shl(far, i64(PACKET)))


def totals(build: Builder, way: Choice, d: Value, gaps: list[Callable[[Value], Value]]) -> Values:
    """Emit what a way makes of gap(q), a vector for a packet, of coordinates q < d for each of some gaps, d >= 1."""

    def term(q: Value, sums: Values) -> Values:
        return [joined(build, way, total, value) for total, value in zip(sums, [gap(q) for gap in gaps], strict=True)]

    return build.count(i64(0), d, 1, [constant(vector(f32, PACKET), 0.0)] * len(gaps), term)


def _before(build: Builder, keys: Value, ids: Value, key_limit: Value, id_limit: Value) -> Value:
    """Emit the bit mask of lanes with `(key, id) < (key_limit, id_limit)`."""
    less = build.fcmp_ordered("<", keys, key_limit)
    tie = build.and_(build.fcmp_ordered("==", keys, key_limit), build.icmp_signed("<", ids, id_limit))
    return build.bits_of(build.or_(less, tie))
