"""Sums over the coordinates of two rows, in float64: squared differences, and products.

Rows are named by array and number. A slice such as `ctrs[j]` would cost more than the sum: Numba counts its references,
and threads that share an array contend for its one counter. The loop is written as LLVM vectors since the vectoriser
gives up on `x[i, start + q]`, whose index might be negative.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba.core import types

from janelia_core.ml._runtime.arrays import Reals
from janelia_core.ml._runtime.jit import jit
from janelia_core.ml._simd.emit import FUSE, Builder, Value, Values, constant, f64, i8, i32, nothing, vector
from janelia_core.ml._simd.intrinsics import Array, Float64, Int64, intrinsic

CHAINS = 16
"""Independent sums: four float64 vectors of AVX2, enough to hide the latency of an addition."""
_SHORT = 4
_LINE = 64  # bytes of a line of cache


def _doubles(build: Builder, holds: types.Type, address: Value, n: int) -> Value:
    """Emit a vector of n values of any real dtype as float64."""
    values, wide = build.load(address, n), vector(f64, n)
    if isinstance(holds, types.Float):
        return values if holds == types.float64 else build.fpext(values, wide)
    return build.sitofp(values, wide) if holds in types.signed_domain else build.uitofp(values, wide)


def _summed(n: int, term: Callable[[Builder, Value, Value], Value]) -> Any:
    """Return an intrinsic: the sum of terms over columns first .. stop - 1, a positive multiple of n."""

    def emit(build: Builder, x: Array, i: Int64, ctrs: Array, j: Int64, first: Int64, stop: Int64) -> Float64:
        row, ctr = x.row(i), ctrs.row(j)

        def more(q: Value, total: Values) -> Values:
            a = _doubles(build, x.holds, build.behind(row, q), n)
            b = _doubles(build, ctrs.holds, build.behind(ctr, q), n)
            return [build.fadd(*total, term(build, a, b), flags=FUSE)]

        (total,) = build.count(first, stop, n, [constant(vector(f64, n), 0.0)], more)
        return build.reduce(total, build.fadd)

    return intrinsic(emit)


def _square_of_gap(build: Builder, a: Value, b: Value) -> Value:
    gap = build.fsub(a, b)
    return build.fmul(gap, gap, flags=FUSE)


def _product(build: Builder, a: Value, b: Value) -> Value:
    return build.fmul(a, b, flags=FUSE)


_squares, _few_squares = _summed(CHAINS, _square_of_gap), _summed(_SHORT, _square_of_gap)
_products, _few_products = _summed(CHAINS, _product), _summed(_SHORT, _product)


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


@jit
def squared_distance(x: Reals, i: int, ctrs: Reals, j: int) -> float:
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
def product(x: Reals, i: int, ctrs: Reals, j: int) -> float:
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
