"""Sums over the coordinates of two rows, in float64: squared differences, and products.

Rows are named by array and number. A slice such as `ctrs[j]` would cost more than the sum: Numba counts its references,
and threads that share an array contend for its one counter. The loop is written as LLVM vectors since the vectoriser
gives up on `x[i, start + q]`, whose index might be negative.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from janelia_core.ml._runtime.jit import jit
from janelia_core.ml._simd.bits import declared

CHAINS = 16
"""Independent sums: four float64 vectors of AVX2, enough to hide the latency of an addition."""
_SHORT = 4

_FUSE = ("contract",)  # a fused multiply-add only removes a rounding
_I64, _I32, _F64 = ir.IntType(64), ir.IntType(32), ir.DoubleType()


def _row(context: Any, builder: Any, array_type: Any, array: Any, i: Any) -> Any:
    """Returns the address of the first value of row i."""
    view = context.make_array(array_type)(context, builder, array)
    stride = builder.extract_value(view.strides, 0)
    start = builder.bitcast(view.data, ir.IntType(8).as_pointer())
    return builder.bitcast(builder.gep(start, [builder.mul(i, stride)]), view.data.type)


def _doubles(builder: Any, element: Any, address: Any, lanes: int) -> Any:
    """Loads values of any real dtype, aligned only as one of them is, as a vector of float64."""
    pointer = ir.VectorType(address.type.pointee, lanes).as_pointer()
    values = builder.load(builder.bitcast(address, pointer), align=element.bitwidth // 8)
    wide = ir.VectorType(_F64, lanes)
    if element == types.float64:
        return values
    if isinstance(element, types.Float):
        return builder.fpext(values, wide)
    return builder.sitofp(values, wide) if element.signed else builder.uitofp(values, wide)


def _total(builder: Any, vector: Any, lanes: int) -> Any:
    """Adds the lanes of a vector, halves first."""
    while lanes > 1:
        lanes //= 2
        halves = [
            builder.shuffle_vector(vector, vector, ir.Constant(ir.VectorType(_I32, lanes), list(range(at, at + lanes))))
            for at in (0, lanes)
        ]
        vector = builder.fadd(*halves)
    return builder.extract_element(vector, ir.Constant(_I32, 0))


def _summed(lanes: int, term: Callable[[Any, Any, Any], Any]) -> Any:
    """Returns an intrinsic: the sum of terms over columns first .. stop - 1, a positive multiple of lanes."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        x_type, c_type = signature.args[0], signature.args[2]
        x = _row(context, builder, x_type, args[0], args[1])
        c = _row(context, builder, c_type, args[2], args[3])
        first, stop = args[4], args[5]
        before, loop, after = builder.block, builder.append_basic_block(), builder.append_basic_block()
        builder.branch(loop)

        builder.position_at_end(loop)
        zero = ir.Constant(ir.VectorType(_F64, lanes), [0.0] * lanes)
        q, total = builder.phi(_I64), builder.phi(zero.type)
        a = _doubles(builder, x_type.dtype, builder.gep(x, [q]), lanes)
        b = _doubles(builder, c_type.dtype, builder.gep(c, [q]), lanes)
        more, following = term(builder, a, b), builder.add(q, ir.Constant(_I64, lanes))
        new_total = builder.fadd(total, more, flags=_FUSE)
        for phi, start, new in ((q, first, following), (total, zero, new_total)):
            phi.add_incoming(start, before)
            phi.add_incoming(new, loop)
        builder.cbranch(builder.icmp_signed("<", following, stop), loop, after)

        builder.position_at_end(after)
        return _total(builder, new_total, lanes)

    def typed(typing_context: Any, x: Any, i: Any, c: Any, j: Any, first: Any, stop: Any) -> Any:
        return types.float64(x, types.int64, c, types.int64, types.int64, types.int64), codegen

    return intrinsic(typed)


def _square_of_gap(builder: Any, a: Any, b: Any) -> Any:
    gap = builder.fsub(a, b)
    return builder.fmul(gap, gap, flags=_FUSE)


def _product(builder: Any, a: Any, b: Any) -> Any:
    return builder.fmul(a, b, flags=_FUSE)


_squares, _few_squares = _summed(CHAINS, _square_of_gap), _summed(_SHORT, _square_of_gap)
_products, _few_products = _summed(CHAINS, _product), _summed(_SHORT, _product)


_LINE = 64  # bytes of a line of cache


def _touch(typing_context: Any, rows: Any, i: Any, line: Any) -> Any:
    """Asks for a line of row i of a C-ordered array, to be read soon."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        start = builder.bitcast(_row(context, builder, signature.args[0], args[0], args[1]), ir.IntType(8).as_pointer())
        place = builder.gep(start, [builder.mul(args[2], ir.Constant(_I64, _LINE))])
        number = ir.FunctionType(ir.VoidType(), [start.type, _I32, _I32, _I32])
        fetch = declared(builder.module, number, "llvm.prefetch.p0")
        builder.call(fetch, [place, ir.Constant(_I32, 0), ir.Constant(_I32, 3), ir.Constant(_I32, 1)])
        return context.get_dummy_value()

    return types.void(rows, types.int64, types.int64), codegen


_touch_line: Any = intrinsic(_touch)


@jit
def prefetch(rows: Any, i: int) -> None:
    """Asks for row i of a C-ordered array."""
    for line in range((rows.shape[1] * rows.itemsize + _LINE - 1) // _LINE):
        _touch_line(rows, i, line)


@jit
def squared_distance(x: Any, i: int, ctrs: Any, j: int) -> float:
    """Sum of (x[i, q] - ctrs[j, q])^2 in float64; rows in C order, of any real dtypes."""
    d = x.shape[1]
    whole, most = d - d % CHAINS, d - d % _SHORT
    total = 0.0
    if whole > 0:
        total = _squares(x, i, ctrs, j, 0, whole)
    if most > whole:
        total += _few_squares(x, i, ctrs, j, whole, most)
    for q in range(most, d):
        gap = np.float64(x[i, q]) - np.float64(ctrs[j, q])
        total += gap * gap
    return total


@jit
def product(x: Any, i: int, ctrs: Any, j: int) -> float:
    """Sum of x[i, q] ctrs[j, q] in float64; rows in C order, of any real dtypes."""
    d = x.shape[1]
    whole, most = d - d % CHAINS, d - d % _SHORT
    total = 0.0
    if whole > 0:
        total = _products(x, i, ctrs, j, 0, whole)
    if most > whole:
        total += _few_products(x, i, ctrs, j, whole, most)
    for q in range(most, d):
        total += np.float64(x[i, q]) * np.float64(ctrs[j, q])
    return total
