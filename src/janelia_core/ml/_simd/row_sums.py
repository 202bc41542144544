"""Sums over the coordinates of two rows, in float64: squared differences, products, and what else gaps make.

Rows are named by array and number. A slice such as `ctrs[j]` would cost more than the sum: Numba counts its references,
and threads that share an array contend for its one counter. The loop is written as LLVM vectors since the vectoriser
gives up on `x[i, start + q]`, whose index might be negative.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from numba.core import types

from janelia_core.ml._runtime.arrays import Reals
from janelia_core.ml._runtime.jit import jit
from janelia_core.ml._simd.emit import FUSE, Builder, Value, Values, constant, f64, i8, i32, i64, nothing, vector
from janelia_core.ml._simd.gaps import Largest, Squares, joined, merged
from janelia_core.ml._simd.intrinsics import Array, Choice, Float64, Int64, intrinsic

CHAINS = 16
"""Independent sums: four float64 vectors of AVX2, enough to hide the latency of an addition."""
_SHORT = 4
_LINE = 64  # bytes of a line of cache


def _doubles(build: Builder, holds: types.Type, address: Value, n: int | None) -> Value:
    """Emit a value of any real dtype, or a vector of n, as float64."""
    values, wide = build.load(address, n), f64 if n is None else vector(f64, n)
    if isinstance(holds, types.Float):
        return values if holds == types.float64 else build.fpext(values, wide)
    return build.sitofp(values, wide) if holds in types.signed_domain else build.uitofp(values, wide)


Term = Callable[[Builder, Value, Value, Value, Sequence[str]], Value]
"""(builder, total, x_q, c_q, flags) -> the total with one more coordinate."""


def _total(
    build: Builder, x: Array, i: Value, ctrs: Array, j: Value, term: Term, both: Callable[[Value, Value], Value]
) -> Value:
    """Emit the total of terms over all columns, in CHAINS, then in few, then one by one; `both` joins two totals.

    No function of arrays that a kernel calls: that would count references to them, which costs more than a short sum.
    """
    row, ctr, d = x.row(i), ctrs.row(j), x.length(1)

    def part(first: Value, stop: Value, n: int | None, total: Value) -> Value:
        flags = () if n is None else FUSE

        def more(q: Value, so_far: Values) -> Values:
            a = _doubles(build, x.holds, build.behind(row, q), n)
            b = _doubles(build, ctrs.holds, build.behind(ctr, q), n)
            return [term(build, so_far[0], a, b, flags)]

        before = build.block
        with build.if_then(build.icmp_signed("<", first, stop)):
            start = total if n is None else constant(vector(f64, n), 0.0)
            (added,) = build.count(first, stop, n or 1, [start], more)
            if n is not None:
                added = both(total, build.reduce(added, both))
            inside = build.block
        merged = build.phi(f64)
        merged.add_incoming(total, before)
        merged.add_incoming(added, inside)
        return merged

    whole, most = (build.sub(d, build.srem(d, i64(n))) for n in (CHAINS, _SHORT))
    total = part(i64(0), whole, CHAINS, constant(f64, 0.0))
    return part(most, d, None, part(whole, most, _SHORT, total))


def _with_product(build: Builder, total: Value, a: Value, b: Value, flags: Sequence[str]) -> Value:
    return build.fadd(total, build.fmul(a, b, flags=flags), flags=flags)


@intrinsic
def distance(build: Builder, way: Choice, x: Array, i: Int64, ctrs: Array, j: Int64) -> Float64:
    """What a way makes of all x[i, q] - ctrs[j, q] in float64, NaN if one is; rows in C order, of any dtypes."""

    def term(build: Builder, total: Value, a: Value, b: Value, flags: Sequence[str]) -> Value:
        gap = build.fsub(a, b)
        if way is not Largest:
            return joined(build, way, total, gap, flags)
        return merged(build, way, total, joined(build, way, constant(gap.type, 0.0), gap))

    return _total(build, x, i, ctrs, j, term, partial(merged, build, way))


@intrinsic
def squared_distance(build: Builder, x: Array, i: Int64, ctrs: Array, j: Int64) -> Float64:
    """The sum of (x[i, q] - ctrs[j, q])^2 in float64; rows in C order, of any real dtypes."""

    def term(build: Builder, total: Value, a: Value, b: Value, flags: Sequence[str]) -> Value:
        return joined(build, Squares, total, build.fsub(a, b), flags)

    return _total(build, x, i, ctrs, j, term, build.fadd)


@intrinsic
def product(build: Builder, x: Array, i: Int64, ctrs: Array, j: Int64) -> Float64:
    """The sum of x[i, q] ctrs[j, q] in float64; rows in C order, of any real dtypes."""
    return _total(build, x, i, ctrs, j, _with_product, build.fadd)


@intrinsic
def _touch(build: Builder, rows: Array, i: Int64, line: Int64) -> None:
    """Asks for a line of row i of a C-ordered array, to be read soon."""
    place = build.behind(build.bitcast(rows.row(i), i8.as_pointer()), line, _LINE)
    build.call_llvm("llvm.prefetch.p0", nothing, place, i32(0), i32(3), i32(1))


@jit
def prefetch(rows: Reals, i: int) -> None:
    """Asks for row i of a C-ordered array."""
    for line in range((rows.shape[1] * rows.itemsize + _LINE - 1) // _LINE):
        _touch(rows, i, line)
