"""As `row_lanes`, in bfloat16 at first: which groups of centres come near the best of a row; and these in float32.

A word holds two coordinates, of which one instruction adds both products (AVX512-BF16). Of a group's scores only the
largest is kept.
"""

from __future__ import annotations

from janelia_core.ml._simd.dot_tiles import compiles
from janelia_core.ml._simd.emit import FUSE, Builder, Value, Values, constant, f32, i1, i32, i64, lanes, vector
from janelia_core.ml._simd.intrinsics import Array, Int64, Uint64, intrinsic
from janelia_core.ml._simd.row_lanes import CTRS, LANES, ROWS, VECTORS, WORST

GROUP = 16
"""Centres of a group: whole tiles, and a vector of them."""
CHAINS = 4
"""Independent sums over the coordinates, enough to hide the latency of an addition."""
SERVES = compiles("bfloat16") and ROWS == 64
"""Whether this machine has the instructions; a mask has a bit for each row of a block."""

_FLOATS = vector(f32, LANES)
_MEMBERS = vector(f32, GROUP)


def _with_products(build: Builder, sums: Value, ctr: Value, row: Value) -> Value:
    if not SERVES:
        return sums
    return build.call_llvm("llvm.x86.avx512bf16.dpbf16ps.512", _FLOATS, sums, ctr, row)


@intrinsic
def group_tops(build: Builder, rows: Array, words: Array, levels: Array, tops: Array, best: Array) -> Int64:
    """Write the largest score of each row of a block in each group of centres, and in all; return how many groups.

    Args:
        build: The builder.
        rows: (n_words, ROWS) int32 words, n_words >= 1.
        words: (n_tiles, n_words, CTRS) int32, whole groups of tiles.
        levels: (n_tiles * CTRS,) float32, what sums start from.
        tops: (n_groups, ROWS) float32, written.
        best: (ROWS,) float32, written.
    """
    length, tiles, worst = words.length(1), GROUP // CTRS, constant(_FLOATS, WORST)

    def one_tile(tile: Value, largest: Values) -> Values:
        first, level = words.at(build.mul(tile, length), CTRS), levels.at(tile, CTRS)

        def step(q: Value, sums: Values) -> Values:
            column, points = build.behind(first, q, CTRS), rows.at(q, ROWS)
            ctrs = [build.splat(build.load(build.behind(column, t)), LANES) for t in range(CTRS)]
            block = [build.load(build.behind(points, v, LANES), LANES) for v in range(VECTORS)]
            pairs = ((c, x) for c in ctrs for x in block)
            return [_with_products(build, total, c, x) for total, (c, x) in zip(sums, pairs, strict=True)]

        start = [build.splat(build.load(build.behind(level, t)), LANES) for t in range(CTRS)]
        sums = build.count(i64(0), length, 1, [s for s in start for _ in range(VECTORS)], step)
        new = list(largest)
        for place, total in enumerate(sums):
            new[place % VECTORS] = build.choose(">", total, new[place % VECTORS])
        return new

    def one_group(group: Value, largest: Values) -> Values:
        first = build.times(group, tiles)
        own = build.count(first, build.add(first, i64(tiles)), 1, [worst] * VECTORS, one_tile)
        for v, top in enumerate(own):
            build.store(top, tops.at(build.add(build.times(group, VECTORS), i64(v)), LANES))
        return [build.choose(">", top, old) for top, old in zip(own, largest, strict=True)]

    n_groups = tops.length(0)
    all_best = build.count(i64(0), n_groups, 1, [worst] * VECTORS, one_group)
    for v, top in enumerate(all_best):
        build.store(top, best.at(v, LANES))
    return n_groups


@intrinsic
def rows_near(build: Builder, tops: Array, group: Int64, floors: Array) -> Uint64:
    """A mask of the rows of a block whose score in a group reaches the row's floor."""
    mask = i64(0)
    for v in range(VECTORS):
        some = build.load(tops.at(build.add(build.times(group, VECTORS), i64(v)), LANES), LANES)
        hits = build.fcmp_ordered(">=", some, build.load(floors.at(v, LANES), LANES))
        mask = build.or_(mask, build.shl(build.bits_of(hits), i64(v * LANES)))
    return mask


@intrinsic
def two_best_of_group(build: Builder, rows: Array, row: Int64, words: Array, group: Int64, found: Array) -> Int64:
    """Write the best and the second best score of a row in a group, in float32; return whose the best is in it.

    Args:
        build: The builder.
        rows: (d, ROWS) float32 coordinates, d a multiple of CHAINS.
        row: Which row of the block.
        words: (n_groups, 1 + d, GROUP) float32: the level of each centre of a group, then its coordinates.
        group: Which group.
        found: (2,) float32, written.
    """
    length = words.length(1)
    first = words.at(build.mul(group, length), GROUP)

    def step(q: Value, totals: Values) -> Values:
        new = []
        for c, total in enumerate(totals):
            place = build.add(q, i64(c))
            x = build.splat(build.load(build.behind(rows.at(build.sub(place, i64(1)), ROWS), row)), GROUP)
            ctrs = build.load(build.behind(first, place, GROUP), GROUP)
            new.append(build.fadd(build.fmul(ctrs, x, flags=FUSE), total, flags=FUSE))
        return new

    start = [build.load(first, GROUP), *[constant(_MEMBERS, 0.0)] * (CHAINS - 1)]
    a, b, c, d = build.count(i64(1), length, CHAINS, start, step)
    scores = build.fadd(build.fadd(a, b), build.fadd(c, d))

    def larger(a: Value, b: Value) -> Value:
        return build.choose(">", a, b)

    best = build.reduce(scores, larger)
    hits = build.bits_of(build.fcmp_ordered("==", scores, build.splat(best, GROUP)))
    lane = build.cttz(build.or_(hits, i64(1 << GROUP)), i1(1))
    is_own = build.icmp_signed("==", lanes(range(GROUP)), build.splat(build.trunc(lane, i32), GROUP))
    build.store(best, found.at())
    build.store(build.reduce(build.select(is_own, constant(_MEMBERS, WORST), scores), larger), found.at(1))
    return lane
