"""How gaps between the coordinates of two points make their distance: one of three ways, for which kernels compile.

A kernel is handed the way as a value of one of these types, which holds nothing: code is made for the type, so that
one way costs another nothing, neither while kernels run nor while they compile.

Each way is monotone in the magnitude of each gap, its roundings included.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

from llvmlite import ir

from janelia_core.ml._simd.emit import Builder, Value, f32, i1
from janelia_core.ml._simd.intrinsics import Boolean, Choice, Float64, intrinsic


class Squares(NamedTuple):
    """The sum of the squares of gaps."""


class Sizes(NamedTuple):
    """The sum of their magnitudes."""


class Largest(NamedTuple):
    """The largest magnitude."""


Way: TypeAlias = Squares | Sizes | Largest


def joined(build: Builder, way: Choice, total: Value, gap: Value, flags: Sequence[str] = ()) -> Value:
    """Emit a total with one more gap, numbers or vectors; NaN if the gap is. The largest forgets an earlier NaN."""
    if way is Squares:
        return build.fadd(total, build.fmul(gap, gap, flags=flags), flags=flags)
    size = build.call_llvm(f"llvm.fabs.{_named(gap.type)}", gap.type, gap)
    if way is Sizes:
        return build.fadd(total, size, flags=flags)
    return build.select(build.fcmp_unordered(">", size, total), size, total)


def merged(build: Builder, way: Choice, one: Value, other: Value) -> Value:
    """Emit what two totals make together; NaN if either is."""
    if way is not Largest:
        return build.fadd(one, other)
    larger = build.select(build.fcmp_unordered(">", one, other), one, other)
    return build.select(build.fcmp_unordered("uno", other, other), other, larger)


def _named(kind: ir.Type) -> str:
    """Return what LLVM calls a type in names of functions."""
    if isinstance(kind, ir.VectorType):
        return f"v{kind.count}{_named(kind.element)}"
    return "f32" if kind == f32 else "f64"


@intrinsic
def with_gap(build: Builder, way: Choice, total: Float64, gap: Float64) -> Float64:
    """Return a total with one more gap."""
    return joined(build, way, total, gap)


@intrinsic
def are_squares(build: Builder, way: Choice) -> Boolean:
    """Return whether gaps are squared."""
    return i1(way is Squares)
