"""Numba pieces on bits: float32 as integers that order alike, how many of them reach a bound, and bits of masks.

Counting is written as LLVM vector code: an index `ranks[start + q]` might be negative for all that Numba knows, which
stops its vectoriser.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from janelia_core.ml._runtime.jit import jit
from janelia_core.ml._simd.emit import Builder, Value, Values, constant, f32, f64, i1, i32, i64, lanes, vector
from janelia_core.ml._simd.intrinsics import Array, Float32, Float64, Int32, Int64, Uint32, intrinsic

LANES = 16
"""Ranks looked at at once; behind the last of an array there must be room for LANES - 1 more."""
_RANKS = vector(i32, LANES)
_LOWEST = -(2**31)


def _fold(build: Builder, first: Value, n: Value, start: int, fold: Callable[[Value, Value, Value], Value]) -> Value:
    """Emit the fold (so far, ranks, which of them count) of n >= 1 ranks from an address on."""
    n = build.trunc(n, i32)

    def some(q: Value, so_far: Values) -> Values:
        ranks = build.load(build.behind(first, build.sext(q, i64)), LANES)
        inside = build.icmp_signed("<", lanes(range(LANES)), build.splat(build.sub(n, q), LANES))
        return [fold(so_far[0], build.select(inside, ranks, constant(_RANKS, _LOWEST)), inside)]

    (folded,) = build.count(i32(0), n, LANES, [constant(_RANKS, start)], some)
    return folded


@intrinsic
def reached_by(build: Builder, ranks: Array, start: Int64, n: Int64, bound: Int32) -> Int32:
    """How many of the int32 ranks[start : start + n], n >= 1, reach an int32 bound."""
    bounds = build.splat(bound, LANES)

    def counted(total: Value, some: Value, inside: Value) -> Value:
        hits = build.and_(build.icmp_signed(">=", some, bounds), inside)
        return build.add(total, build.zext(hits, _RANKS))

    return build.reduce(_fold(build, ranks.at(start), n, 0, counted), build.add)


@intrinsic
def largest(build: Builder, ranks: Array, start: Int64, n: Int64) -> Int32:
    """The largest of the int32 ranks[start : start + n], n >= 1."""

    def larger(a: Value, b: Value, inside: Value = None) -> Value:
        return build.select(build.icmp_signed(">", b, a), b, a)

    return build.reduce(_fold(build, ranks.at(start), n, _LOWEST, larger), larger)


@intrinsic
def first_bit(build: Builder, mask: Int64) -> Int64:
    """Position of the lowest set bit of a mask of 64 bits that is not 0."""
    return build.cttz(mask, i1(1))


@intrinsic
def bits_set(build: Builder, mask: Int64) -> Int64:
    """How many bits of a mask are set."""
    return build.ctpop(mask)


@intrinsic
def float_of_bits(build: Builder, bits: Uint32) -> Float32:
    """The float32 whose bit pattern is the given uint32."""
    return build.bitcast(bits, f32)


@intrinsic
def bits_of_float(build: Builder, value: Float32) -> Uint32:
    """The bit pattern of a float32 as uint32."""
    return build.bitcast(value, i32)


@intrinsic
def bits_of_double(build: Builder, value: Float64) -> Int64:
    """The bit pattern of a float64 as int64."""
    return build.bitcast(value, i64)


@intrinsic
def double_of_bits(build: Builder, bits: Int64) -> Float64:
    """The float64 whose bit pattern is the given int64."""
    return build.bitcast(bits, f64)


@jit
def rank_of_float(value: np.float32) -> np.int32:
    """A float32 as an int32 that orders as floats do (-0 just below +0); its own inverse on bit patterns."""
    bits = np.int32(bits_of_float(value))
    return np.int32(bits ^ ((bits >> np.int32(31)) & np.int32(0x7FFFFFFF)))


@jit
def float_of_rank(rank: np.int32) -> np.float32:
    """The float32 of a rank."""
    value: np.float32 = float_of_bits(np.uint32(rank ^ ((rank >> np.int32(31)) & np.int32(0x7FFFFFFF))))
    return value


@jit
def float32_above(value: np.float32) -> np.float32:
    """The next float32 above a finite float32."""
    return float_of_rank(np.int32(rank_of_float(value) + np.int32(1)))
