"""Numba pieces on bits: float32 as integers that order alike, how many of them reach a bound, and bits of masks.

Counting is written as LLVM vector code: an index `ranks[start + q]` might be negative for all that Numba knows, which
stops its vectoriser.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from janelia_core.ml._runtime.jit import jit

LANES = 16
"""Ranks looked at at once; behind the last of an array there must be room for LANES - 1 more."""

declared: Any = cgutils.get_or_insert_function  # its stubs know no types

_I64, _I32 = ir.IntType(64), ir.IntType(32)
_VECTOR = ir.VectorType(_I32, LANES)
_LOWEST = -(2**31)


def _folded(fold: Callable[[Any, Any, Any], Any], reduction: str, start_value: int) -> Callable[..., Any]:
    """Returns code that folds ranks[start : start + n], n >= 1, into a vector, and its lanes by a reduction."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        first = builder.gep(data, [args[1]])
        n = builder.trunc(args[2], _I32)
        own = args[3] if len(args) > 3 else None
        before, loop, after = builder.block, builder.append_basic_block(), builder.append_basic_block()
        builder.branch(loop)

        builder.position_at_end(loop)
        q, total = builder.phi(_I32), builder.phi(_VECTOR)
        place = builder.bitcast(builder.gep(first, [builder.sext(q, _I64)]), _VECTOR.as_pointer())
        values = builder.load(place, align=4)
        left = builder.sub(n, q)
        inside = builder.icmp_signed("<", ir.Constant(_VECTOR, list(range(LANES))), splat(builder, left))
        values = builder.select(inside, values, ir.Constant(_VECTOR, [_LOWEST] * LANES))
        folded = fold(builder, total, values if own is None else (values, splat(builder, own), inside))
        following = builder.add(q, ir.Constant(_I32, LANES))
        q.add_incoming(ir.Constant(_I32, 0), before)
        q.add_incoming(following, loop)
        total.add_incoming(ir.Constant(_VECTOR, [start_value] * LANES), before)
        total.add_incoming(folded, loop)
        builder.cbranch(builder.icmp_signed("<", following, n), loop, after)

        builder.position_at_end(after)
        reduce_ = ir.FunctionType(_I32, [_VECTOR])
        name = f"llvm.vector.reduce.{reduction}.v{LANES}i32"
        return builder.call(declared(builder.module, reduce_, name), [folded])

    return codegen


def splat(builder: Any, scalar: Any) -> Any:
    """Emit a vector with the scalar in all LANES lanes."""
    undefined = ir.Constant(ir.VectorType(scalar.type, LANES), ir.Undefined)
    first = builder.insert_element(undefined, scalar, ir.Constant(_I32, 0))
    return builder.shuffle_vector(first, undefined, ir.Constant(_VECTOR, [0] * LANES))


def _counted(builder: Any, total: Any, of: Any) -> Any:
    values, bound, inside = of
    hits = builder.and_(builder.icmp_signed(">=", values, bound), inside)
    return builder.add(total, builder.zext(hits, _VECTOR))


def _larger(builder: Any, total: Any, values: Any) -> Any:
    return builder.select(builder.icmp_signed(">", values, total), values, total)


def _reached_by(typing_context: Any, ranks: Any, start: Any, n: Any, bound: Any) -> Any:
    """How many of the int32 ranks[start : start + n], n >= 1, reach an int32 bound."""
    return types.int32(ranks, types.intp, types.intp, types.int32), _folded(_counted, "add", 0)


reached_by: Any = intrinsic(_reached_by)


def _largest(typing_context: Any, ranks: Any, start: Any, n: Any) -> Any:
    """The largest of the int32 ranks[start : start + n], n >= 1."""
    return types.int32(ranks, types.intp, types.intp), _folded(_larger, "smax", _LOWEST)


largest: Any = intrinsic(_largest)


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
def float32_above(value: Any) -> Any:
    """The next float32 above a finite float32."""
    return float_of_rank(np.int32(rank_of_float(value) + np.int32(1)))
