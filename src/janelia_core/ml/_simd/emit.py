"""LLVM: its types, constants, and a builder that emits vectors, addresses, loops and reductions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias

from llvmlite import ir
from numba.core import cgutils

i1, i8, i32, i64 = (ir.IntType(bits) for bits in (1, 8, 32, 64))
f32, f64, nothing = ir.FloatType(), ir.DoubleType(), ir.VoidType()
FUSE = ("contract",)  # flags: a fused multiply-add only removes a rounding

Type: TypeAlias = ir.Type
Value: TypeAlias = ir.Value
Values: TypeAlias = Sequence[ir.Value]


def vector(item: Type, n: int) -> Type:
    """The type of n items."""
    return ir.VectorType(item, n)


def constant(kind: Type, value: float) -> Value:
    """A constant, or a vector with the same one in every lane."""
    return ir.Constant(kind, [value] * kind.count if isinstance(kind, ir.VectorType) else value)


def lanes(numbers: Iterable[int]) -> Value:
    """A vector of numbers, int32."""
    numbers = list(numbers)
    return ir.Constant(vector(i32, len(numbers)), numbers)


class Builder:
    """LLVM's own builder, whose instructions it hands on, and what is made of several of them."""

    def __init__(self, instructions: ir.IRBuilder) -> None:
        self._instructions = instructions

    def __getattr__(self, instruction: str) -> Any:
        return getattr(self._instructions, instruction)

    def splat(self, scalar: Value, n: int) -> Value:
        """Emit a vector with the scalar in all of n lanes."""
        undefined = ir.Constant(vector(scalar.type, n), ir.Undefined)
        return self.shuffle_vector(self.insert_element(undefined, scalar, i32(0)), undefined, lanes([0] * n))

    def part(self, values: Value, start: int, n: int) -> Value:
        """Emit n lanes of a vector."""
        return self.shuffle_vector(values, values, lanes(range(start, start + n)))

    def times(self, value: Value, factor: int) -> Value:
        """Emit the product with an integer constant."""
        return self.mul(value, constant(value.type, factor))

    def behind(self, address: Value, items: Value | int, each: int = 1) -> Value:
        """Emit the address items * each items behind another."""
        if isinstance(items, int):
            return self.gep(address, [i64(items * each)])
        return self.gep(address, [items if each == 1 else self.times(items, each)])

    def load(self, address: Value, n: int | None = None) -> Value:
        """Emit an item, or a vector of the n items from an address on, aligned only as one of them is."""
        if n is None:
            return self._instructions.load(address)
        item = address.type.pointee
        return self._instructions.load(self.bitcast(address, vector(item, n).as_pointer()), align=_bytes(item))

    def store(self, values: Value, address: Value) -> None:
        """Emit what writes an item, or a vector to the items from an address on."""
        if isinstance(values.type, ir.VectorType):
            place = self.bitcast(address, values.type.as_pointer())
            self._instructions.store(values, place, align=_bytes(values.type.element))
        else:
            self._instructions.store(values, address)

    def choose(self, sign: str, a: Value, b: Value) -> Value:
        """Emit `a if a sign b else b`, for floating-point numbers."""
        return self.select(self.fcmp_ordered(sign, a, b), a, b)

    def bits_of(self, truths: Value) -> Value:
        """Emit a mask, int64, of the truths in the lanes of a vector."""
        return self.zext(self.bitcast(truths, ir.IntType(truths.type.count)), i64)

    def reduce(self, values: Value, join: Callable[[Value, Value], Value]) -> Value:
        """Emit what joins the lanes of a vector, a power of two of them, one half with the other first."""
        while (half := values.type.count // 2) > 0:
            values = join(self.part(values, 0, half), self.part(values, half, half))
        return self.extract_element(values, i32(0))

    def call_llvm(self, name: str, result: Type, *arguments: Value) -> Value:
        """Emit a call of one of LLVM's own functions."""
        function = ir.FunctionType(result, [argument.type for argument in arguments])
        declared: Any = cgutils.get_or_insert_function
        return self.call(declared(self.module, function, name), arguments)

    def repeat(self, start: Values, body: Callable[[Values], tuple[Values, Value]]) -> Values:
        """Emit `values, again = body(values)`, begun with `start`, and while `again`; values stay in registers."""
        before, loop, after = self.block, self.append_basic_block(), self.append_basic_block()
        self.branch(loop)
        self.position_at_end(loop)
        values = [self.phi(value.type) for value in start]
        following, again = body(values)
        for value, first, new in zip(values, start, following, strict=True):
            value.add_incoming(first, before)
            value.add_incoming(new, self.block)
        self.cbranch(again, loop, after)
        self.position_at_end(after)
        return following

    def count(
        self, first: Value, stop: Value, step: int, start: Values, body: Callable[[Value, Values], Values]
    ) -> Values:
        """Emit `values = body(i, values)`, begun with `start`, for i in a range that is not empty."""

        def once(values: Values) -> tuple[Values, Value]:
            i, *others = values
            new = body(i, others)
            following = self.add(i, constant(i.type, step))
            return [following, *new], self.icmp_signed("<", following, stop)

        return self.repeat([first, *start], once)[1:]


def _bytes(item: Type) -> int:
    return int(item.intrinsic_name[1:]) // 8
