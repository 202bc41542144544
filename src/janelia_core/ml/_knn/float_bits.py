"""Numba pieces on bits: 64 comparisons into one mask, and float32 as integers that order alike.

The 64-wide comparison is written as LLVM vector code because neither spelling that Numba vectorises by itself
tells *which* entries hit: counting (`hits += row[q] >= t`) needs a second, scalar pass over each group that
hit.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from janelia_core.ml._jit import jit

LANES = 64
"""Scores compared at once; the width of a tile is a multiple of it."""


def _mask_builder(predicate: str) -> Callable[..., Any]:
    """Returns code that compares LANES entries of a flat array with a scalar into the bits of a uint64."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        array_type = signature.args[0]
        array = context.make_array(array_type)(context, builder, args[0])
        scalar = context.get_value_type(array_type.dtype)
        vector = ir.VectorType(scalar, LANES)
        start = builder.gep(array.data, [args[1]], inbounds=True)
        # The array owns LANES entries from `start`; only the alignment of one entry is promised.
        values = builder.load(builder.bitcast(start, vector.as_pointer()), align=array_type.dtype.bitwidth // 8)
        single = builder.insert_element(ir.Constant(vector, ir.Undefined), args[2], ir.Constant(ir.IntType(32), 0))
        splat = builder.shuffle_vector(single, single, ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES))
        compare = {
            types.float32: builder.fcmp_ordered,
            types.int16: builder.icmp_signed,
            types.uint16: builder.icmp_unsigned,
        }[array_type.dtype]
        return builder.bitcast(compare(predicate, values, splat), ir.IntType(LANES))

    return codegen


def _mask_ge(typing_context: Any, array: Any, start: Any, bound: Any) -> Any:
    """Bit q of the result: array[start + q] >= bound, for q < LANES (False for NaN)."""
    return types.uint64(array, types.intp, array.dtype), _mask_builder(">=")


mask_ge: Any = intrinsic(_mask_ge)


def _mask_le(typing_context: Any, array: Any, start: Any, bound: Any) -> Any:
    """Bit q of the result: array[start + q] <= bound, for q < LANES (False for NaN)."""
    return types.uint64(array, types.intp, array.dtype), _mask_builder("<=")


mask_le: Any = intrinsic(_mask_le)


def _first_bit(typing_context: Any, mask: Any) -> Any:
    """Position of the lowest set bit of a nonzero uint64."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.cttz(args[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(types.uint64), codegen


first_bit: Any = intrinsic(_first_bit)


def _float_of_bits(typing_context: Any, bits: Any) -> Any:
    """The float32 whose bit pattern is the given uint32."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], ir.FloatType())

    return types.float32(types.uint32), codegen


float_of_bits: Any = intrinsic(_float_of_bits)


def _bits_of_float(typing_context: Any, value: Any) -> Any:
    """The bit pattern of a float32 as uint32."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], ir.IntType(32))

    return types.uint32(types.float32), codegen


bits_of_float: Any = intrinsic(_bits_of_float)


@jit
def rank_of_float(value: Any) -> Any:
    """A float32 as an int32 that orders as floats do (-0 just below +0); its own inverse on bit patterns."""
    bits = np.int32(bits_of_float(value))
    return np.int32(bits ^ ((bits >> np.int32(31)) & np.int32(0x7FFFFFFF)))


@jit
def float_of_rank(rank: Any) -> Any:
    """The float32 of a rank."""
    return float_of_bits(np.uint32(rank ^ ((rank >> np.int32(31)) & np.int32(0x7FFFFFFF))))


@jit
def float32_below(value: float) -> Any:
    """The largest float32 at most `value`."""
    near = np.float32(value)
    while float(near) > value:  # twice at +0, whose predecessor is -0
        near = float_of_rank(np.int32(rank_of_float(near) - np.int32(1)))
    return near


@jit
def float32_above(value: Any) -> Any:
    """The next float32 above a finite float32."""
    return float_of_rank(np.int32(rank_of_float(value) + np.int32(1)))
