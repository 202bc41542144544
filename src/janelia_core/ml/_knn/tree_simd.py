"""Vector instructions of the tree screen: three Numba intrinsics over fixed-width LLVM vectors.

LLVM's vectoriser will not keep a loop over coordinates of unknown length in registers, nor turn
comparisons into a bit mask; so the two inner loops of the tree (boxes and leaves) are written as vectors
directly. LLVM lowers them on every CPU it knows: two AVX registers here, four NEON registers elsewhere.

Exactness: a box's key and a point's key are the *same* sequence of float32 operations (subtract, multiply,
add, coordinate by coordinate; no contraction into a fused multiply-add is allowed). Each operation is
monotone in its operands, rounding included, and `max(lo - x, x - hi, 0) <= |z - x|` for every z in the box.
So the box's rounded key never exceeds the rounded key of a point inside: pruning needs no margin.
"""

from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic as _numba_intrinsic

intrinsic: Any = _numba_intrinsic  # its stubs know only plain Python signatures

#: Points of a leaf, and queries of a packet: the lanes of one vector operation.
LEAF = 16
PACKET = 8
#: Slots of a list that one vector operation moves.
CHUNK = 8

_I64, _I32, _F32 = ir.IntType(64), ir.IntType(32), ir.FloatType()


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
    """Emit `for i in range(count): carried = body(i, carried)` for count >= 1, `carried` in a register."""
    before, loop, after = builder.block, builder.append_basic_block(), builder.append_basic_block()
    builder.branch(loop)
    builder.position_at_end(loop)
    i, value = builder.phi(_I64), builder.phi(carried.type)
    i.add_incoming(ir.Constant(_I64, 0), before)
    value.add_incoming(carried, before)
    new_value = body(i, value)
    new_i = builder.add(i, ir.Constant(_I64, 1))
    i.add_incoming(new_i, builder.block)
    value.add_incoming(new_value, builder.block)
    builder.cbranch(builder.icmp_signed("<", new_i, count), loop, after)
    builder.position_at_end(after)
    return new_value


def _sum_over_coordinates(builder: Any, d: Any, lanes: int, gap: Any) -> Any:
    """Emit `sum of gap(q)^2 for q in range(d)`, d >= 1."""

    def term(q: Any, total: Any) -> Any:
        diff = gap(q)
        return builder.fadd(total, builder.fmul(diff, diff))

    return _loop(builder, d, ir.Constant(ir.VectorType(_F32, lanes), [0.0] * lanes), term)


def _before(builder: Any, keys: Any, ids: Any, key_limit: Any, id_limit: Any, lanes: int) -> Any:
    """Emit the bit mask of lanes with `(key, id) < (key_limit, id_limit)`."""
    less = builder.fcmp_ordered("<", keys, key_limit)
    tie = builder.and_(builder.fcmp_ordered("==", keys, key_limit), builder.icmp_signed("<", ids, id_limit))
    mask = builder.bitcast(builder.or_(less, tie), ir.IntType(lanes))
    return builder.zext(mask, _I64)


@intrinsic  # type: ignore[untyped-decorator]
def leaf_hits(
    typingctx: Any,
    z: Any,
    start: Any,
    x: Any,
    lane: Any,
    d: Any,
    ids: Any,
    first: Any,
    key_limit: Any,
    id_limit: Any,
    keys: Any,
) -> Any:
    """Write a leaf's keys against one query of the packet, and return the mask of those before the limit.

    z[start:] holds the leaf, LEAF values a coordinate; x holds the packet, PACKET values a coordinate.
    """
    sig = types.int64(z, types.int64, x, types.int64, types.int64, ids, types.int64, types.float32, types.int32, keys)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        z, start, x, lane, d, ids, first, key_limit, id_limit, keys = args
        leaf = _address(context, builder, sig.args[0], z, start)
        query = _address(context, builder, sig.args[2], x, lane)

        def gap(q: Any) -> Any:
            column = builder.gep(leaf, [builder.mul(q, ir.Constant(_I64, LEAF))])
            value = builder.load(builder.gep(query, [builder.mul(q, ir.Constant(_I64, PACKET))]))
            return builder.fsub(_load(builder, column, _F32, LEAF), _splat(builder, value, LEAF))

        total = _sum_over_coordinates(builder, d, LEAF, gap)
        out = builder.bitcast(
            _address(context, builder, sig.args[9], keys, ir.Constant(_I64, 0)), total.type.as_pointer()
        )
        builder.store(total, out, align=4)
        leaf_ids = _load(builder, _address(context, builder, sig.args[5], ids, first), _I32, LEAF)
        return _before(
            builder, total, leaf_ids, _splat(builder, key_limit, LEAF), _splat(builder, id_limit, LEAF), LEAF
        )

    return sig, codegen


@intrinsic  # type: ignore[untyped-decorator]
def box_hits(
    typingctx: Any, boxes: Any, start: Any, lowest_id: Any, x: Any, d: Any, key_limits: Any, id_limits: Any
) -> Any:
    """Return the mask of the packet's queries that may find something before their limit in a box.

    boxes[start:] holds lo, hi of each coordinate in turn; lowest_id is the lowest id inside the box.
    """
    sig = types.int64(boxes, types.int64, types.int32, x, types.int64, key_limits, id_limits)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        boxes, start, lowest_id, x, d = args[:5]
        box = _address(context, builder, sig.args[0], boxes, start)
        packet = _address(context, builder, sig.args[3], x, ir.Constant(_I64, 0))
        zero = ir.Constant(ir.VectorType(_F32, PACKET), [0.0] * PACKET)

        def larger(a: Any, b: Any) -> Any:
            return builder.select(builder.fcmp_ordered(">", a, b), a, b)

        def gap(q: Any) -> Any:
            side = builder.gep(box, [builder.shl(q, ir.Constant(_I64, 1))])
            lo = _splat(builder, builder.load(side), PACKET)
            hi = _splat(builder, builder.load(builder.gep(side, [ir.Constant(_I64, 1)])), PACKET)
            column = builder.gep(packet, [builder.mul(q, ir.Constant(_I64, PACKET))])
            value = _load(builder, column, _F32, PACKET)
            return larger(larger(builder.fsub(lo, value), builder.fsub(value, hi)), zero)

        total = _sum_over_coordinates(builder, d, PACKET, gap)
        key_limit, id_limit = [
            _load(builder, _address(context, builder, sig.args[i], args[i], ir.Constant(_I64, 0)), e, PACKET)
            for i, e in ((5, _F32), (6, _I32))
        ]
        return _before(builder, total, _splat(builder, lowest_id, PACKET), key_limit, id_limit, PACKET)

    return sig, codegen


@intrinsic  # type: ignore[untyped-decorator]
def merge(typingctx: Any, entries: Any, start: Any, chunks: Any, fresh: Any, count: Any) -> Any:
    """Merge fresh[:count] into the ascending list entries[start : start + CHUNK * chunks], largest dropped.

    Without a branch: new[s] = min(old[s], max(old[s - 1], entry)), CHUNK slots held in registers at a time;
    what they drop is left in `fresh` for the next slots. Entries are int64 whose bits, read as float64, are
    positive, normal and finite, and so in the same order: CPUs have a vector minimum for those.
    """
    sig = types.void(entries, types.int64, types.int64, fresh, types.int64)
    f64 = ir.DoubleType()
    chunk_type = ir.VectorType(f64, CHUNK)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        entries, start, chunks, fresh, count = args
        order = ir.Constant(ir.VectorType(_I32, CHUNK), [CHUNK, *range(CHUNK - 1)])
        zeros = ir.Constant(chunk_type, [0.0] * CHUNK)

        def choose(sign: str, a: Any, b: Any) -> Any:
            return builder.select(builder.fcmp_ordered(sign, a, b), a, b)

        def one_chunk(c: Any, unused: Any) -> Any:
            offset = builder.add(start, builder.mul(c, ir.Constant(_I64, CHUNK)))
            slots = builder.bitcast(_address(context, builder, sig.args[0], entries, offset), chunk_type.as_pointer())

            def one_entry(i: Any, old: Any) -> Any:
                place = builder.bitcast(_address(context, builder, sig.args[3], fresh, i), f64.as_pointer())
                entry = builder.load(place, align=8)
                top = builder.extract_element(old, ir.Constant(_I32, CHUNK - 1))
                builder.store(choose(">", top, entry), place, align=8)
                shifted = builder.shuffle_vector(old, zeros, order)
                return choose("<", old, choose(">", shifted, _splat(builder, entry, CHUNK)))

            builder.store(_loop(builder, count, builder.load(slots, align=8), one_entry), slots, align=8)
            return unused

        _loop(builder, chunks, ir.Constant(_I64, 0), one_chunk)
        return context.get_dummy_value()

    return sig, codegen


@intrinsic  # type: ignore[untyped-decorator]
def lowest_bit(typingctx: Any, mask: Any) -> Any:
    """Return the position of the lowest set bit of a mask that is not 0."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.cttz(args[0], cgutils.true_bit)

    return types.int64(types.int64), codegen
