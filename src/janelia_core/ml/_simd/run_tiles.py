"""Tiles of sums along the coordinates: of ROWS rows with CTRS centres as they are stored, and which keys are low.

A run of coordinates is loaded from each row and each centre of a tile, and used for all of its pairs; sums stay in
registers. All numbers are float32, or all are float64:

    squared gaps    sum_q (x_q - c_q)^2     two roundings a term, or three where additions are not fused
    products        sum_q x_q c_q           one, or two

A key is  sum * scale_j + reach_i * shift_j. What is NaN is not low.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba.core import types

from janelia_core.ml._simd.dot_tiles import WIDE
from janelia_core.ml._simd.emit import FUSE, Builder, Value, Values, constant, f32, f64, i32, i64, lanes, vector
from janelia_core.ml._simd.intrinsics import Array, Fields, Int64, Uint64, intrinsic

ROWS, CTRS = 4, (4 if WIDE else 2)
"""Sixteen sums in 32 registers of AVX512, eight in 16 of AVX2."""
CELLS = ROWS * CTRS
BYTES = 64 if WIDE else 32
Pair = Callable[[Builder, Value, Value], tuple[Value, Value]]


def run_length(dtype: np.dtype[Any]) -> int:
    """Return how many coordinates a run has."""
    return BYTES // dtype.itemsize


def _low(factors: Pair) -> Any:
    """Return an intrinsic: keys of sums of the products of two factors of each coordinate."""

    def emit(
        build: Builder, rows: Fields, row: Int64, ctrs: Array, ctr: Int64, terms: Fields, place: Int64, keys: Array
    ) -> Uint64:
        """Write the keys of a tile, those of a row one after the other; return the mask of those below a limit.

        Args:
            build: The builder.
            rows: `points` (n, length), all whole runs of a row but the last, and then its last run_length coordinates;
                `reach` and `limits` (n * CTRS,), of each row CTRS times.
            row: The first of the tile's rows.
            ctrs: (n_ctrs, d) in C order, d > run_length.
            ctr: The first of the tile's centres.
            terms: `scale` and `shift` of centres.
            place: Where in terms those of the tile's centres start.
            keys: (CELLS,), written.
        """
        coordinates = rows.points
        single = coordinates.holds == types.float32
        n, kind = BYTES // (4 if single else 8), f32 if single else f64
        length, d = coordinates.length(1), ctrs.length(1)
        whole = build.sub(length, i64(n))
        points = [coordinates.at(build.mul(build.add(row, i64(r)), length)) for r in range(ROWS)]
        stored = [ctrs.at(build.mul(build.add(ctr, i64(c)), d)) for c in range(CTRS)]

        def added(rows_at: Value, ctrs_at: Value, sums: Values, counts: Value | None = None) -> Values:
            a = [build.load(build.behind(point, rows_at), n) for point in points]
            b = [build.load(build.behind(point, ctrs_at), n) for point in stored]
            new = []
            for total, (x, c) in zip(sums, [(x, c) for x in a for c in b], strict=True):
                one, other = factors(build, x, c)
                if counts is not None:
                    one, other = (build.select(counts, factor, nothing) for factor in (one, other))
                new.append(build.fadd(build.fmul(one, other, flags=FUSE), total, flags=FUSE))
            return new

        nothing = constant(vector(kind, n), 0.0)
        # Of the last run, what whole runs do not hold.
        twice = build.trunc(build.sub(length, d), i32)
        fresh = build.icmp_signed(">=", lanes(range(n)), build.splat(twice, n))
        sums = added(whole, build.sub(d, i64(n)), [nothing] * CELLS, fresh)
        sums = build.count(i64(0), whole, n, sums, lambda q, so_far: added(q, q, so_far))
        return _keys(build, _totals(build, sums), rows, row, terms, place, keys)

    return intrinsic(emit)


def _keys(build: Builder, totals: Value, rows: Fields, row: Value, terms: Fields, place: Value, keys: Array) -> Value:
    """Emit the keys of a tile from its sums, and the mask of the low ones."""
    each = lanes([c for _ in range(ROWS) for c in range(CTRS)])
    of_ctrs = (build.load(array.at(place), CTRS) for array in (terms.scale, terms.shift))
    scales, shifts = (build.shuffle_vector(part, part, each) for part in of_ctrs)
    reaches, limits = (build.load(array.at(row, CTRS), CELLS) for array in (rows.reach, rows.limits))
    made = build.fadd(build.fmul(totals, scales), build.fmul(reaches, shifts))
    build.store(made, keys.at())
    return build.bits_of(build.fcmp_ordered("<", made, limits))


def _totals(build: Builder, sums: Values) -> Value:
    """Emit a vector of the sums over the lanes of each of CELLS vectors."""
    some, each = list(sums), sums[0].type.count
    n = each
    while each > 1:
        half, joined = each // 2, []
        for a, b in zip(some[::2], some[1::2], strict=True):
            low = [start + lane for start in range(0, 2 * n, each) for lane in range(half)]
            halves = (build.shuffle_vector(a, b, lanes(lane + more for lane in low)) for more in (0, half))
            joined.append(build.fadd(*halves))
        some, each = joined, half
    while len(some) > 1:
        n = some[0].type.count
        some = [build.shuffle_vector(a, b, lanes(range(2 * n))) for a, b in zip(some[::2], some[1::2], strict=True)]
    return some[0]


def _gap(build: Builder, x: Value, c: Value) -> tuple[Value, Value]:
    gap = build.fsub(x, c)
    return gap, gap


low_gaps = _low(_gap)
low_products = _low(lambda build, x, c: (x, c))
