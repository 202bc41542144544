"""Tiles of scores: those of a few rows with TILE centres, made, compared and forgotten in registers.

A matrix product alone would write every score to memory and read it back. Here a tile's sums stay in vector registers
until they are keys, and of those only a mask of what reaches the row's threshold is looked at.

Coordinates come in words of 32 bits: one float32, two bfloat16 or four int8. A step multiplies one word of each of
ROWS rows with the same word of TILE centres and adds to ROWS x TILE sums:

    float32    a multiplication and an addition, fused where the CPU can
    bfloat16   vdpbf16ps (AVX512-BF16): two products, added in float32
    int8       vpdpbusd (AVX512-VNNI): four products of a signed and an unsigned byte, added exactly in int32

The key of row i and centre j is  (t * beta_j) * alpha_i + (a_i * e_j + h_j)  in float32, with t the sum turned to
float32: six roundings or, where additions are fused, fewer. The caller's constants make it an upper bound of a score.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numba.core import types
from numba.core.registry import cpu_target
from numba.np.numpy_support import from_dtype

from janelia_core.ml._simd.bits import LANES
from janelia_core.ml._simd.emit import FUSE, Builder, Value, Values, f32, i32, i64, vector
from janelia_core.ml._simd.intrinsics import Array, Fields, Float32, Int64, Uint64, intrinsic

_FEATURES = frozenset(cpu_target.target_context.codegen().magic_tuple()[2].split(","))
WIDE = "+avx512f" in _FEATURES
VECTORS = 4 if WIDE else 1
ROWS = 4 if WIDE else 6
"""Sixteen sums in 32 registers of AVX512, twelve in 16 of AVX2, 24 in 32 of NEON."""
TILE = LANES * VECTORS
"""Centres of a tile."""
PARAMETERS = 3
"""Vectors of TILE float32 that come with a tile: beta_j, e_j, h_j."""

_NEEDS = {"int8": "+avx512vnni", "bfloat16": "+avx512bf16"}

_INTEGERS, _FLOATS = vector(i32, LANES), vector(f32, LANES)

WORDS = {"float32": np.float32, "bfloat16": np.uint32, "int8": np.int32}
"""The type of an array of words tells the kernel its format."""
_FORMATS: dict[types.Type, str] = {from_dtype(np.dtype(word)): name for name, word in WORDS.items()}


def compiles(name: str) -> bool:
    """Tell whether Numba compiles this format's instructions for this machine."""
    return name not in _NEEDS or {_NEEDS[name], "+avx512f"} <= _FEATURES


@intrinsic
def score_tile(
    build: Builder,
    tiles: Fields,
    tile: Int64,
    rows: Fields,
    row: Int64,
    thresholds: Array,
    keys: Array,
    key: Int64,
    stride: Int64,
    masks: Array,
) -> Uint64:
    """Write the keys of ROWS rows with a tile and, for each row, the mask of those that reach its threshold.

    Args:
        build: The builder.
        tiles: `words` of centres, tile after tile, TILE for each word of a point in turn; and float32 `parameters`,
            beta, e and h of a tile's centres. Number `tile` counts.
        tile: See tiles.
        rows: As many as a multiple of ROWS: `words` (n, n_words), n_words >= 1; `start`, what sums start from, int32
            for int8, else float32; float32 `alpha` and `reach` (a_i). Number `row` is the first that counts.
        row: See rows.
        thresholds: float32, of every row.
        keys: float32, written: those of a row and the tile from `key` on, those of the next row `stride` further.
        key: See keys.
        stride: See keys.
        masks: (ROWS,) uint64, written: bit q stands for centre q of the tile.

    Returns:
        All masks, or-ed.
    """
    numbers, n_words = [build.add(row, i64(r)) for r in range(ROWS)], rows.words.length(1)
    starts, alphas, reaches, least = (
        [build.splat(build.load(array.at(number)), LANES) for number in numbers]
        for array in (rows.start, rows.alpha, rows.reach, thresholds)
    )
    points = [rows.words.at(build.mul(number, n_words)) for number in numbers]
    sums = _sums(build, starts, points, tiles.words, build.mul(tile, n_words), n_words)
    parameters, all_masks = tiles.parameters.at(tile, PARAMETERS * TILE), i64(0)
    for r in range(ROWS):
        first = keys.at(build.add(key, build.times(stride, r)))
        made = _keys(build, sums[r], alphas[r], reaches[r], parameters)
        mask = _mask(build, [(some, least[r]) for some in made])
        for v, some in enumerate(made):
            build.store(some, build.behind(first, v, LANES))
        build.store(mask, masks.at(r))
        all_masks = build.or_(all_masks, mask)
    return all_masks


@intrinsic
def reaching(build: Builder, keys: Array, start: Int64, bound: Float32) -> Uint64:
    """A mask whose bit q tells whether the float32 keys[start + q], those of a tile, reaches a bound."""
    first, bounds = keys.at(start), build.splat(bound, LANES)
    return _mask(build, [(_part(build, first, v), bounds) for v in range(VECTORS)])


def _sums(build: Builder, starts: Values, rows: Values, ctrs: Array, tile: Value, n_words: Value) -> list[Values]:
    """Emit the loop over words, n_words >= 1, and return the sums of ROWS x VECTORS; tile: words before it / TILE."""
    multiply, first = _multiply(build, _FORMATS[ctrs.holds]), ctrs.at(tile, TILE)

    def step(q: Value, sums: Values) -> Values:
        column, new = build.behind(first, q, TILE), []
        words = [_part(build, column, v) for v in range(VECTORS)]
        for r, row in enumerate(rows):
            word = build.splat(build.load(build.behind(row, q)), LANES)
            own = sums[r * VECTORS : (r + 1) * VECTORS]
            new += [multiply(total, ctr, word) for total, ctr in zip(own, words, strict=True)]
        return new

    sums = build.count(i64(0), n_words, 1, [start for start in starts for _ in range(VECTORS)], step)
    return [sums[r * VECTORS : (r + 1) * VECTORS] for r in range(ROWS)]


def _multiply(build: Builder, name: str) -> Callable[[Value, Value, Value], Value]:
    """Return the step of a format: (sums, words of centres, a row's word in all lanes) -> sums."""
    if not compiles(name):
        raise ValueError(f"no {name} instructions on this machine")
    if name == "float32":
        return lambda sums, ctrs, row: _fused(build, ctrs, row, sums)
    # LLVM's parser knows the older signature of bfloat16's, on words, and brings it up to date.
    function, kind = {
        "bfloat16": ("llvm.x86.avx512bf16.dpbf16ps.512", _FLOATS),
        "int8": ("llvm.x86.avx512.vpdpbusd.512", _INTEGERS),
    }[name]
    return lambda sums, ctrs, row: build.call_llvm(function, kind, sums, ctrs, row)


def _part(build: Builder, address: Value, place: int) -> Value:
    """Emit the place-th vector behind an address."""
    return build.load(build.behind(address, place, LANES), LANES)


def _fused(build: Builder, a: Value, b: Value, c: Value) -> Value:
    """Emit a * b + c."""
    return build.fadd(build.fmul(a, b, flags=FUSE), c, flags=FUSE)


def _keys(build: Builder, sums: Values, alpha: Value, reach: Value, parameters: Value) -> Values:
    """Emit the keys of a row from its sums; parameters is where a tile's beta, e and h start."""
    keys = []
    for v, total in enumerate(sums):
        value = build.sitofp(total, _FLOATS) if total.type == _INTEGERS else total
        beta, error, level = (_part(build, parameters, p * VECTORS + v) for p in range(PARAMETERS))
        keys.append(_fused(build, build.fmul(value, beta), alpha, _fused(build, reach, error, level)))
    return keys


def _mask(build: Builder, pairs: list[tuple[Value, Value]]) -> Value:
    """Emit the mask of keys that reach their bounds, LANES bits for each pair of vectors."""
    mask = i64(0)
    for v, (keys, bounds) in enumerate(pairs):
        hits = build.bits_of(build.fcmp_ordered(">=", keys, bounds))
        mask = build.or_(mask, build.shl(hits, i64(v * LANES)))
    return mask
