"""Products of bytes of one row and one centre, each of which lies in one piece."""

from __future__ import annotations

from janelia_core.ml._simd.bits import LANES
from janelia_core.ml._simd.emit import Builder, Value, Values, constant, i32, i64, vector
from janelia_core.ml._simd.intrinsics import Array, Int32, Int64, intrinsic

_SUMS = vector(i32, LANES)


@intrinsic
def byte_product(build: Builder, ctrs: Array, ctr: Int64, rows: Array, row: Int64, n: Int64) -> Int32:
    """The exact sum of products of 4 n unsigned bytes of a centre and signed ones of a row (AVX512-VNNI).

    Args:
        build: The builder.
        ctrs: Words of 32 bits; a centre's are from number `ctr` on.
        ctr: See ctrs.
        rows: Words of 32 bits; a row's are from number `row` on.
        row: See rows.
        n: How many words, a multiple of LANES, not 0.
    """
    centre, point = ctrs.at(ctr), rows.at(row)

    def step(q: Value, sums: Values) -> Values:
        words = [build.load(build.behind(address, q), LANES) for address in (centre, point)]
        return [build.call_llvm("llvm.x86.avx512.vpdpbusd.512", _SUMS, sums[0], *words)]

    (sums,) = build.count(i64(0), n, LANES, [constant(_SUMS, 0)], step)
    return build.reduce(sums, build.add)
