"""Vector instructions of the tree screen: Numba intrinsics over fixed-width LLVM vectors (lists: `tree.lists`).

LLVM's vectoriser will not keep a loop over coordinates of unknown length in registers, nor turn
comparisons into a bit mask; so the two inner loops of the tree (boxes and leaves) are written as vectors
directly. LLVM lowers them on every CPU it knows: two AVX registers here, four NEON registers elsewhere.

Exactness: a box's key and a point's key are the *same* sequence of float32 operations (subtract, multiply,
add, coordinate by coordinate; no contraction into a fused multiply-add is allowed). Each operation is
monotone in its operands, rounding included, and for every z in the box `x - min(max(x, lo), hi)` is 0 or has the sign
of x - z and no larger a magnitude.
So the box's rounded key never exceeds the rounded key of a point inside: pruning needs no margin.
"""

from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic as _numba_intrinsic

intrinsic: Any = _numba_intrinsic  # its stubs know only plain Python signatures

#: Points of a leaf, and queries of a packet: the lanes of one vector operation.
LEAF = 16
PACKET = 16
#: The id of no point, above all others.
NO_ID = 0x7FFFFFFF

I64 = ir.IntType(64)
I32 = ir.IntType(32)
F32 = ir.FloatType()
F64 = ir.DoubleType()


def address_of(context: Any, builder: Any, array_type: Any, array: Any, offset: Any) -> Any:
    """Return the address of element `offset` of a contiguous array."""
    return builder.gep(context.make_array(array_type)(context, builder, array).data, [offset])


def splat(builder: Any, scalar: Any, lanes: int) -> Any:
    """Return a vector with `scalar` in every lane."""
    undef = ir.Constant(ir.VectorType(scalar.type, lanes), ir.Undefined)
    first = builder.insert_element(undef, scalar, ir.Constant(I32, 0))
    return builder.shuffle_vector(first, undef, ir.Constant(ir.VectorType(I32, lanes), [0] * lanes))


def load(builder: Any, address: Any, element: Any, lanes: int) -> Any:
    """Load `lanes` elements, aligned only as an element is."""
    vector = ir.VectorType(element, lanes)
    return builder.load(builder.bitcast(address, vector.as_pointer()), align=4)


def emit_loop(builder: Any, count: Any, carried: Any, body: Any) -> Any:
    """Emit `for i in range(count): carried = body(i, carried)` for count >= 1, `carried`, a list, in registers."""
    before, loop, after = builder.block, builder.append_basic_block(), builder.append_basic_block()
    builder.branch(loop)
    builder.position_at_end(loop)
    i, values = builder.phi(I64), [builder.phi(value.type) for value in carried]
    i.add_incoming(ir.Constant(I64, 0), before)
    new_values = body(i, values)
    new_i = builder.add(i, ir.Constant(I64, 1))
    i.add_incoming(new_i, builder.block)
    for value, start, new in zip(values, carried, new_values, strict=True):
        value.add_incoming(start, before)
        value.add_incoming(new, builder.block)
    builder.cbranch(builder.icmp_signed("<", new_i, count), loop, after)
    builder.position_at_end(after)
    return new_values


def sums_over_coordinates(builder: Any, d: Any, lanes: int, gaps: list[Any]) -> Any:
    """Emit `sum of gap(q)^2 for q in range(d)` for each of some gaps, d >= 1."""

    def terms(q: Any, totals: Any) -> Any:
        differences = [gap(q) for gap in gaps]
        squares = [builder.fmul(difference, difference) for difference in differences]
        return [builder.fadd(total, square) for total, square in zip(totals, squares, strict=True)]

    zero = ir.Constant(ir.VectorType(F32, lanes), [0.0] * lanes)
    return emit_loop(builder, d, [zero] * len(gaps), terms)


def _before(builder: Any, keys: Any, ids: Any, key_limit: Any, id_limit: Any, lanes: int) -> Any:
    """Emit the bit mask of lanes with `(key, id) < (key_limit, id_limit)`."""
    less = builder.fcmp_ordered("<", keys, key_limit)
    tie = builder.and_(builder.fcmp_ordered("==", keys, key_limit), builder.icmp_signed("<", ids, id_limit))
    mask = builder.bitcast(builder.or_(less, tie), ir.IntType(lanes))
    return builder.zext(mask, I64)


@intrinsic  # type: ignore[untyped-decorator]
def leaf_hits(
    typingctx: Any, z: Any, leaf: Any, x: Any, lane: Any, d: Any, ids: Any, key_limits: Any, id_limits: Any, keys: Any
) -> Any:
    """Write a leaf's keys for one query of the packet at keys[lane * LEAF:]; return the mask of those before its limit.

    z holds leaves, LEAF values a coordinate; x holds the packet, PACKET values a coordinate.
    """
    sig = types.int64(z, types.int64, x, types.int64, types.int64, ids, key_limits, id_limits, keys)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        z, leaf, x, lane, d, ids, *limits, keys = args
        first = builder.mul(leaf, ir.Constant(I64, LEAF))
        points = address_of(context, builder, sig.args[0], z, builder.mul(first, d))
        query = address_of(context, builder, sig.args[2], x, lane)

        def gap(q: Any) -> Any:
            column = builder.gep(points, [builder.mul(q, ir.Constant(I64, LEAF))])
            value = builder.load(builder.gep(query, [builder.mul(q, ir.Constant(I64, PACKET))]))
            return builder.fsub(load(builder, column, F32, LEAF), splat(builder, value, LEAF))

        (total,) = sums_over_coordinates(builder, d, LEAF, [gap])
        out = address_of(context, builder, sig.args[8], keys, builder.mul(lane, ir.Constant(I64, LEAF)))
        builder.store(total, builder.bitcast(out, total.type.as_pointer()), align=4)
        leaf_ids = load(builder, address_of(context, builder, sig.args[5], ids, first), I32, LEAF)
        key_limit, id_limit = [
            splat(builder, builder.load(address_of(context, builder, sig.args[i], array, lane)), LEAF)
            for i, array in enumerate(limits, 6)
        ]
        return _before(builder, total, leaf_ids, key_limit, id_limit, LEAF)

    return sig, codegen


@intrinsic  # type: ignore[untyped-decorator]
def box_hits(
    typingctx: Any, boxes: Any, node: Any, other: Any, lowest: Any, x: Any, d: Any, key_limits: Any, id_limits: Any
) -> Any:
    """Return which of the packet's queries may find something before their limit in the boxes of two nodes.

    boxes holds lo, hi of each coordinate of each node in turn, lowest the lowest id inside. The mask of `node` is in
    the PACKET low bits of the result, that of `other` above it: both at once, as either is a long chain of operations.
    """
    sig = types.int64(boxes, types.int64, types.int64, lowest, x, types.int64, key_limits, id_limits)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        boxes, *nodes, lowest, x, d = args[:6]
        twice_d = builder.shl(d, ir.Constant(I64, 1))
        sides = [address_of(context, builder, sig.args[0], boxes, builder.mul(node, twice_d)) for node in nodes]
        packet = address_of(context, builder, sig.args[4], x, ir.Constant(I64, 0))

        def gap(box: Any, q: Any) -> Any:
            side = builder.gep(box, [builder.shl(q, ir.Constant(I64, 1))])
            lo = splat(builder, builder.load(side), PACKET)
            hi = splat(builder, builder.load(builder.gep(side, [ir.Constant(I64, 1)])), PACKET)
            column = builder.gep(packet, [builder.mul(q, ir.Constant(I64, PACKET))])
            value = load(builder, column, F32, PACKET)
            above = builder.select(builder.fcmp_ordered(">", value, lo), value, lo)
            return builder.fsub(value, builder.select(builder.fcmp_ordered("<", above, hi), above, hi))

        totals = sums_over_coordinates(builder, d, PACKET, [lambda q, box=box: gap(box, q) for box in sides])
        key_limit, id_limit = [
            load(builder, address_of(context, builder, sig.args[i], args[i], ir.Constant(I64, 0)), e, PACKET)
            for i, e in ((6, F32), (7, I32))
        ]
        masks = []
        for node, total in zip(nodes, totals, strict=True):
            least = splat(builder, builder.load(address_of(context, builder, sig.args[3], lowest, node)), PACKET)
            masks.append(_before(builder, total, least, key_limit, id_limit, PACKET))
        return builder.or_(masks[0], builder.shl(masks[1], ir.Constant(I64, PACKET)))

    return sig, codegen


@intrinsic  # type: ignore[untyped-decorator]
def lowest_bit(typingctx: Any, mask: Any) -> Any:
    """Return the position of the lowest set bit of a mask that is not 0."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.cttz(args[0], cgutils.true_bit)

    return types.int64(types.int64), codegen


@intrinsic  # type: ignore[untyped-decorator]
def bits_set(typingctx: Any, mask: Any) -> Any:
    """Return how many bits of a mask are set."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.ctpop(args[0])

    return types.int64(types.int64), codegen
