"""Lists of the nearest so far as vectors: entries, sorted lists from a first leaf, entries merged into lists.

An entry is (key bits + BIAS) << 32 | id: ascending as integers and, because BIAS makes them normal numbers, as float64
too, whether or not the thread flushes subnormals. CPUs have a vector minimum for those.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from janelia_core.ml._simd.emit import Builder, Value, Values, constant, f32, f64, i1, i32, i64, lanes, vector
from janelia_core.ml._simd.intrinsics import Array, Boolean, Choice, Float32, Int64, intrinsic
from janelia_core.ml._simd.packet_keys import LEAF, NO_ID, PACKET, totals

CHUNK = 8
"""Slots of a list that one vector operation moves."""
BIAS = 1 << 20
EMPTY = ((0x7F800000 + BIAS) << 32) | NO_ID


@intrinsic
def write_entries(
    build: Builder, keys: Array, lane: Int64, ids: Array, leaf: Int64, by_id: Boolean, entries: Array
) -> None:
    """Write LEAF entries: keys[lane * LEAF:] with the ids of a leaf's points if `by_id`, else with their positions."""
    made = _entries(
        build, build.load(keys.at(lane, LEAF), LEAF), _low_halves(build, ids, build.times(leaf, LEAF), by_id)
    )
    build.store(made, entries.at())


@intrinsic
def first_lists(
    build: Builder,
    way: Choice,
    z: Array,
    leaf: Int64,
    x: Array,
    d: Int64,
    ids: Array,
    by_id: Boolean,
    chunks: Int64,
    lists: Array,
) -> None:
    """Fill the first slots of a packet's lists with a leaf's entries, ascending, EMPTY for keys that are not finite.

    A vector holds one point's entries for half of the queries; so a network of minima and maxima sorts those of all at
    once. What does not fit into a list of one chunk is dropped.
    """
    first = build.times(leaf, LEAF)
    points, packet = z.at(build.mul(first, d)), x.at()
    low = _low_halves(build, ids, first, by_id)

    def gap(point: int, q: Value) -> Value:
        rows = build.load(build.behind(packet, q, PACKET), PACKET)
        value = build.load(build.behind(build.behind(points, q, LEAF), point))
        return build.fsub(build.splat(value, PACKET), rows)

    keys = totals(build, way, d, [partial(gap, point) for point in range(LEAF)])
    for start in range(0, PACKET, CHUNK):
        columns = []
        for point in range(LEAF):
            some = build.part(keys[point], start, CHUNK)
            columns.append(_finite_entries(build, some, build.splat(build.extract_element(low, i32(point)), CHUNK)))
        for i, j in _comparisons(LEAF):
            columns[i], columns[j] = (build.choose(sign, columns[i], columns[j]) for sign in "<>")
        _write_lists(build, columns, chunks, lists.at(chunks, start * CHUNK))


@intrinsic
def merge(build: Builder, lists: Array, start: Int64, chunks: Int64, entries: Array, hits: Int64) -> None:
    """Merge the entries of a mask, not 0, into the ascending list lists[start : start + CHUNK * chunks].

    Without a branch: new[s] = min(old[s], max(old[s - 1], entry)), for lists of one or two chunks in registers. For
    longer ones chunk by chunk; what a chunk drops is left in `entries` for the next.
    """
    fresh = build.bitcast(entries.at(), f64.as_pointer())

    def insert(c: Value, n: int, is_followed: bool = False) -> None:
        slots = build.bitcast(lists.at(build.add(start, build.times(c, CHUNK))), f64.as_pointer())
        _insert(build, slots, n, fresh, hits, is_followed)

    def one_of_many(c: Value, nothing: Values) -> Values:
        insert(c, CHUNK, is_followed=True)
        return nothing

    with build.if_else(build.icmp_signed("==", chunks, i64(1))) as (one, more):
        with one:
            insert(i64(0), CHUNK)
        with more, build.if_else(build.icmp_signed("==", chunks, i64(2))) as (two, many):
            with two:
                insert(i64(0), 2 * CHUNK)
            with many:
                build.count(i64(0), chunks, 1, [], one_of_many)


@intrinsic
def key_of(build: Builder, entry: Int64) -> Float32:
    """Return the float32 key of an entry."""
    bits = build.sub(build.ashr(entry, i64(32)), i64(BIAS))
    return build.bitcast(build.trunc(bits, i32), f32)


def _low_halves(build: Builder, ids: Array, first: Value, by_id: Value) -> Value:
    """Emit the ids of a leaf's points, or their positions from its first on."""
    positions = build.add(build.splat(build.trunc(first, i32), LEAF), lanes(range(LEAF)))
    return build.select(by_id, build.load(ids.at(first), LEAF), positions)


def _entries(build: Builder, keys: Value, low: Value) -> Value:
    """Emit the entries of a vector of keys, int64."""
    n = keys.type.count
    wide = vector(i64, n)
    bits = build.zext(build.bitcast(keys, vector(i32, n)), wide)
    high = build.shl(build.add(bits, constant(wide, BIAS)), constant(wide, 32))
    return build.or_(high, build.zext(low, wide))


def _finite_entries(build: Builder, keys: Value, low: Value) -> Value:
    """Emit entries as float64, EMPTY where the key is infinite or NaN."""
    entries = _entries(build, keys, low)
    finite = build.fcmp_ordered("<", keys, constant(keys.type, float("inf")))
    return build.bitcast(build.select(finite, entries, constant(entries.type, EMPTY)), vector(f64, keys.type.count))


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


def _write_lists(build: Builder, columns: Values, chunks: Value, out: Value) -> None:
    """Emit the transposition of sorted columns, CHUNK queries wide, into the lists of these."""

    def write(n: int) -> None:
        for chunk in range(n):
            for query, slots in enumerate(_transposed(build, columns[chunk * CHUNK : (chunk + 1) * CHUNK])):
                place = build.add(build.times(chunks, query * CHUNK), i64(chunk * CHUNK))
                build.store(slots, build.behind(out, place))

    with build.if_else(build.icmp_signed("==", chunks, i64(1))) as (one, more):
        with one:
            write(1)
        with more:
            write(LEAF // CHUNK)


def _transposed(build: Builder, square: Values) -> Values:
    """Emit the transpose of a square, swapping blocks of 1, 2 and 4."""
    rows, n, step = list(square), len(square), 1
    while step < n:
        for i in range(n):
            if not i & step:
                a, b = rows[i], rows[i + step]
                low = lanes(lane if not lane & step else n + lane - step for lane in range(n))
                high = lanes(lane + step if not lane & step else n + lane for lane in range(n))
                rows[i], rows[i + step] = build.shuffle_vector(a, b, low), build.shuffle_vector(a, b, high)
        step *= 2
    return rows


def _insert(build: Builder, slots: Value, n: int, fresh: Value, hits: Value, is_followed: bool) -> None:
    """Emit the insertion of fresh[t], for all bits t of `hits`, into n slots."""
    shift = lanes([n, *range(n - 1)])

    def one(values: Values) -> tuple[Values, Value]:
        mask, old = values
        place = build.behind(fresh, build.cttz(mask, i1(1)))
        entry = build.load(place)
        if is_followed:
            build.store(build.choose(">", build.extract_element(old, i32(n - 1)), entry), place)
        before = build.shuffle_vector(old, constant(old.type, 0.0), shift)
        new = build.choose("<", old, build.choose(">", before, build.splat(entry, n)))
        rest = build.and_(mask, build.sub(mask, i64(1)))
        return [rest, new], build.icmp_signed("!=", rest, i64(0))

    build.store(build.repeat([hits, build.load(slots, n)], one)[1], slots)
