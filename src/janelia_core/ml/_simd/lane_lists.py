"""The nearest centres of as many rows as vectors have lanes: all distances, and lists that take no branch.

A lane holds a row. The squared distances D^ of a centre to all rows, float64 or float32, become keys: float64 numbers
that carry the centre's number in their lowest bits. Each slot of the lists is a vector of keys (two of them where D^ is
float32), and a key finds its place by a minimum and a maximum a slot. Keys order by what the number leaves of D^ (all
of it, if that is float32: these leave 29 bits), then by number. What is NaN, or beyond FAR, counts as FAR: no list
tells apart what is so far.
"""

from __future__ import annotations

import functools

from numba.core import types

from janelia_core.ml._simd.emit import FUSE, Builder, Value, Values, constant, f32, f64, i1, i64, lanes, vector
from janelia_core.ml._simd.intrinsics import Array, Float64, Int64, intrinsic

LANES = 8
"""Rows of a vector of keys: as many are taken at a time by float64 distances, and twice as many by float32 ones."""
BLOCK = 4
"""Centres taken at a time: their sums do not wait for each other."""
PART = 16
"""Centres of which the least distance tells a limit."""
FAR = 2.0**1000

_KEYS, _BITS = vector(f64, LANES), vector(i64, LANES)
_SINGLES = vector(f32, LANES)
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
    made = _Lists(build, rows, own, low, lists)

    def block(j: Value, nothing: Values) -> Values:
        made.insert_near(made.keys(made.squared_distances(rows, ctrs.at(build.mul(j, d)), d), j), slots)
        return nothing

    made.clear(slots)
    build.count(i64(0), m, BLOCK, [], block)


@intrinsic
def list_among_many(
    build: Builder,
    rows: Array,
    own: Array,
    ctrs: Array,
    d: Int64,
    m: Int64,
    low: Int64,
    lists: Array,
    slots: Int64,
    far: Array,
) -> None:
    """Do what `list_nearest` does, in two passes: the second lists only what a limit of the first lets in.

    The first writes all D^ and the least of each PART centres. As many parts as there are slots, and one more, have
    something up to the limit, the least of the last of these; one of them may have but a row's own centre. So as many
    others as there are slots are within it.

    Args:
        build: Emits.
        rows: As there, like all that follows.
        own: Likewise.
        ctrs: Likewise.
        d: Likewise.
        m: More than PART times slots.
        low: Likewise.
        lists: (slots + 1, lanes), of which the last is scratch.
        slots: Likewise.
        far: Scratch of the type of rows: lanes numbers for each centre and each part, and BLOCK more of both.
    """
    made = _Lists(build, rows, own, low, lists)
    lanes, n_parts = made.lanes, build.udiv(build.add(m, i64(PART - 1)), i64(PART))
    least = far.at(build.mul(build.add(m, i64(BLOCK)), i64(lanes)))
    infinite = constant(vector(made.item, lanes), float("inf"))

    def forget(part: Value, nothing: Values) -> Values:
        build.store(infinite, build.behind(least, part, lanes))
        return nothing

    def measure(j: Value, nothing: Values) -> Values:
        place = build.behind(least, build.udiv(j, i64(PART)), lanes)
        lowest = build.load(place, lanes)
        for t, value in enumerate(made.squared_distances(rows, ctrs.at(build.mul(j, d)), d)):
            build.store(value, far.at(build.add(j, i64(t)), lanes))
            lowest = build.choose("<", value, lowest)
        build.store(lowest, place)
        return nothing

    def limit(part: Value, nothing: Values) -> Values:
        values = [build.load(build.behind(least, build.add(part, i64(t)), lanes), lanes) for t in range(BLOCK)]
        made.insert_near(made.keys(values, part, but_own=False), build.add(slots, i64(1)))
        return nothing

    def choose(j: Value, nothing: Values) -> Values:
        values = [build.load(far.at(build.add(j, i64(t)), lanes), lanes) for t in range(BLOCK)]
        lowest = infinite  # whatever is NaN comes after it
        for value in values:
            lowest = build.choose("<", value, lowest)
        with build.if_then(made.is_any(build.fcmp_ordered("<=", lowest, within))):
            for t, value in enumerate(values):
                with build.if_then(made.is_any(build.fcmp_ordered("<=", value, within))):
                    made.insert(made.keys([value], build.add(j, i64(t))), slots)
        return nothing

    build.count(i64(0), build.add(n_parts, i64(BLOCK)), 1, [], forget)
    build.count(i64(0), m, BLOCK, [], measure)
    made.clear(build.add(slots, i64(1)))
    build.count(i64(0), n_parts, BLOCK, [], limit)
    within = made.largest_kept(slots)
    made.clear(slots)
    build.count(i64(0), m, BLOCK, [], choose)


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


class _Lists:
    """Lists of LANES rows whose distances are float64, or of two such halves, whose distances are float32."""

    def __init__(self, build: Builder, rows: Array, own: Array, low: Value, lists: Array) -> None:
        self.item, self._halves = (f32, 2) if rows.holds == types.float32 else (f64, 1)
        self.lanes = self._halves * LANES
        self._build, self._lists = build, lists
        self._low, self._high = build.splat(low, LANES), build.splat(build.not_(low), LANES)
        self._own = [build.load(own.at(half * LANES), LANES) for half in range(self._halves)]

    def squared_distances(self, rows: Array, ctrs: Value, d: Value) -> Values:
        """Emit D^ of BLOCK centres to all rows."""
        build, lanes = self._build, self.lanes

        def term(q: Value, sums: Values) -> Values:
            row, more = build.load(rows.at(q, lanes), lanes), []
            for t, total in enumerate(sums):
                ctr = build.load(build.behind(build.behind(ctrs, build.times(d, t)), q))
                gap = build.fsub(row, build.splat(ctr, lanes))
                more.append(build.fadd(total, build.fmul(gap, gap, flags=FUSE), flags=FUSE))
            return more

        return build.count(i64(0), d, 1, [constant(vector(self.item, lanes), 0.0)] * BLOCK, term)

    def keys(self, far: Values, j: Value, but_own: bool = True) -> list[Values]:
        """Emit the keys of centres from j on, by halves: FAR for NaN, and none for the row whose own it is."""
        return [[self._key(far[t], j, t, half, but_own) for t in range(len(far))] for half in range(self._halves)]

    def _key(self, far: Value, j: Value, t: int, half: int, but_own: bool) -> Value:
        build = self._build
        part = build.part(far, half * LANES, LANES)
        wide = part if part.type == _KEYS else build.fpext(part, _KEYS)
        bits = build.bitcast(build.choose("<", wide, constant(_KEYS, FAR)), _BITS)
        number = build.splat(build.add(j, i64(t)), LANES)
        key = build.bitcast(build.or_(build.and_(bits, self._high), number), _KEYS)
        return build.select(build.icmp_signed("==", self._own[half], number), _NONE, key) if but_own else key

    def clear(self, slots: Value) -> None:
        """Emit what empties all lists."""

        def once(p: Value, nothing: Values) -> Values:
            for half in range(self._halves):
                self._build.store(_NONE, self._slot(p, half))
            return nothing

        self._build.count(i64(0), slots, 1, [], once)

    def insert_near(self, keys: list[Values], slots: Value) -> None:
        """Emit the insertion of keys, where one is before the last in a list."""
        build, near = self._build, []
        for half, some in enumerate(keys):
            least = some[0]
            for key in some[1:]:
                least = build.choose("<", least, key)
            last = build.load(self._slot(build.sub(slots, i64(1)), half), LANES)
            near.append(build.bits_of(build.fcmp_ordered("<", least, last)))
        with build.if_then(build.icmp_signed("!=", functools.reduce(build.or_, near), i64(0))):
            self.insert(keys, slots)

    def insert(self, keys: list[Values], slots: Value) -> None:
        """Emit the insertion of keys: each moves on from slot to slot, and leaves the least there."""
        build, count = self._build, len(keys[0])

        def once(p: Value, moving: Values) -> Values:
            left = []
            for half in range(self._halves):
                held = build.load(self._slot(p, half), LANES)
                for key in moving[half * count : (half + 1) * count]:
                    left.append(build.choose(">", held, key))
                    held = build.choose("<", held, key)
                build.store(held, self._slot(p, half))
            return left

        build.count(i64(0), slots, 1, [key for some in keys for key in some], once)

    def largest_kept(self, p: Value) -> Value:
        """Emit the largest D^ whose key can be that in slot p, for all rows, of the type of distances."""
        build = self._build
        kept = [build.bitcast(build.load(self._slot(p, half), LANES), _BITS) for half in range(self._halves)]
        if self._halves == 1:
            return build.bitcast(build.or_(kept[0], self._low), _KEYS)
        halves = [build.fptrunc(build.bitcast(build.and_(bits, self._high), _KEYS), _SINGLES) for bits in kept]
        return build.shuffle_vector(*halves, lanes(range(2 * LANES)))

    def is_any(self, truths: Value) -> Value:
        """Emit whether any lane is true."""
        bits = self._build.bits_of(truths)
        return self._build.icmp_signed("!=", bits, constant(bits.type, 0))

    def _slot(self, p: Value, half: int) -> Value:
        return self._build.behind(self._lists.at(p, self.lanes), half * LANES)
