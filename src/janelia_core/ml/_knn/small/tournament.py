"""A tournament: the smallest of many values, the next one when that is taken away, and so on, ties by position.

Values stand in groups of FAN; each group's smallest stands in a group of the next round, up to a last round of one
group. To take the smallest away costs two vector operations a round, whatever comes next: no comparison is a branch.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from janelia_core.ml._runtime.jit import jit

FAN = 16

_I32 = ir.IntType(32)


def _address(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    """Returns where the group starts, as a pointer to a vector."""
    data = context.make_array(signature.args[0])(context, builder, args[0]).data
    vector = ir.VectorType(data.type.pointee, FAN)
    return builder.bitcast(builder.gep(data, [args[1]]), vector.as_pointer())


def _align(signature: Any) -> int:
    return int(signature.args[0].dtype.bitwidth // 8)


def _least(builder: Any, values: Any) -> Any:
    """Returns the smallest lane of a vector."""
    lanes = FAN
    while lanes > 1:
        lanes //= 2
        low, high = (
            builder.shuffle_vector(values, values, ir.Constant(ir.VectorType(_I32, lanes), list(range(at, at + lanes))))
            for at in (0, lanes)
        )
        values = builder.select(builder.fcmp_ordered("<", low, high), low, high)
    return builder.extract_element(values, ir.Constant(_I32, 0))


def _splat(builder: Any, scalar: Any) -> Any:
    undefined = ir.Constant(ir.VectorType(scalar.type, FAN), ir.Undefined)
    first = builder.insert_element(undefined, scalar, ir.Constant(_I32, 0))
    return builder.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(_I32, FAN), [0] * FAN))


def _smallest(typing_context: Any, values: Any, start: Any) -> Any:
    """The smallest of values[start : start + FAN], none of them NaN."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        group = builder.load(_address(context, builder, signature, args), align=_align(signature))
        return _least(builder, group)

    return values.dtype(values, types.int64), codegen


def _place(typing_context: Any, values: Any, start: Any) -> Any:
    """Which of values[start : start + FAN] is the smallest, the first of equals; none of them NaN."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        group = builder.load(_address(context, builder, signature, args), align=_align(signature))
        is_least = builder.fcmp_ordered("==", group, _splat(builder, _least(builder, group)))
        mask = builder.bitcast(is_least, ir.IntType(FAN))
        return builder.zext(builder.cttz(mask, ir.Constant(ir.IntType(1), 1)), ir.IntType(64))

    return types.int64(values, types.int64), codegen


def _replace(typing_context: Any, values: Any, start: Any, lane: Any, value: Any) -> Any:
    """Writes values[start + lane] = value, and returns the smallest of the group then.

    The group is stored whole: to read it next, a CPU would wait for a shorter store.
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        address = _address(context, builder, signature, args)
        group = builder.load(address, align=_align(signature))
        lanes = ir.Constant(ir.VectorType(_I32, FAN), list(range(FAN)))
        here = builder.icmp_signed("==", lanes, _splat(builder, builder.trunc(args[2], _I32)))
        group = builder.select(here, _splat(builder, args[3]), group)
        builder.store(group, address, align=_align(signature))
        return _least(builder, group)

    return values.dtype(values, types.int64, types.int64, values.dtype), codegen


smallest: Any = intrinsic(_smallest)
place: Any = intrinsic(_place)
replace: Any = intrinsic(_replace)


@jit
def rounds_of(n: int) -> Any:
    """Returns where each round of n values starts, and behind them how many slots all rounds take."""
    n_rounds, groups = 1, (n + FAN - 1) // FAN
    while groups > 1:
        groups = (groups + FAN - 1) // FAN
        n_rounds += 1
    starts = np.zeros(n_rounds + 1, np.int64)
    groups = n
    for number in range(n_rounds):
        groups = (groups + FAN - 1) // FAN
        starts[number + 1] = starts[number] + FAN * groups
    return starts


@jit
def play(values: Any, starts: Any) -> None:
    """Fills all rounds but the first; unused slots of every round hold inf, and must do so before."""
    for number in range(1, starts.shape[0] - 1):
        for group in range((starts[number] - starts[number - 1]) // FAN):
            values[starts[number] + group] = smallest(values, starts[number - 1] + FAN * group)


@jit
def lowest(values: Any, starts: Any) -> Any:
    """Returns the smallest value."""
    return smallest(values, starts[-2])


@jit
def winner(values: Any, starts: Any) -> int:
    """Returns the position of the smallest value, the first of equals."""
    at = 0
    for number in range(starts.shape[0] - 2, -1, -1):
        at = FAN * at + place(values, starts[number] + FAN * at)
    return at


@jit
def withdraw(values: Any, starts: Any, at: int) -> None:
    """Takes the value at a position away: inf from now on."""
    least = np.inf
    for number in range(starts.shape[0] - 1):
        group, lane = at >> 4, at & (FAN - 1)  # FAN is 2^4
        least = replace(values, starts[number] + FAN * group, lane, least)
        at = group
