"""LLVM inside of Numba's kernels: types, constants, addresses, loops, reductions, and the way for kernels to call it.

A function that emits code takes a builder and what a kernel hands over: an `Array`, the `Fields` of a named tuple of
arrays, or a plain value. Its annotations say which; `intrinsic` makes of them what Numba wants to know.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Annotated, Any, TypeAlias, get_type_hints

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic as numba_intrinsic

i1, i8, i32, i64 = (ir.IntType(bits) for bits in (1, 8, 32, 64))
f32, f64 = ir.FloatType(), ir.DoubleType()
FUSE = ("contract",)  # flags: a fused multiply-add only removes a rounding

Boolean: TypeAlias = Annotated[ir.Value, types.boolean]
Int32: TypeAlias = Annotated[ir.Value, types.int32]
Int64: TypeAlias = Annotated[ir.Value, types.int64]
Uint32: TypeAlias = Annotated[ir.Value, types.uint32]
Uint64: TypeAlias = Annotated[ir.Value, types.uint64]
Float32: TypeAlias = Annotated[ir.Value, types.float32]
Float64: TypeAlias = Annotated[ir.Value, types.float64]
Item: TypeAlias = Annotated[ir.Value, None]
"""A value of the type that the first array holds."""

Values: TypeAlias = Sequence[ir.Value]


class Array:
    """An array of a kernel.

    Attributes:
        holds: Numba's type of its items.
    """

    def __init__(self, context: Any, build: ir.IRBuilder, kind: types.Array, value: ir.Value) -> None:
        self._build, self._view, self.holds = build, context.make_array(kind)(context, build, value), kind.dtype
        self._data = self._view.data

    def at(self, items: ir.Value | int = 0, each: int = 1) -> ir.Value:
        """Emit the address of item number items * each of a contiguous array."""
        return behind(self._build, self._data, items, each)

    def row(self, i: ir.Value) -> ir.Value:
        """Emit the address of the first item of row i."""
        start = self._build.bitcast(self._data, i8.as_pointer())
        start = self._build.gep(start, [self._build.mul(i, self._build.extract_value(self._view.strides, 0))])
        return self._build.bitcast(start, self._data.type)


class Fields:
    """A named tuple of arrays, of a kernel. A kernel that reads a field itself counts references to it."""

    def __init__(self, context: Any, build: ir.IRBuilder, kind: types.NamedTuple, value: ir.Value) -> None:
        self._context, self._build, self._kind, self._value = context, build, kind, value

    def __getattr__(self, name: str) -> Array:
        place = self._kind.fields.index(name)
        return Array(self._context, self._build, self._kind[place], self._build.extract_value(self._value, place))


def intrinsic(emit: Callable[..., ir.Value | None]) -> Any:
    """Make a function that emits code one that kernels call.

    Arrays and tuples are taken as they come, values are cast to what the annotations say.
    """
    _, *wanted, result = get_type_hints(emit, include_extras=True).values()

    @functools.wraps(emit)
    def typed(typing_context: Any, *given: types.Type) -> tuple[Any, Callable[..., ir.Value]]:
        def named(hint: Any, own: types.Type = types.void) -> types.Type:
            (kind,) = getattr(hint, "__metadata__", (own,))
            return next(array.dtype for array in given if isinstance(array, types.Array)) if kind is None else kind

        return named(result)(*map(named, wanted, given)), emitted

    def emitted(context: Any, build: ir.IRBuilder, signature: Any, values: Values) -> ir.Value:
        given = [
            hint(context, build, kind, value) if hint in (Array, Fields) else value
            for hint, kind, value in zip(wanted, signature.args, values, strict=True)
        ]
        value = emit(build, *given)
        return context.get_dummy_value() if value is None else value

    return numba_intrinsic(typed)


def constant(kind: ir.Type, value: float) -> ir.Constant:
    """A constant, or a vector with the same one in every lane."""
    return ir.Constant(kind, [value] * kind.count if isinstance(kind, ir.VectorType) else value)


def lanes(numbers: Iterable[int]) -> ir.Constant:
    """A vector of numbers, int32."""
    numbers = list(numbers)
    return ir.Constant(ir.VectorType(i32, len(numbers)), numbers)


def splat(build: ir.IRBuilder, scalar: ir.Value, n: int) -> ir.Value:
    """Emit a vector with the scalar in all of n lanes."""
    undefined = ir.Constant(ir.VectorType(scalar.type, n), ir.Undefined)
    return build.shuffle_vector(build.insert_element(undefined, scalar, i32(0)), undefined, lanes([0] * n))


def times(build: ir.IRBuilder, value: ir.Value, factor: int) -> ir.Value:
    """Emit the product with an integer constant."""
    return build.mul(value, constant(value.type, factor))


def behind(build: ir.IRBuilder, address: ir.Value, items: ir.Value | int, each: int = 1) -> ir.Value:
    """Emit the address items * each items behind another."""
    items = i64(items * each) if isinstance(items, int) else times(build, items, each) if each != 1 else items
    return build.gep(address, [items])


def load(build: ir.IRBuilder, address: ir.Value, n: int) -> ir.Value:
    """Emit a vector of the n items from an address on."""
    item = address.type.pointee
    return build.load(build.bitcast(address, ir.VectorType(item, n).as_pointer()), align=_bytes(item))


def store(build: ir.IRBuilder, vector: ir.Value, address: ir.Value) -> None:
    """Emit what writes a vector to the items from an address on."""
    build.store(vector, build.bitcast(address, vector.type.as_pointer()), align=_bytes(vector.type.element))


def _bytes(item: ir.Type) -> int:
    """What an item takes: vectors are aligned only as one of their items is."""
    return int(item.intrinsic_name[1:]) // 8


def choose(build: ir.IRBuilder, sign: str, a: ir.Value, b: ir.Value) -> ir.Value:
    """Emit `a if a sign b else b`, for floating-point numbers."""
    return build.select(build.fcmp_ordered(sign, a, b), a, b)


def bits_of(build: ir.IRBuilder, truths: ir.Value) -> ir.Value:
    """Emit a mask, int64, of the truths in the lanes of a vector."""
    return build.zext(build.bitcast(truths, ir.IntType(truths.type.count)), i64)


def part(build: ir.IRBuilder, vector: ir.Value, start: int, n: int) -> ir.Value:
    """Emit n lanes of a vector."""
    return build.shuffle_vector(vector, vector, lanes(range(start, start + n)))


def reduce(build: ir.IRBuilder, vector: ir.Value, join: Callable[[ir.Value, ir.Value], ir.Value]) -> ir.Value:
    """Emit what joins the lanes of a vector, a power of two of them, the half of them with the other half first."""
    while (half := vector.type.count // 2) > 0:
        vector = join(part(build, vector, 0, half), part(build, vector, half, half))
    return build.extract_element(vector, i32(0))


def call(build: ir.IRBuilder, name: str, result: ir.Type, *arguments: ir.Value) -> ir.Value:
    """Emit a call of one of LLVM's own functions."""
    function = ir.FunctionType(result, [argument.type for argument in arguments])
    declared: Any = cgutils.get_or_insert_function
    return build.call(declared(build.module, function, name), arguments)


def repeat(build: ir.IRBuilder, start: Values, body: Callable[[Values], tuple[Values, ir.Value]]) -> Values:
    """Emit `values, again = body(values)`, begun with `start` and repeated while `again`; values stay in registers."""
    before, loop, after = build.block, build.append_basic_block(), build.append_basic_block()
    build.branch(loop)
    build.position_at_end(loop)
    values = [build.phi(value.type) for value in start]
    following, again = body(values)
    for value, first, new in zip(values, start, following, strict=True):
        value.add_incoming(first, before)
        value.add_incoming(new, build.block)
    build.cbranch(again, loop, after)
    build.position_at_end(after)
    return following


def count(
    build: ir.IRBuilder,
    span: tuple[ir.Value, ir.Value, int],
    start: Values,
    body: Callable[[ir.Value, Values], Values],
) -> Values:
    """Emit `for i in range(*span): values = body(i, values)`, begun with `start`, for a span that is not empty."""
    first, stop, step = span

    def once(values: Values) -> tuple[Values, ir.Value]:
        i, *others = values
        new = body(i, others)
        following = build.add(i, constant(i.type, step))
        return [following, *new], build.icmp_signed("<", following, stop)

    return repeat(build, [first, *start], once)[1:]
