"""Keys of ROWS rows at once, one row a lane: of centres as they are stored, the k-th least of each row, who is within.

Rows stand as columns: coordinate q of all rows of a block is one vector. A coordinate of a centre meets it in all
lanes, and CTRS centres share its load; sums stay in registers until they are keys:

    squared gaps    sum_q (x_q - c_q)^2                two roundings a term, three where additions are not fused
    products        level_j - factor_j sum_q x_q c_q   one or two a term, and two

All are numbers of one type, float32 or float64. So that no row is sorted, `least` gathers the least key of each group
of centres, number j in group j modulo the number of groups: the k-th least of these is no less than that of all keys,
and hardly more where groups are 2 k. What is NaN is never the least, and never within a limit. Those within it are few,
and `rank` puts them in order: no comparison is a branch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from janelia_core.ml._simd.dot_tiles import WIDE
from janelia_core.ml._simd.emit import FUSE, Builder, Value, Values, constant, i1, i32, i64, lanes, vector
from janelia_core.ml._simd.intrinsics import Array, Float64, Int64, Uint64, intrinsic

ROWS, CTRS = 16, (8 if WIDE else 4)
SHARE = 4
"""Centres whose masks of ROWS lanes fit into one."""
STEP = 8
"""Values that are ranked at a time; behind the last of a list there must be room for STEP more."""
Sum = Callable[[Builder, Value, Value, Value], Value]


def _square_of_gap(build: Builder, total: Value, a: Value, b: Value) -> Value:
    gap = build.fsub(a, b)
    return build.fadd(build.fmul(gap, gap, flags=FUSE), total, flags=FUSE)


def _product(build: Builder, total: Value, a: Value, b: Value) -> Value:
    return build.fadd(build.fmul(a, b, flags=FUSE), total, flags=FUSE)


def _sums(build: Builder, columns: Array, ctrs: Array, j: Value, n: int, add: Sum) -> Values:
    """Emit the sums of a block of rows with centres j .. j + n - 1, of at least one coordinate."""
    first, points = columns.at(), [ctrs.row(build.add(j, i64(t))) for t in range(n)]

    def step(q: Value, totals: Values) -> Values:
        rows = build.load(build.behind(first, q, ROWS), ROWS)
        at = [build.splat(build.load(build.behind(point, q)), ROWS) for point in points]
        return [add(build, total, rows, value) for total, value in zip(totals, at, strict=True)]

    start = constant(vector(first.type.pointee, ROWS), 0.0)
    return build.count(i64(0), ctrs.length(1), 1, [start] * n, step)


def _put(build: Builder, made: Values, keys: Array, j: Value, least: Array, group: Value) -> None:
    """Emit the keys of centres j and following, and the least of their groups."""
    for t, some in enumerate(made):
        build.store(some, keys.at(build.add(j, i64(t)), ROWS))
        place = least.at(build.add(group, i64(t)), ROWS)
        build.store(build.choose("<", some, build.load(place, ROWS)), place)


def _gaps_of(n: int) -> Any:
    """Return an intrinsic: squared gaps of n centres."""

    def emit(build: Builder, columns: Array, ctrs: Array, j: Int64, keys: Array, least: Array, group: Int64) -> None:
        _put(build, _sums(build, columns, ctrs, j, n, _square_of_gap), keys, j, least, group)

    return intrinsic(emit)


def _products_of(n: int) -> Any:
    """Return an intrinsic: products of n centres, less from their levels, times their factors."""

    def emit(
        build: Builder,
        columns: Array,
        ctrs: Array,
        j: Int64,
        levels: Array,
        factors: Array,
        keys: Array,
        least: Array,
        group: Int64,
    ) -> None:
        made = []
        for t, total in enumerate(_sums(build, columns, ctrs, j, n, _product)):
            level, factor = (
                build.splat(build.load(array.at(build.add(j, i64(t)))), ROWS) for array in (levels, factors)
            )
            made.append(build.fsub(level, build.fmul(total, factor, flags=FUSE), flags=FUSE))
        _put(build, made, keys, j, least, group)

    return intrinsic(emit)


gaps_of_one, gaps_of_several = _gaps_of(1), _gaps_of(CTRS)
products_of_one, products_of_several = _products_of(1), _products_of(CTRS)


@intrinsic
def deny(build: Builder, keys: Array, words: Array, j: Int64, least: Array, group: Int64) -> None:
    """Make the key of centre j inf in lanes whose bit of words[j] is 0, and take it into the least of a group."""
    place, low = keys.at(j, ROWS), least.at(group, ROWS)
    may = build.bitcast(build.load(words.at(j)), vector(i1, ROWS))
    none = constant(vector(place.type.pointee, ROWS), float("inf"))
    key = build.select(may, build.load(place, ROWS), none)
    build.store(key, place)
    build.store(build.choose("<", key, build.load(low, ROWS)), low)


@intrinsic
def kth_least(build: Builder, least: Array, groups: Int64, k: Int64, lists: Array) -> None:
    """Sort the k least of each lane into lists (k * ROWS,); the last of them are the k-th."""

    def clear(slot: Value, nothing: Values) -> Values:
        build.store(constant(vector(lists.at().type.pointee, ROWS), float("inf")), lists.at(slot, ROWS))
        return nothing

    build.count(i64(0), k, 1, [], clear)

    def one(number: Value, nothing: Values) -> Values:
        def lower(slot: Value, carried: Values) -> Values:
            place, (new,) = lists.at(slot, ROWS), carried
            old = build.load(place, ROWS)
            build.store(build.choose("<", new, old), place)
            return [build.choose(">", new, old)]

        build.count(i64(0), k, 1, [build.load(least.at(number, ROWS), ROWS)], lower)
        return nothing

    build.count(i64(0), groups, 1, [], one)


@intrinsic
def lanes_within(build: Builder, keys: Array, j: Int64, limits: Array) -> Uint64:
    """A mask whose bit t * ROWS + lane tells whether the key of centre j + t, t < SHARE, is within the lane's limit."""
    most, mask = build.load(limits.at(), ROWS), i64(0)
    for t in range(SHARE):
        some = build.load(keys.at(build.add(j, i64(t)), ROWS), ROWS)
        mask = build.or_(mask, build.shl(build.bits_of(build.fcmp_ordered("<=", some, most)), i64(t * ROWS)))
    return mask


@intrinsic
def rank(build: Builder, values: Array, start: Int64, n: Int64, value: Float64, at: Int64) -> Int64:
    """How many of the float64 values[start : start + n], n >= 1, come before one of them, number `at`: ties in order.

    What stands behind them, up to a whole STEP, must be inf.
    """
    first, wanted = values.at(start), build.splat(value, STEP)

    def some(q: Value, total: Values) -> Values:
        here = build.load(build.behind(first, q), STEP)
        earlier = build.icmp_signed("<", lanes(range(STEP)), build.splat(build.trunc(build.sub(at, q), i32), STEP))
        equal = build.and_(build.fcmp_ordered("==", here, wanted), earlier)
        before = build.or_(build.fcmp_ordered("<", here, wanted), equal)
        return [build.add(*total, build.ctpop(build.bits_of(before)))]

    (counted,) = build.count(i64(0), n, STEP, [i64(0)], some)
    return counted
