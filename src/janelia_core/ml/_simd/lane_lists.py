"""The nearest centres of as many rows as vectors have lanes: all distances, and lists that take no branch.

A lane holds a row. The squared distances D^ of a centre to all rows, float64 or float32, become keys: float64 numbers
that carry the centre's number in their lowest bits. Each slot of the lists is a vector of keys (two of them where D^ is
float32), and a key finds its place by a minimum and a maximum a slot. Keys order by what the number leaves of D^ (all
of it, if that is float32: these leave 29 bits), then by number. What is NaN, or beyond FAR, counts as FAR: no list
tells apart what is so far.
"""

from __future__ import annotations

from llvmlite import ir
from numba.core import types

from janelia_core.ml._simd.emit import FUSE, Builder, Value, Values, constant, f32, f64, i1, i64, vector
from janelia_core.ml._simd.intrinsics import Array, Float64, Int64, intrinsic

LANES = 8
"""Rows of a vector of keys: as many are taken at a time by float64 distances, and twice as many by float32 ones."""
BLOCK = 4
"""Centres taken at a time: their sums do not wait for each other."""
FAR = 2.0**1000

_KEYS, _BITS = vector(f64, LANES), vector(i64, LANES)
_NONE = constant(_KEYS, float("inf"))


@intrinsic
def list_nearest(
    build: Builder, rows: Array, own: Array, ctrs: Array, d: Int64, m: Int64, low: Int64, lists: Array, slots: Int64
) -> None:
    """Fill lists (slots, lanes), ascending, with the first keys of m centres for each of LANES or 2 LANES rows.

    Args:
        build: Emits.
        rows: (d, lanes) float64 or float32.
        own: (lanes,) int64 number of the centre that a row does not meet, -1 if none.
        ctrs: (m, d) of the same, and behind them rows of NaN up to a multiple of BLOCK.
        d: At least 1.
        m: At least 1.
        low: All the bits that numbers of centres take.
        lists: Written, float64.
        slots: At least 1; where there are fewer keys, what fills the rest is FAR or more.
    """
    item, halves = (f32, 2) if rows.holds == types.float32 else (f64, 1)
    lanes, last = halves * LANES, build.sub(slots, i64(1))
    high = build.splat(build.not_(low), LANES)
    owned = [build.load(own.at(half * LANES), LANES) for half in range(halves)]

    def slot(p: Value, half: int) -> Value:
        return build.behind(lists.at(p, lanes), half * LANES)

    def clear(p: Value, nothing: Values) -> Values:
        for half in range(halves):
            build.store(_NONE, slot(p, half))
        return nothing

    def block(j: Value, nothing: Values) -> Values:
        far = _squared_distances(build, item, lanes, rows, ctrs.at(build.mul(j, d)), d)
        keys = [
            _key(build, build.part(far[t], half * LANES, LANES), build.add(j, i64(t)), owned[half], high)
            for half in range(halves)
            for t in range(BLOCK)
        ]
        near = i64(0)
        for half in range(halves):
            least, *others = keys[half * BLOCK : (half + 1) * BLOCK]
            for key in others:
                least = build.choose("<", least, key)
            near = build.or_(near, build.bits_of(build.fcmp_ordered("<", least, build.load(slot(last, half), LANES))))
        with build.if_then(build.icmp_signed("!=", near, i64(0))):
            build.count(i64(0), slots, 1, keys, insert)
        return nothing

    def insert(p: Value, keys: Values) -> Values:
        left = []
        for half in range(halves):
            held = build.load(slot(p, half), LANES)
            for key in keys[half * BLOCK : (half + 1) * BLOCK]:
                left.append(build.choose(">", held, key))
                held = build.choose("<", held, key)
            build.store(held, slot(p, half))
        return left

    build.count(i64(0), slots, 1, [], clear)
    build.count(i64(0), m, BLOCK, [], block)


@intrinsic
def proven(
    build: Builder,
    lists: Array,
    lanes: Int64,
    first: Int64,
    slots: Int64,
    k: Int64,
    relative: Float64,
    absolute: Float64,
    low: Int64,
    exact: Float64,
) -> Int64:
    """Return the mask of rows, LANES of them, whose first k are proven to be those of all, in the order of true D.

    Args:
        build: Emits.
        lists: (slots, lanes) of `list_nearest`, with a slot beyond the k-th where there is one more centre.
        lanes: Of the lists.
        first: Of the rows in question.
        slots: k or k + 1.
        k: At least 1.
        relative: How far what a key keeps of D^ can be from D: relative to D^,
        absolute: and beside that; 0: a key of 0 means that D is 0.
        low: All the bits that numbers of centres take.
        exact: Keys of less keep all of D^, which is D: equal ones tie. 0: there are none.
    """
    high, one = build.splat(build.not_(low), LANES), constant(f64, 1.0)
    above, below = (build.splat(value, LANES) for value in (build.fadd(one, relative), build.fsub(one, relative)))
    beside = build.splat(absolute, LANES)

    def value(p: Value) -> Value:
        key = build.load(build.behind(lists.at(build.mul(p, lanes)), first), LANES)
        return build.bitcast(build.and_(build.bitcast(key, _BITS), high), _KEYS)

    def pair(p: Value, values: Values) -> Values:
        before, clear = values
        far = value(p)
        least, most = build.fsub(build.fmul(far, below), beside), build.fadd(build.fmul(far, above), beside)
        apart = build.fcmp_ordered(">", least, before)
        tied = build.fcmp_ordered("<=", most, constant(_KEYS, 0.0))
        return [most, build.and_(clear, build.or_(apart, tied))]

    start = [constant(_KEYS, -1.0), constant(vector(i1, LANES), 1)]
    clear = build.count(i64(0), slots, 1, start, pair)[1]
    near = build.fcmp_ordered("<", value(build.sub(k, i64(1))), constant(_KEYS, FAR))
    whole = build.fcmp_ordered("<", value(build.sub(slots, i64(1))), build.splat(exact, LANES))
    return build.bits_of(build.and_(near, build.or_(clear, whole)))


def _squared_distances(build: Builder, item: ir.Type, lanes: int, rows: Array, ctrs: Value, d: Value) -> Values:
    """Emit D^ of BLOCK centres to all rows."""

    def term(q: Value, sums: Values) -> Values:
        row, more = build.load(rows.at(q, lanes), lanes), []
        for t, total in enumerate(sums):
            ctr = build.load(build.behind(build.behind(ctrs, build.times(d, t)), q))
            gap = build.fsub(row, build.splat(ctr, lanes))
            more.append(build.fadd(total, build.fmul(gap, gap, flags=FUSE), flags=FUSE))
        return more

    return build.count(i64(0), d, 1, [constant(vector(item, lanes), 0.0)] * BLOCK, term)


def _key(build: Builder, far: Value, j: Value, own: Value, high: Value) -> Value:
    """Emit the keys of centre j for LANES rows: FAR for NaN, and none for the row whose own it is."""
    wide = far if far.type == _KEYS else build.fpext(far, _KEYS)
    bits = build.bitcast(build.choose("<", wide, constant(_KEYS, FAR)), _BITS)
    number = build.splat(j, LANES)
    key = build.bitcast(build.or_(build.and_(bits, high), number), _KEYS)
    return build.select(build.icmp_signed("==", own, number), _NONE, key)
