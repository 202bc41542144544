"""Scores of a block of rows, a row in each lane, with one centre after the other: the best of each row, and the next.

Nothing is written but what a row keeps: sums, bests and their numbers stay in registers, and no lane needs another.
A score is  level_j + sum_q c_jq x_q,  summed in this order, fused where the CPU can. The larger is the better; of equal
ones the lower number is. For gaps it is  level_j - sum_q (c_jq - x_q)^2.
"""

from __future__ import annotations

from typing import Any

from janelia_core.ml._simd.dot_tiles import WIDE
from janelia_core.ml._simd.emit import FUSE, Builder, Value, Values, constant, f32, i1, i32, i64, lanes, vector
from janelia_core.ml._simd.intrinsics import Array, Int64, Uint64, intrinsic

LANES = 16 if WIDE else 8
VECTORS = 4 if WIDE else 2
ROWS = LANES * VECTORS
"""Rows of a block."""
CTRS = 4
"""Centres of a tile: sixteen sums in 32 registers of AVX512, eight in 16 of AVX2."""
SQUARE = LANES
"""Rows and coordinates of a square that is turned at once."""
WORST = -(2.0**127)
"""The score of no centre."""

_FLOATS, _INTEGERS = vector(f32, LANES), vector(i32, LANES)


def _tile(build: Builder, rows: Array, words: Array, tile: Value, gaps: bool = False) -> list[Values]:
    """Emit the scores of a tile, or levels less squares of gaps: of each of its centres, vector by vector of rows."""
    length = words.length(1)
    first = words.at(build.mul(tile, length), CTRS)

    def centres(q: Value) -> Values:
        column = build.behind(first, q, CTRS)
        return [build.splat(build.load(build.behind(column, t)), LANES) for t in range(CTRS)]

    def step(q: Value, sums: Values) -> Values:
        column = rows.at(build.sub(q, i64(1)), ROWS)
        points = [build.load(build.behind(column, v, LANES), LANES) for v in range(VECTORS)]
        pairs = [(c, x) for c in centres(q) for x in points]
        if gaps:
            pairs = [(build.fsub(c, x), build.fsub(x, c)) for c, x in pairs]  # one is the other's negative
        return [
            build.fadd(build.fmul(c, x, flags=FUSE), total, flags=FUSE)
            for total, (c, x) in zip(sums, pairs, strict=True)
        ]

    start = [level for level in centres(i64(0)) for _ in range(VECTORS)]
    sums = build.count(i64(1), length, 1, start, step)
    return [sums[t * VECTORS : (t + 1) * VECTORS] for t in range(CTRS)]


@intrinsic
def bring(
    build: Builder, x: Array, which: Array, lane: Int64, first: Int64, middle: Array, scale: Array, rows: Array
) -> Int64:
    """Bring SQUARE coordinates of as many rows into lanes, less the middle, times the scale; return how many.

    Args:
        build: The builder.
        x: (n, d) float32 or float64, in C order.
        which: (ROWS,) int64, which of them.
        lane: The first lane.
        first: The first coordinate.
        middle: (d,) in the type of x.
        scale: (1,) likewise.
        rows: (d, ROWS) float32, written.
    """
    wide = vector(f32, SQUARE)
    centre = build.load(middle.at(first), SQUARE)
    factor = build.splat(build.load(scale.at()), SQUARE)
    lines = []
    for r in range(SQUARE):
        start = x.row(build.load(which.at(build.add(lane, i64(r)))))
        line = build.fmul(build.fsub(build.load(build.behind(start, first), SQUARE), centre), factor)
        lines.append(line if line.type == wide else build.fptrunc(line, wide))
    for q, column in enumerate(turned(build, lines)):
        build.store(column, build.behind(rows.at(build.add(first, i64(q)), ROWS), lane))
    return i64(SQUARE)


def turned(build: Builder, lines: Values) -> Values:
    """Emit the transpose of a square: at each step, halves of blocks of lanes change places between two lines."""
    n = half = len(lines)
    lines = list(lines)
    while half > 1:
        half //= 2
        low = [lane if not lane & half else lane - half + n for lane in range(n)]
        high = [lane + half if not lane & half else lane + n for lane in range(n)]
        for i in range(n):
            if not i & half:
                pair = lines[i], lines[i + half]
                lines[i], lines[i + half] = (build.shuffle_vector(*pair, lanes(order)) for order in (low, high))
    return lines


@intrinsic
def two_best(build: Builder, rows: Array, words: Array, scores: Array, who: Array) -> Int64:
    """Write the best score of each row of a block, the second best, and whose the best is; return how many rows.

    Args:
        build: The builder.
        rows: (d, ROWS) float32 coordinates, d >= 1.
        words: (n_tiles, 1 + d, CTRS) float32: the level of each centre of a tile, then its coordinates.
        scores: (w, ROWS) float32, w >= 2, of which two rows are written.
        who: (w, ROWS) int32, of which one is.
    """
    worst, nobody = constant(_FLOATS, WORST), constant(_INTEGERS, -1)
    start = [part for _ in range(VECTORS) for part in (worst, worst, nobody)]

    def one(tile: Value, values: Values) -> Values:
        kept = list(values)
        for t, of_ctr in enumerate(_tile(build, rows, words, tile)):
            own = build.splat(build.add(build.trunc(build.times(tile, CTRS), i32), i32(t)), LANES)
            for v, score in enumerate(of_ctr):
                best, second, number = kept[3 * v : 3 * v + 3]
                better = build.fcmp_ordered(">", score, best)
                loser = build.select(better, best, score)
                kept[3 * v] = build.select(better, score, best)
                kept[3 * v + 1] = build.choose(">", loser, second)
                kept[3 * v + 2] = build.select(better, own, number)
        return kept

    values = build.count(i64(0), words.length(0), 1, start, one)
    for v in range(VECTORS):
        build.store(values[3 * v], scores.at(v, LANES))
        build.store(values[3 * v + 1], scores.at(VECTORS + v, LANES))
        build.store(values[3 * v + 2], who.at(v, LANES))
    return i64(ROWS)


def _scores(gaps: bool) -> Any:
    """Return an intrinsic: scores of a tile, or of gaps."""

    def emit(build: Builder, rows: Array, words: Array, tile: Int64, least: Array, at: Int64, new: Array) -> Uint64:
        """Write the scores of a block with a tile of centres; return a mask of the vectors in which any is good enough.

        Args:
            build: The builder.
            rows: As in `two_best`.
            words: Likewise.
            tile: Number of the tile.
            least: float32; from number `at` on, of each row what a score has to exceed.
            at: See least.
            new: (CTRS, ROWS) float32, written; bit t * VECTORS + v of the mask stands for vector v of row t.
        """
        mask, bounds = i64(0), [build.load(build.behind(least.at(at), v, LANES), LANES) for v in range(VECTORS)]
        for t, of_ctr in enumerate(_tile(build, rows, words, tile, gaps)):
            for v, (score, bound) in enumerate(zip(of_ctr, bounds, strict=True)):
                cell = t * VECTORS + v
                build.store(score, new.at(cell, LANES))
                hits = build.bits_of(build.fcmp_ordered(">", score, bound))
                any_hit = build.zext(build.icmp_unsigned("!=", hits, i64(0)), i64)
                mask = build.or_(mask, build.shl(any_hit, i64(cell)))
        return mask

    return intrinsic(emit)


scores_of_tile, gap_scores_of_tile = _scores(gaps=False), _scores(gaps=True)


@intrinsic
def enter(build: Builder, new: Array, cell: Int64, number: Int64, scores: Array, who: Array) -> Int64:
    """Put a centre in its place in the lists of a vector of rows, those after it move on; return how long lists are.

    Args:
        build: The builder.
        new: Scores, as `scores_of_tile` writes them.
        cell: Which vector of them.
        number: The centre's.
        scores: (w, ROWS) float32, of each row in descending order.
        who: (w, ROWS) int32, whose they are.
    """
    vector_of_rows = build.and_(cell, i64(VECTORS - 1))
    own = build.splat(build.trunc(number, i32), LANES)

    def one(level: Value, moving: Values) -> Values:
        score, name, placed = moving
        place = build.add(build.times(level, VECTORS), vector_of_rows)
        at, of = scores.at(place, LANES), who.at(place, LANES)
        old, holder = build.load(at, LANES), build.load(of, LANES)
        here = build.or_(placed, build.fcmp_ordered(">", score, old))  # whoever moves on stays before its equals
        build.store(build.select(here, score, old), at)
        build.store(build.select(here, name, holder), of)
        return [build.select(here, old, score), build.select(here, holder, name), here]

    start = [build.load(new.at(cell, LANES), LANES), own, constant(vector(i1, LANES), 0)]
    build.count(i64(0), scores.length(0), 1, start, one)
    return scores.length(0)
