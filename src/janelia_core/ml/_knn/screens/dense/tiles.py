"""Tiles of the dense screen: the scores of a few rows with TILE centres, made, compared and forgotten in registers.

A matrix product alone would write every score to memory and read it back. Here a tile's sums stay in vector registers
until they are keys, and of those only a mask of what reaches the row's threshold is looked at (`scan.scan`).

Coordinates come in words of 32 bits: one float32, two bfloat16 or four int8. A step multiplies one word of each of
ROWS rows with the same word of TILE centres and adds to ROWS x TILE sums:

    float32    a multiplication and an addition, fused where the CPU can
    bfloat16   vdpbf16ps (AVX512-BF16): two products, added in float32
    int8       vpdpbusd (AVX512-VNNI): four products of a signed and an unsigned byte, added exactly in int32

The key of row i and centre j is  (t * beta_j) * alpha_i + (a_i * e_j + h_j)  in float32, with t the sum turned to
float32: six roundings or, where additions are fused, fewer. `dense.screen` chooses the constants so that it is an
upper bound of the score.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.core.registry import cpu_target
from numba.extending import intrinsic
from numba.np.numpy_support import from_dtype

from janelia_core.ml._simd.bits import LANES, declared, splat

_FEATURES = frozenset(cpu_target.target_context.codegen().magic_tuple()[2].split(","))
_WIDE = "+avx512f" in _FEATURES
VECTORS = 4 if _WIDE else 1
ROWS = 4 if _WIDE else 6
"""Sixteen sums in 32 registers of AVX512, twelve in 16 of AVX2, 24 in 32 of NEON."""
TILE = LANES * VECTORS
"""Centres of a tile."""
PARAMETERS = 3
"""Vectors of TILE float32 that come with a tile: beta_j, e_j, h_j."""

_NEEDS = {"int8": "+avx512vnni", "bfloat16": "+avx512bf16"}

_I64, _I32, _F32 = ir.IntType(64), ir.IntType(32), ir.FloatType()
_INTEGERS, _FLOATS = ir.VectorType(_I32, LANES), ir.VectorType(_F32, LANES)
_FUSE = ("contract",)

WORDS = {"float32": np.float32, "bfloat16": np.uint32, "int8": np.int32}
"""The type of an array of words tells the kernel its format."""
_FORMATS = {from_dtype(np.dtype(word)): name for name, word in WORDS.items()}


def compiles(name: str) -> bool:
    """Tell whether Numba compiles this format's instructions for this machine."""
    return name not in _NEEDS or {_NEEDS[name], "+avx512f"} <= _FEATURES


def _fused(builder: Any, a: Any, b: Any, c: Any) -> Any:
    """Emit a * b + c."""
    return builder.fadd(builder.fmul(a, b, flags=_FUSE), c, flags=_FUSE)


def _multiply(builder: Any, name: str) -> Callable[[Any, Any, Any], Any]:
    """Return the step of a format: (sums, words of centres, a row's word in all lanes) -> sums."""
    if name == "float32":
        return lambda sums, ctrs, row: _fused(builder, ctrs, row, sums)
    if name == "bfloat16":
        # LLVM's parser knows this older signature on words, and brings it up to date.
        step = ir.FunctionType(_FLOATS, [_FLOATS, _INTEGERS, _INTEGERS])
        instruction = "llvm.x86.avx512bf16.dpbf16ps.512"
    else:
        step = ir.FunctionType(_INTEGERS, [_INTEGERS] * 3)
        instruction = "llvm.x86.avx512.vpdpbusd.512"
    function = declared(builder.module, step, instruction)
    return lambda sums, ctrs, row: builder.call(function, [sums, ctrs, row])


def _sums(builder: Any, name: str, starts: list[Any], rows: list[Any], ctrs: Any, n_words: Any) -> list[list[Any]]:
    """Emit the loop over words, n_words >= 1, and return the sums of ROWS x VECTORS."""
    multiply = _multiply(builder, name)
    vector = _FLOATS if name == "float32" else _INTEGERS
    before, loop, after = builder.block, builder.append_basic_block(), builder.append_basic_block()
    builder.branch(loop)
    builder.position_at_end(loop)
    q = builder.phi(_I64)
    sums = [[builder.phi(start.type) for _ in range(VECTORS)] for start in starts]
    column = builder.gep(ctrs, [builder.mul(q, ir.Constant(_I64, TILE))])
    words = [_load(builder, column, v, vector) for v in range(VECTORS)]
    new = []
    for row, own in zip(rows, sums, strict=True):
        word = splat(builder, builder.load(builder.gep(row, [q])))
        new.append([multiply(total, ctr, word) for total, ctr in zip(own, words, strict=True)])
    following = builder.add(q, ir.Constant(_I64, 1))
    q.add_incoming(ir.Constant(_I64, 0), before)
    q.add_incoming(following, loop)
    for start, own, sums_of_row in zip(starts, sums, new, strict=True):
        for phi, total in zip(own, sums_of_row, strict=True):
            phi.add_incoming(start, before)
            phi.add_incoming(total, loop)
    builder.cbranch(builder.icmp_signed("<", following, n_words), loop, after)
    builder.position_at_end(after)
    return new


def _load(builder: Any, address: Any, place: int, vector: Any) -> Any:
    """Load the place-th vector behind an address, aligned only as a lane is."""
    start = builder.gep(address, [ir.Constant(_I64, place * LANES)])
    return builder.load(builder.bitcast(start, vector.as_pointer()), align=4)


def _keys(builder: Any, sums: list[Any], alpha: Any, reach: Any, parameters: Any) -> list[Any]:
    """Emit the keys of a row from its sums; parameters is where a tile's beta, e and h start."""
    keys = []
    for v, total in enumerate(sums):
        value = builder.sitofp(total, _FLOATS) if total.type == _INTEGERS else total
        beta, error, level = (_load(builder, parameters, p * VECTORS + v, _FLOATS) for p in range(PARAMETERS))
        keys.append(_fused(builder, builder.fmul(value, beta), alpha, _fused(builder, reach, error, level)))
    return keys


def _mask(builder: Any, pairs: list[tuple[Any, Any]]) -> Any:
    """Emit the mask of keys that reach their bounds, LANES bits for each pair of vectors."""
    mask = ir.Constant(_I64, 0)
    for v, (keys, bounds) in enumerate(pairs):
        hits = builder.bitcast(builder.fcmp_ordered(">=", keys, bounds), ir.IntType(LANES))
        mask = builder.or_(mask, builder.shl(builder.zext(hits, _I64), ir.Constant(_I64, v * LANES)))
    return mask


def _score_tile(  # noqa: D417 - the first argument is Numba's
    typing_context: Any,
    ctrs: Any,
    ctr: Any,
    parameters: Any,
    parameter: Any,
    rows: Any,
    row: Any,
    n_words: Any,
    starts: Any,
    alphas: Any,
    reaches: Any,
    thresholds: Any,
    keys: Any,
    key: Any,
    stride: Any,
    masks: Any,
) -> Any:
    """Write the keys of ROWS rows with a tile and, for each row, the mask of those that reach its threshold.

    Args:
        ctrs: Words of centres; those of the tile start at `ctr`, TILE of them for each word of a point in turn.
        ctr: See ctrs.
        parameters: float32; those of the tile start at `parameter`: beta, e, h of its centres.
        parameter: See parameters.
        rows: Words of rows, n_words each; the first of the rows is number `row`.
        row: See rows.
        n_words: Words of a point, at least 1.
        starts: What the rows' sums start from, int32 for int8, else float32.
        alphas: float32, of every row.
        reaches: float32, of every row.
        thresholds: float32, of every row.
        keys: float32, written: those of a row and the tile from `key` on, those of the next row `stride` further.
        key: See keys.
        stride: See keys.
        masks: (ROWS,) uint64, written: bit q stands for centre q of the tile.

    Returns:
        All masks, or-ed.
    """
    signature = types.uint64(
        ctrs, types.int64, parameters, types.int64, rows, types.int64, types.int64,
        starts, alphas, reaches, thresholds, keys, types.int64, types.int64, masks,
    )  # fmt: skip
    name = _FORMATS[ctrs.dtype]
    if not compiles(name):
        raise ValueError(f"no {name} instructions on this machine")

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        def address(which: int, offset: Any) -> Any:
            array = context.make_array(signature.args[which])(context, builder, args[which])
            return builder.gep(array.data, [offset])

        numbers = [builder.add(args[5], ir.Constant(_I64, r)) for r in range(ROWS)]
        words = [address(4, builder.mul(number, args[6])) for number in numbers]
        starts, alphas, reaches, thresholds = (
            [splat(builder, builder.load(address(which, number))) for number in numbers] for which in (7, 8, 9, 10)
        )
        sums = _sums(builder, name, starts, words, address(0, args[1]), args[6])
        parameters = address(2, args[3])
        all_masks = ir.Constant(_I64, 0)
        for r in range(ROWS):
            first = builder.add(args[12], builder.mul(args[13], ir.Constant(_I64, r)))
            keys = _keys(builder, sums[r], alphas[r], reaches[r], parameters)
            mask = _mask(builder, [(key, thresholds[r]) for key in keys])
            for v, key in enumerate(keys):
                place = address(11, builder.add(first, ir.Constant(_I64, v * LANES)))
                builder.store(key, builder.bitcast(place, _FLOATS.as_pointer()), align=4)
            builder.store(mask, address(14, ir.Constant(_I64, r)))
            all_masks = builder.or_(all_masks, mask)
        return all_masks

    return signature, codegen


score_tile: Any = intrinsic(_score_tile)


def _reaching(typing_context: Any, keys: Any, start: Any, bound: Any) -> Any:
    """A uint64 whose bit q tells whether the float32 keys[start + q], those of a tile, reaches a bound."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        first = builder.gep(context.make_array(signature.args[0])(context, builder, args[0]).data, [args[1]])
        bounds = splat(builder, args[2])
        return _mask(builder, [(_load(builder, first, v, _FLOATS), bounds) for v in range(VECTORS)])

    return types.uint64(keys, types.uint64, types.float32), codegen


reaching: Any = intrinsic(_reaching)
