"""Points as float16 operands, with the numbers that pay for all they lose.

u = (v - middle) * factor, in float64, and z is u rounded to float16, or 0 where float16 does not reach. What counts is
measured: |z|, |u| and the residual |u - z|, to which is added what u itself may have lost: each of its coordinates
carries at most two roundings of itself, one of v (64-bit integers), and where points are divided by their norm those
of the norm, at most d + 8 in all. Every number is rounded outwards by 2^-20 of itself, which is far more than its
float64 sums and the float32 it is stored in can lose, and by 2^-100, more than what may underflow.
"""

from __future__ import annotations

import triton
import triton.language as tl

from janelia_core.ml._knn.screens.rerank.kernels.reading import stored
from janelia_core.ml._knn.screens.triton.bounds import NEVER, REACH, ROW_REACH, TINY, UNIT_LENGTH, UP

_UP: tl.constexpr = tl.constexpr(UP)
_TINY: tl.constexpr = tl.constexpr(TINY)
_REACH: tl.constexpr = tl.constexpr(REACH)
_ROW_REACH: tl.constexpr = tl.constexpr(ROW_REACH)
_NEVER: tl.constexpr = tl.constexpr(NEVER)
_LENGTH: tl.constexpr = tl.constexpr(UNIT_LENGTH)
_UNIT: tl.constexpr = tl.constexpr(2.0**-53)


@triton.jit
def _block(points, row, known, stride, step, k, d, BK: tl.constexpr):
    columns = (k + tl.arange(0, BK)).to(tl.int64)
    inside = known[:, None] & (columns < d)[None, :]
    return stored(tl.load(points + row.to(tl.int64)[:, None] * stride + columns[None, :] * step, mask=inside, other=0))


@triton.jit(do_not_specialize=["n", "n_points", "d"])
def pack(
    points,
    order,
    middle,
    factor,
    packed,
    numbers,
    strange,
    n,
    n_points,
    stride,
    step,
    gamma,
    d,
    W: tl.constexpr,
    BK: tl.constexpr,
    BM: tl.constexpr,
    ORDERED: tl.constexpr,
    NORMAL: tl.constexpr,
    CENTRES: tl.constexpr,
    BIASED: tl.constexpr,
    WIDE: tl.constexpr,
):
    """Pack points (rows of `stride`, columns of `step`) as packed (n, W).

    order (n,): which point comes where, -1: none; without ORDERED n_points as they come, and then none.
    middle (D,), factor (1,): float64. NORMAL: every point is divided by its norm instead.
    numbers: of centres (4, n): what a row's |z| is multiplied by, |u|, and an upper and a lower bound of the bias
    -|u|^2 / 2, if BIASED, else 0; of rows (3, n): |z|, residual, |u|, the last infinite where a row is out of range.
    strange (1,): set where a centre is so that nothing is proven about any row.
    """
    at = tl.program_id(0) * BM + tl.arange(0, BM)
    here = at < n
    row = tl.where(at < n_points, at, -1)
    if ORDERED:
        row = tl.load(order + at, mask=here, other=-1)
    known = here & (row >= 0)
    scale = tl.load(factor) + tl.zeros((BM,), tl.float64)
    extreme = at < 0
    if NORMAL:
        length = tl.zeros((BM,), tl.float64)
        largest = tl.zeros((BM,), tl.float64)
        for k in range(0, W, BK):
            v = _block(points, row, known, stride, step, k, d, BK)
            length += tl.sum(v * v, axis=1)
            largest = tl.maximum(largest, tl.max(tl.abs(v), axis=1))
        extreme = (largest > 0) & (largest < float("inf")) & ((length < 1e-240) | (length > 1e240))
        scale = tl.where(length > 0, _LENGTH / tl.sqrt(tl.maximum(length, 1e-300)), 0.0)
    z_square = tl.zeros((BM,), tl.float64)
    u_square = tl.zeros((BM,), tl.float64)
    gap_square = tl.zeros((BM,), tl.float64)
    v_square = tl.zeros((BM,), tl.float64)
    undefined = tl.zeros((BM,), tl.int32)
    for k in range(0, W, BK):
        columns = k + tl.arange(0, BK)
        v = _block(points, row, known, stride, step, k, d, BK)
        u = (v - tl.load(middle + columns, mask=columns < d, other=0.0)[None, :]) * scale[:, None]
        u = tl.where((columns < d)[None, :] & known[:, None], u, 0.0)
        z = tl.where(tl.abs(u) < 65000.0, u, 0.0).to(tl.float16)
        where = packed + at.to(tl.int64)[:, None] * W + columns[None, :]
        tl.store(where, z, mask=here[:, None] & (columns < W)[None, :])
        rounded = z.to(tl.float64)
        z_square += tl.sum(rounded * rounded, axis=1)
        u_square += tl.sum(u * u, axis=1)
        gap_square += tl.sum((u - rounded) * (u - rounded), axis=1)
        undefined = tl.maximum(undefined, tl.max((v != v).to(tl.int32), axis=1))
        v = v * scale[:, None]
        v_square += tl.sum(v * v, axis=1)
        if WIDE:
            extreme = extreme | (tl.max(tl.abs(v), axis=1) >= 9007199254740992.0 * scale)
    length = tl.sqrt(u_square)
    lost = length * ((d + 16) * 2 * _UNIT) + tl.sqrt(v_square) * (4 * _UNIT)
    residual = (tl.sqrt(gap_square) + lost) * _UP + _TINY
    z_length = tl.sqrt(z_square) * _UP + _TINY
    reach = (length + lost) * _UP + _TINY
    if CENTRES:
        fine = reach < _REACH  # false for what is not finite
        if WIDE or NORMAL:
            fine = fine & (extreme == 0)
        if BIASED:
            bias = -0.5 * u_square
            slack = lost * reach - bias * (_UP - 1.0) + _TINY
            if WIDE:
                tl.store(strange + at * 0, 1, mask=known & extreme)
        else:
            bias = tl.zeros((BM,), tl.float64)
            slack = bias
            odd = known & (fine == 0) & (undefined == 0)
            if NORMAL:  # a vector that is not finite has no direction, and comes last
                odd = odd & extreme
            tl.store(strange + at * 0, 1, mask=odd)
        never = tl.where(known, _NEVER, float("-inf"))
        tl.store(numbers + at, tl.where(fine, residual + gamma * z_length, 0.0).to(tl.float32), mask=here)
        tl.store(numbers + n + at, tl.where(fine, reach, 0.0).to(tl.float32), mask=here)
        tl.store(numbers + 2 * n + at, tl.where(fine & known, bias + slack, never).to(tl.float32), mask=here)
        low = tl.where(fine & known, bias - slack, float("-inf"))
        tl.store(numbers + 3 * n + at, low.to(tl.float32), mask=here)
    else:
        fine = reach < _ROW_REACH
        if WIDE or NORMAL:
            fine = fine & (extreme == 0)
        tl.store(numbers + at, tl.where(fine, z_length, 0.0).to(tl.float32), mask=here)
        tl.store(numbers + n + at, tl.where(fine, residual, 0.0).to(tl.float32), mask=here)
        tl.store(numbers + 2 * n + at, tl.where(fine, reach, float("inf")).to(tl.float32), mask=here)
