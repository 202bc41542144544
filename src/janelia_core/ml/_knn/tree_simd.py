"""Vector instructions of the tree screen: three Numba intrinsics over fixed-width LLVM vectors.

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
#: Slots of a list that one vector operation moves.
CHUNK = 8
#: A list entry is (key bits + BIAS) << 32 | id: ascending as integers and, because BIAS makes them normal
#: numbers, as float64 too, whether or not the thread flushes subnormals.
BIAS = 1 << 20

_I64, _I32, _F32, _F64 = ir.IntType(64), ir.IntType(32), ir.FloatType(), ir.DoubleType()


def _address(context: Any, builder: Any, array_type: Any, array: Any, offset: Any) -> Any:
    """Return the address of element `offset` of a contiguous array."""
    return builder.gep(context.make_array(array_type)(context, builder, array).data, [offset])


def _splat(builder: Any, scalar: Any, lanes: int) -> Any:
    """Return a vector with `scalar` in every lane."""
    undef = ir.Constant(ir.VectorType(scalar.type, lanes), ir.Undefined)
    first = builder.insert_element(undef, scalar, ir.Constant(_I32, 0))
    return builder.shuffle_vector(first, undef, ir.Constant(ir.VectorType(_I32, lanes), [0] * lanes))


def _load(builder: Any, address: Any, element: Any, lanes: int) -> Any:
    """Load `lanes` elements, aligned only as an element is."""
    vector = ir.VectorType(element, lanes)
    return builder.load(builder.bitcast(address, vector.as_pointer()), align=4)


def _loop(builder: Any, count: Any, carried: Any, body: Any) -> Any:
    """Emit `for i in range(count): carried = body(i, carried)` for count >= 1, `carried`, a list, in registers."""
    before, loop, after = builder.block, builder.append_basic_block(), builder.append_basic_block()
    builder.branch(loop)
    builder.position_at_end(loop)
    i, values = builder.phi(_I64), [builder.phi(value.type) for value in carried]
    i.add_incoming(ir.Constant(_I64, 0), before)
    new_values = body(i, values)
    new_i = builder.add(i, ir.Constant(_I64, 1))
    i.add_incoming(new_i, builder.block)
    for value, start, new in zip(values, carried, new_values, strict=True):
        value.add_incoming(start, before)
        value.add_incoming(new, builder.block)
    builder.cbranch(builder.icmp_signed("<", new_i, count), loop, after)
    builder.position_at_end(after)
    return new_values


def _sums_over_coordinates(builder: Any, d: Any, lanes: int, gaps: list[Any]) -> Any:
    """Emit `sum of gap(q)^2 for q in range(d)` for each of some gaps, d >= 1."""

    def terms(q: Any, totals: Any) -> Any:
        differences = [gap(q) for gap in gaps]
        squares = [builder.fmul(difference, difference) for difference in differences]
        return [builder.fadd(total, square) for total, square in zip(totals, squares, strict=True)]

    zero = ir.Constant(ir.VectorType(_F32, lanes), [0.0] * lanes)
    return _loop(builder, d, [zero] * len(gaps), terms)


def _before(builder: Any, keys: Any, ids: Any, key_limit: Any, id_limit: Any, lanes: int) -> Any:
    """Emit the bit mask of lanes with `(key, id) < (key_limit, id_limit)`."""
    less = builder.fcmp_ordered("<", keys, key_limit)
    tie = builder.and_(builder.fcmp_ordered("==", keys, key_limit), builder.icmp_signed("<", ids, id_limit))
    mask = builder.bitcast(builder.or_(less, tie), ir.IntType(lanes))
    return builder.zext(mask, _I64)


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
        first = builder.mul(leaf, ir.Constant(_I64, LEAF))
        points = _address(context, builder, sig.args[0], z, builder.mul(first, d))
        query = _address(context, builder, sig.args[2], x, lane)

        def gap(q: Any) -> Any:
            column = builder.gep(points, [builder.mul(q, ir.Constant(_I64, LEAF))])
            value = builder.load(builder.gep(query, [builder.mul(q, ir.Constant(_I64, PACKET))]))
            return builder.fsub(_load(builder, column, _F32, LEAF), _splat(builder, value, LEAF))

        (total,) = _sums_over_coordinates(builder, d, LEAF, [gap])
        out = _address(context, builder, sig.args[8], keys, builder.mul(lane, ir.Constant(_I64, LEAF)))
        builder.store(total, builder.bitcast(out, total.type.as_pointer()), align=4)
        leaf_ids = _load(builder, _address(context, builder, sig.args[5], ids, first), _I32, LEAF)
        key_limit, id_limit = [
            _splat(builder, builder.load(_address(context, builder, sig.args[i], array, lane)), LEAF)
            for i, array in enumerate(limits, 6)
        ]
        return _before(builder, total, leaf_ids, key_limit, id_limit, LEAF)

    return sig, codegen


@intrinsic  # type: ignore[untyped-decorator]
def write_entries(typingctx: Any, keys: Any, lane: Any, ids: Any, leaf: Any, by_id: Any, entries: Any) -> Any:
    """Write LEAF entries: keys[lane * LEAF:] with the ids of a leaf's points if `by_id`, else with their positions."""
    sig = types.void(keys, types.int64, ids, types.int64, types.boolean, entries)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        keys, lane, ids, leaf, by_id, entries = args
        first, wide = builder.mul(leaf, ir.Constant(_I64, LEAF)), ir.VectorType(_I64, LEAF)
        key_bits = _address(context, builder, sig.args[0], keys, builder.mul(lane, ir.Constant(_I64, LEAF)))
        high = builder.zext(_load(builder, key_bits, _I32, LEAF), wide)
        high = builder.add(high, ir.Constant(wide, [BIAS] * LEAF))
        leaf_ids = _load(builder, _address(context, builder, sig.args[2], ids, first), _I32, LEAF)
        lanes = ir.Constant(ir.VectorType(_I32, LEAF), list(range(LEAF)))
        positions = builder.add(_splat(builder, builder.trunc(first, _I32), LEAF), lanes)
        low = builder.zext(builder.select(by_id, leaf_ids, positions), wide)
        out = _address(context, builder, sig.args[5], entries, ir.Constant(_I64, 0))
        entry = builder.or_(builder.shl(high, ir.Constant(wide, [32] * LEAF)), low)
        builder.store(entry, builder.bitcast(out, wide.as_pointer()), align=8)
        return context.get_dummy_value()

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
        twice_d = builder.shl(d, ir.Constant(_I64, 1))
        sides = [_address(context, builder, sig.args[0], boxes, builder.mul(node, twice_d)) for node in nodes]
        packet = _address(context, builder, sig.args[4], x, ir.Constant(_I64, 0))

        def gap(box: Any, q: Any) -> Any:
            side = builder.gep(box, [builder.shl(q, ir.Constant(_I64, 1))])
            lo = _splat(builder, builder.load(side), PACKET)
            hi = _splat(builder, builder.load(builder.gep(side, [ir.Constant(_I64, 1)])), PACKET)
            column = builder.gep(packet, [builder.mul(q, ir.Constant(_I64, PACKET))])
            value = _load(builder, column, _F32, PACKET)
            above = builder.select(builder.fcmp_ordered(">", value, lo), value, lo)
            return builder.fsub(value, builder.select(builder.fcmp_ordered("<", above, hi), above, hi))

        totals = _sums_over_coordinates(builder, d, PACKET, [lambda q, box=box: gap(box, q) for box in sides])
        key_limit, id_limit = [
            _load(builder, _address(context, builder, sig.args[i], args[i], ir.Constant(_I64, 0)), e, PACKET)
            for i, e in ((6, _F32), (7, _I32))
        ]
        masks = []
        for node, total in zip(nodes, totals, strict=True):
            least = _splat(builder, builder.load(_address(context, builder, sig.args[3], lowest, node)), PACKET)
            masks.append(_before(builder, total, least, key_limit, id_limit, PACKET))
        return builder.or_(masks[0], builder.shl(masks[1], ir.Constant(_I64, PACKET)))

    return sig, codegen


@intrinsic  # type: ignore[untyped-decorator]
def merge(typingctx: Any, lists: Any, start: Any, chunks: Any, entries: Any, hits: Any) -> Any:
    """Merge the entries of a mask, not 0, into the ascending list lists[start : start + CHUNK * chunks].

    Without a branch: new[s] = min(old[s], max(old[s - 1], entry)), for lists of one or two chunks in registers. For
    longer ones chunk by chunk; what a chunk drops is left in `entries` for the next. Entries are int64 whose bits, read
    as float64, are positive, normal and finite, and so in the same order: CPUs have a vector minimum for those.
    """
    sig = types.void(lists, types.int64, types.int64, entries, types.int64)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        lists, start, chunks, entries, hits = args
        fresh = _address(context, builder, sig.args[3], entries, ir.Constant(_I64, 0))
        fresh = builder.bitcast(fresh, _F64.as_pointer())

        def insert(c: Any, lanes: int, is_followed: bool) -> None:
            offset = builder.add(start, builder.mul(c, ir.Constant(_I64, CHUNK)))
            slots = _address(context, builder, sig.args[0], lists, offset)
            _insert(builder, slots, lanes, fresh, hits, is_followed)

        def one_of_many(c: Any, nothing: Any) -> Any:
            insert(c, CHUNK, True)
            return nothing

        zero = ir.Constant(_I64, 0)
        with builder.if_else(builder.icmp_signed("==", chunks, ir.Constant(_I64, 1))) as (one, more):
            with one:
                insert(zero, CHUNK, False)
            with more, builder.if_else(builder.icmp_signed("==", chunks, ir.Constant(_I64, 2))) as (two, many):
                with two:
                    insert(zero, 2 * CHUNK, False)
                with many:
                    _loop(builder, chunks, [], one_of_many)
        return context.get_dummy_value()

    return sig, codegen


def _insert(builder: Any, slots: Any, lanes: int, fresh: Any, hits: Any, is_followed: bool) -> None:
    """Emit the insertion of fresh[t], for all bits t of `hits`, into as many slots as lanes."""
    vector = ir.VectorType(_F64, lanes)
    order = ir.Constant(ir.VectorType(_I32, lanes), [lanes, *range(lanes - 1)])
    slots = builder.bitcast(slots, vector.as_pointer())
    old_list = builder.load(slots, align=8)
    before, loop, after = builder.block, builder.append_basic_block(), builder.append_basic_block()
    builder.branch(loop)
    builder.position_at_end(loop)
    mask, old = builder.phi(_I64), builder.phi(vector)
    mask.add_incoming(hits, before)
    old.add_incoming(old_list, before)
    place = builder.gep(fresh, [builder.cttz(mask, cgutils.true_bit)])
    entry = builder.load(place, align=8)

    def choose(sign: str, a: Any, b: Any) -> Any:
        return builder.select(builder.fcmp_ordered(sign, a, b), a, b)

    if is_followed:
        builder.store(choose(">", builder.extract_element(old, ir.Constant(_I32, lanes - 1)), entry), place, align=8)
    shifted = builder.shuffle_vector(old, ir.Constant(vector, [0.0] * lanes), order)
    new = choose("<", old, choose(">", shifted, _splat(builder, entry, lanes)))
    rest = builder.and_(mask, builder.sub(mask, ir.Constant(_I64, 1)))
    mask.add_incoming(rest, builder.block)
    old.add_incoming(new, builder.block)
    builder.cbranch(builder.icmp_signed("!=", rest, ir.Constant(_I64, 0)), loop, after)
    builder.position_at_end(after)
    builder.store(new, slots, align=8)


@intrinsic  # type: ignore[untyped-decorator]
def key_of(typingctx: Any, entry: Any) -> Any:
    """Return the float32 key of an entry."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        bits = builder.sub(builder.ashr(args[0], ir.Constant(_I64, 32)), ir.Constant(_I64, BIAS))
        return builder.bitcast(builder.trunc(bits, _I32), _F32)

    return types.float32(types.int64), codegen


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
