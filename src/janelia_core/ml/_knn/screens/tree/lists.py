"""The lists of the tree screen as vectors: entries, sorted lists from a first leaf, entries merged into lists.

An entry is (key bits + BIAS) << 32 | id: ascending as integers and, because BIAS makes them normal numbers, as float64
too, whether or not the thread flushes subnormals. CPUs have a vector minimum for those.
"""

from collections.abc import Iterator
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types

from janelia_core.ml._knn.screens.tree.hits import (
    F32,
    F64,
    I32,
    I64,
    LEAF,
    NO_ID,
    PACKET,
    address_of,
    emit_loop,
    intrinsic,
    load,
    splat,
    sums_over_coordinates,
)

#: Slots of a list that one vector operation moves.
CHUNK = 8
BIAS = 1 << 20
EMPTY = ((0x7F800000 + BIAS) << 32) | NO_ID


def _entries(builder: Any, keys: Any, low: Any) -> Any:
    """Emit the entries of a vector of keys, int64."""
    lanes = keys.type.count
    wide = ir.VectorType(I64, lanes)
    bits = builder.zext(builder.bitcast(keys, ir.VectorType(I32, lanes)), wide)
    high = builder.shl(builder.add(bits, ir.Constant(wide, [BIAS] * lanes)), ir.Constant(wide, [32] * lanes))
    return builder.or_(high, builder.zext(low, wide))


def _positions(builder: Any, first: Any) -> Any:
    """Emit the positions of a leaf's points in the tree."""
    lanes = ir.Constant(ir.VectorType(I32, LEAF), list(range(LEAF)))
    return builder.add(splat(builder, builder.trunc(first, I32), LEAF), lanes)


def _choose(builder: Any, sign: str, a: Any, b: Any) -> Any:
    return builder.select(builder.fcmp_ordered(sign, a, b), a, b)


@intrinsic  # type: ignore[untyped-decorator]
def write_entries(typingctx: Any, keys: Any, lane: Any, ids: Any, leaf: Any, by_id: Any, entries: Any) -> Any:
    """Write LEAF entries: keys[lane * LEAF:] with the ids of a leaf's points if `by_id`, else with their positions."""
    sig = types.void(keys, types.int64, ids, types.int64, types.boolean, entries)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        keys, lane, ids, leaf, by_id, entries = args
        first = builder.mul(leaf, ir.Constant(I64, LEAF))
        keys = load(
            builder,
            address_of(context, builder, sig.args[0], keys, builder.mul(lane, ir.Constant(I64, LEAF))),
            F32,
            LEAF,
        )
        ids = load(builder, address_of(context, builder, sig.args[2], ids, first), I32, LEAF)
        out = address_of(context, builder, sig.args[5], entries, ir.Constant(I64, 0))
        entry = _entries(builder, keys, builder.select(by_id, ids, _positions(builder, first)))
        builder.store(entry, builder.bitcast(out, entry.type.as_pointer()), align=8)
        return context.get_dummy_value()

    return sig, codegen


@intrinsic  # type: ignore[untyped-decorator]
def first_lists(
    typingctx: Any, z: Any, leaf: Any, x: Any, d: Any, ids: Any, by_id: Any, chunks: Any, lists: Any
) -> Any:
    """Fill the first slots of a packet's lists with a leaf's entries, ascending, EMPTY for keys that are not finite.

    A vector holds one point's entries for half of the queries; so a network of minima and maxima sorts those of all at
    once. What does not fit into a list of one chunk is dropped.
    """
    sig = types.void(z, types.int64, x, types.int64, ids, types.boolean, types.int64, lists)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        z, leaf, x, d, ids, by_id, chunks, lists = args
        first = builder.mul(leaf, ir.Constant(I64, LEAF))
        points = address_of(context, builder, sig.args[0], z, builder.mul(first, d))
        packet = address_of(context, builder, sig.args[2], x, ir.Constant(I64, 0))
        ids = load(builder, address_of(context, builder, sig.args[4], ids, first), I32, LEAF)
        low = builder.select(by_id, ids, _positions(builder, first))

        def gap(point: int, q: Any) -> Any:
            cell = builder.add(builder.mul(q, ir.Constant(I64, LEAF)), ir.Constant(I64, point))
            rows = load(builder, builder.gep(packet, [builder.mul(q, ir.Constant(I64, PACKET))]), F32, PACKET)
            return builder.fsub(splat(builder, builder.load(builder.gep(points, [cell])), PACKET), rows)

        keys = sums_over_coordinates(
            builder, d, PACKET, [lambda q, point=point: gap(point, q) for point in range(LEAF)]
        )
        for start in range(0, PACKET, CHUNK):
            columns = []
            for point in range(LEAF):
                half = builder.shuffle_vector(keys[point], keys[point], _mask(range(start, start + CHUNK)))
                low_id = builder.extract_element(low, ir.Constant(I32, point))
                columns.append(_finite(builder, half, _entries(builder, half, splat(builder, low_id, CHUNK))))
            for i, j in _comparisons(LEAF):
                columns[i], columns[j] = (_choose(builder, sign, columns[i], columns[j]) for sign in "<>")
            out = address_of(context, builder, sig.args[7], lists, builder.mul(chunks, ir.Constant(I64, start * CHUNK)))
            _write_lists(builder, columns, chunks, out)
        return context.get_dummy_value()

    return sig, codegen


def _finite(builder: Any, keys: Any, entries: Any) -> Any:
    """Emit entries as float64, EMPTY where the key is infinite or NaN."""
    empty = ir.Constant(entries.type, [EMPTY] * keys.type.count)
    largest = ir.Constant(keys.type, [float("inf")] * keys.type.count)
    kept = builder.select(builder.fcmp_ordered("<", keys, largest), entries, empty)
    return builder.bitcast(kept, ir.VectorType(F64, keys.type.count))


def _comparisons(n: int) -> Iterator[tuple[int, int]]:
    """Yield what to compare and exchange to sort n items, a power of two (Batcher's odd-even merge sort)."""
    p = 1
    while p < n:
        k = p
        while k:
            for j in range(k % p, n - k, 2 * k):
                yield from ((i + j, i + j + k) for i in range(k) if (i + j) // (2 * p) == (i + j + k) // (2 * p))
            k //= 2
        p *= 2


def _mask(lanes: Any) -> Any:
    lanes = list(lanes)
    return ir.Constant(ir.VectorType(I32, len(lanes)), lanes)


def _write_lists(builder: Any, columns: list[Any], chunks: Any, out: Any) -> None:
    """Emit the transposition of sorted columns, CHUNK queries wide, into the lists of these."""

    def write(count: int) -> None:
        for chunk in range(count):
            for query, slots in enumerate(_transposed(builder, columns[chunk * CHUNK : (chunk + 1) * CHUNK])):
                place = builder.add(
                    builder.mul(chunks, ir.Constant(I64, query * CHUNK)), ir.Constant(I64, chunk * CHUNK)
                )
                address = builder.bitcast(builder.gep(out, [place]), slots.type.as_pointer())
                builder.store(slots, address, align=8)

    with builder.if_else(builder.icmp_signed("==", chunks, ir.Constant(I64, 1))) as (one, more):
        with one:
            write(1)
        with more:
            write(LEAF // CHUNK)


def _transposed(builder: Any, rows: list[Any]) -> list[Any]:
    """Emit the transpose of a square, swapping blocks of 1, 2 and 4."""
    rows, n, step = list(rows), len(rows), 1
    while step < n:
        for i in range(n):
            if not i & step:
                a, b = rows[i], rows[i + step]
                low = _mask(lane if not lane & step else n + lane - step for lane in range(n))
                high = _mask(lane + step if not lane & step else n + lane for lane in range(n))
                rows[i], rows[i + step] = builder.shuffle_vector(a, b, low), builder.shuffle_vector(a, b, high)
        step *= 2
    return rows


@intrinsic  # type: ignore[untyped-decorator]
def merge(typingctx: Any, lists: Any, start: Any, chunks: Any, entries: Any, hits: Any) -> Any:
    """Merge the entries of a mask, not 0, into the ascending list lists[start : start + CHUNK * chunks].

    Without a branch: new[s] = min(old[s], max(old[s - 1], entry)), for lists of one or two chunks in registers. For
    longer ones chunk by chunk; what a chunk drops is left in `entries` for the next.
    """
    sig = types.void(lists, types.int64, types.int64, entries, types.int64)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        lists, start, chunks, entries, hits = args
        fresh = address_of(context, builder, sig.args[3], entries, ir.Constant(I64, 0))
        fresh = builder.bitcast(fresh, F64.as_pointer())

        def insert(c: Any, lanes: int, is_followed: bool) -> None:
            offset = builder.add(start, builder.mul(c, ir.Constant(I64, CHUNK)))
            slots = address_of(context, builder, sig.args[0], lists, offset)
            _insert(builder, slots, lanes, fresh, hits, is_followed)

        def one_of_many(c: Any, nothing: Any) -> Any:
            insert(c, CHUNK, True)
            return nothing

        zero = ir.Constant(I64, 0)
        with builder.if_else(builder.icmp_signed("==", chunks, ir.Constant(I64, 1))) as (one, more):
            with one:
                insert(zero, CHUNK, False)
            with more, builder.if_else(builder.icmp_signed("==", chunks, ir.Constant(I64, 2))) as (two, many):
                with two:
                    insert(zero, 2 * CHUNK, False)
                with many:
                    emit_loop(builder, chunks, [], one_of_many)
        return context.get_dummy_value()

    return sig, codegen


def _insert(builder: Any, slots: Any, lanes: int, fresh: Any, hits: Any, is_followed: bool) -> None:
    """Emit the insertion of fresh[t], for all bits t of `hits`, into as many slots as lanes."""
    vector = ir.VectorType(F64, lanes)
    order = ir.Constant(ir.VectorType(I32, lanes), [lanes, *range(lanes - 1)])
    slots = builder.bitcast(slots, vector.as_pointer())
    old_list = builder.load(slots, align=8)
    before, loop, after = builder.block, builder.append_basic_block(), builder.append_basic_block()
    builder.branch(loop)
    builder.position_at_end(loop)
    mask, old = builder.phi(I64), builder.phi(vector)
    mask.add_incoming(hits, before)
    old.add_incoming(old_list, before)
    place = builder.gep(fresh, [builder.cttz(mask, cgutils.true_bit)])
    entry = builder.load(place, align=8)

    if is_followed:
        builder.store(
            _choose(builder, ">", builder.extract_element(old, ir.Constant(I32, lanes - 1)), entry), place, align=8
        )
    shifted = builder.shuffle_vector(old, ir.Constant(vector, [0.0] * lanes), order)
    new = _choose(builder, "<", old, _choose(builder, ">", shifted, splat(builder, entry, lanes)))
    rest = builder.and_(mask, builder.sub(mask, ir.Constant(I64, 1)))
    mask.add_incoming(rest, builder.block)
    old.add_incoming(new, builder.block)
    builder.cbranch(builder.icmp_signed("!=", rest, ir.Constant(I64, 0)), loop, after)
    builder.position_at_end(after)
    builder.store(new, slots, align=8)


@intrinsic  # type: ignore[untyped-decorator]
def key_of(typingctx: Any, entry: Any) -> Any:
    """Return the float32 key of an entry."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        bits = builder.sub(builder.ashr(args[0], ir.Constant(I64, 32)), ir.Constant(I64, BIAS))
        return builder.bitcast(builder.trunc(bits, I32), F32)

    return types.float32(types.int64), codegen
