"""Tiles of distances by gaps: those of ROWS rows with TILE centres, made in registers, and which of them are low.

Centres stand in columns: a vector holds a coordinate of LANES of them. A tile is left as soon as all that its gaps have
made so far is beyond the limits, since no gap makes it less. Gaps are taken and joined one coordinate after the other,
in float32, without fused operations.
"""

from __future__ import annotations

from functools import reduce

from janelia_core.ml._simd.bits import LANES
from janelia_core.ml._simd.dot_tiles import WIDE
from janelia_core.ml._simd.emit import Builder, Value, Values, constant, f32, i64, vector
from janelia_core.ml._simd.gaps import joined
from janelia_core.ml._simd.intrinsics import Array, Choice, Int64, Uint64, intrinsic
from janelia_core.ml._simd.row_lanes import turned

ROWS, VECTORS = (4, 4) if WIDE else (2, 2)
"""Sixteen totals in 32 registers of AVX512, eight in 16 of AVX2."""
TILE = LANES * VECTORS
_STEP = 32  # coordinates between two looks at the limits


@intrinsic
def low_totals(
    build: Builder,
    way: Choice,
    rows: Array,
    row: Int64,
    columns: Array,
    tile: Int64,
    limits: Array,
    keys: Array,
    low: Array,
) -> Uint64:
    """Write the keys of a tile and which of them are below a limit, or neither; return whether any is.

    Args:
        build: The builder.
        way: What gaps make.
        rows: (n, d) float32 in C order.
        row: The first of the tile's rows.
        columns: (tiles, d, TILE) float32.
        tile: Which tile.
        limits: (n,) float32, of each row.
        keys: (ROWS, TILE) float32, written.
        low: (ROWS,) uint64, written: masks of those below the limit.
    """
    d = rows.length(1)
    points = [rows.at(build.mul(build.add(row, i64(r)), d)) for r in range(ROWS)]
    centres = columns.at(build.mul(tile, d), TILE)
    most = [build.splat(build.load(limits.at(build.add(row, i64(r)))), LANES) for r in range(ROWS)]

    def term(q: Value, totals: Values) -> Values:
        at = build.behind(centres, q, TILE)
        some = [build.load(build.behind(at, v * LANES), LANES) for v in range(VECTORS)]
        new = []
        for r in range(ROWS):
            value = build.splat(build.load(build.behind(points[r], q)), LANES)
            new += [joined(build, way, totals[r * VECTORS + v], build.fsub(value, some[v])) for v in range(VECTORS)]
        return new

    def below(totals: Values) -> Values:
        return [build.fcmp_ordered("<", total, most[cell // VECTORS]) for cell, total in enumerate(totals)]

    def step(values: Values) -> tuple[Values, Value]:
        q, _, *totals = values
        stop = build.add(q, i64(_STEP))
        stop = build.select(build.icmp_signed("<", stop, d), stop, d)
        totals = list(build.count(q, stop, 1, totals, term))
        any_low = build.bits_of(reduce(build.or_, below(totals)))
        more = build.and_(build.icmp_signed("<", stop, d), build.icmp_signed("!=", any_low, i64(0)))
        return [stop, any_low, *totals], more

    nothing = constant(vector(f32, LANES), 0.0)
    _, any_low, *totals = build.repeat([i64(0), i64(0), *[nothing] * (ROWS * VECTORS)], step)
    with build.if_then(build.icmp_signed("!=", any_low, i64(0))):
        for cell, total in enumerate(totals):
            build.store(total, keys.at(cell * LANES))
        masks = [build.bits_of(one) for one in below(totals)]
        for r in range(ROWS):
            own = [build.shl(masks[r * VECTORS + v], i64(v * LANES)) for v in range(VECTORS)]
            build.store(reduce(build.or_, own), low.at(r))
    return any_low


@intrinsic
def bring_square(build: Builder, ctrs: Array, first: Int64, q: Int64, columns: Array, tile: Int64, lane: Int64) -> None:
    """Bring LANES coordinates, from q on, of LANES centres, from `first` on, into lanes of the columns of a tile."""
    lines = [build.load(build.behind(ctrs.row(build.add(first, i64(i))), q), LANES) for i in range(LANES)]
    start = columns.at(build.mul(tile, ctrs.length(1)), TILE)
    for i, column in enumerate(turned(build, lines)):
        build.store(column, build.behind(build.behind(start, build.add(q, i64(i)), TILE), lane))
