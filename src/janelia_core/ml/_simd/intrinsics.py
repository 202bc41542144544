"""What kernels call and what they hand over: functions that emit code, and the types of their arguments.

Such a function takes a builder, then an `Array`, the `Fields` of a named tuple of arrays, a `Choice`, or a plain value.
Its annotations say which; `intrinsic` makes of them what Numba wants to know.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Annotated, Any, TypeAlias, get_type_hints

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic as numba_intrinsic

from janelia_core.ml._simd.emit import Builder, Value, Values, i8

Boolean: TypeAlias = Annotated[Value, types.boolean]
Int32: TypeAlias = Annotated[Value, types.int32]
Int64: TypeAlias = Annotated[Value, types.int64]
Uint32: TypeAlias = Annotated[Value, types.uint32]
Uint64: TypeAlias = Annotated[Value, types.uint64]
Float32: TypeAlias = Annotated[Value, types.float32]
Float64: TypeAlias = Annotated[Value, types.float64]
Choice: TypeAlias = type
"""A named tuple that holds nothing: its class, known when code is made."""
Item: TypeAlias = Annotated[Value, None]
"""A value of the type that the first array holds."""


class Array:
    """An array of a kernel.

    Attributes:
        holds: Numba's type of its items.
    """

    def __init__(self, context: Any, build: Builder, kind: types.Array, value: Value) -> None:
        view = context.make_array(kind)(context, build, value)
        self._build, self._view, self._first, self.holds = build, view, view.data, kind.dtype

    def at(self, items: Value | int = 0, each: int = 1) -> Value:
        """Emit the address of item number items * each of a contiguous array."""
        return self._build.behind(self._first, items, each)

    def length(self, axis: int) -> Value:
        """Emit how many items the array has along an axis."""
        return self._build.extract_value(self._view.shape, axis)

    def row(self, i: Value) -> Value:
        """Emit the address of the first item of row i."""
        start = self._build.bitcast(self._first, i8.as_pointer())
        bytes_before = self._build.mul(i, self._build.extract_value(self._view.strides, 0))
        return self._build.bitcast(self._build.gep(start, [bytes_before]), self._first.type)


class Fields:
    """A named tuple of arrays, of a kernel. A kernel that reads a field itself counts references to it."""

    def __init__(self, context: Any, build: Builder, kind: types.NamedTuple, value: Value) -> None:
        self._context, self._build, self._kind, self._value = context, build, kind, value

    def __getattr__(self, name: str) -> Array:
        place = self._kind.fields.index(name)
        return Array(self._context, self._build, self._kind[place], self._build.extract_value(self._value, place))


def intrinsic(emit: Callable[..., Value | None]) -> Any:
    """Make a function that emits code one that kernels call.

    Arrays and tuples are taken as they come, values are cast to what the annotations say.
    """
    _, *wanted, result = get_type_hints(emit, include_extras=True).values()

    @functools.wraps(emit)
    def typed(typing_context: Any, *given: types.Type) -> tuple[Any, Callable[..., Value]]:
        def named(hint: Any, own: types.Type = types.void) -> types.Type:
            (kind,) = getattr(hint, "__metadata__", (own,))
            return next(array.dtype for array in given if isinstance(array, types.Array)) if kind is None else kind

        return named(result)(*map(named, wanted, given)), emitted

    def emitted(context: Any, instructions: ir.IRBuilder, signature: Any, values: Values) -> Value:
        build = Builder(instructions)
        given = [
            hint(context, build, kind, value)
            if hint in (Array, Fields)
            else (kind.instance_class if hint is Choice else value)
            for hint, kind, value in zip(wanted, signature.args, values, strict=True)
        ]
        value = emit(build, *given)
        return context.get_dummy_value() if value is None else value

    return numba_intrinsic(typed)
