"""Where centres lie, told by a sample of them: a middle, a usual size, and how far out each of them is.

Only time depends on these numbers: any would do.
"""

from __future__ import annotations

import triton
import triton.language as tl

from janelia_core.ml._knn.screens.rerank.kernels.reading import stored

_FAR: tl.constexpr = tl.constexpr(3.0e38)
_SAMPLE: tl.constexpr = tl.constexpr(256)
_BITS: tl.constexpr = tl.constexpr(2.0)  # a usual coordinate is about 2^2


@triton.jit
def _median(values, there):
    """The lower median along the first axis of numbers (n, ...) that are there, to sixteen bits; 0 where none is."""
    bits = values.to(tl.float32).to(tl.int32, bitcast=True)
    keys = tl.where(bits < 0, bits ^ 0x7FFFFFFF, bits)
    half = (tl.sum(there.to(tl.int32), axis=0) + 1) // 2
    # The largest key that no more than half of them lie above, bit by bit.
    key = tl.where(tl.sum((there & (keys >= 0)).to(tl.int32), axis=0) >= half, 0, -2147483647 - 1)
    step = 1 << 30
    for _ in range(15):
        higher = key + step
        key = tl.where(tl.sum((there & (keys >= higher)).to(tl.int32), axis=0) >= half, higher, key)
        step = step >> 1
    found = tl.where(key < 0, key ^ 0x7FFFFFFF, key).to(tl.float32, bitcast=True)
    return tl.where((half > 0) & (tl.abs(found) < _FAR), found, 0.0)


@triton.jit(do_not_specialize=["n", "d"])
def place_middle(
    points, subset, middle, n, stride, step, d, BD: tl.constexpr, SOME: tl.constexpr, SHIFTED: tl.constexpr
):
    """Write the median of each of BD coordinates of n points, if SHIFTED, else 0: middle (d,) float64."""
    columns = tl.program_id(0) * BD + tl.arange(0, BD)
    inside = columns < d
    found = tl.zeros((BD,), tl.float32)
    if SHIFTED:
        row = (tl.arange(0, _SAMPLE).to(tl.int64) * n) // _SAMPLE
        if SOME:
            row = tl.load(subset + row)
        where = points + row[:, None] * stride + columns.to(tl.int64)[None, :] * step
        v = stored(tl.load(where, mask=inside[None, :] & (row >= 0)[:, None], other=0))
        found = _median(v, tl.abs(v) < _FAR)
    tl.store(middle + columns, found.to(tl.float64), mask=inside)


@triton.jit(do_not_specialize=["n", "d"])
def place_scale(points, subset, middle, factor, n, stride, step, d, BD: tl.constexpr, SOME: tl.constexpr):
    """Write the power of two that brings a usual coordinate near 4: factor (1,) float64."""
    row = (tl.arange(0, _SAMPLE).to(tl.int64) * n) // _SAMPLE
    if SOME:
        row = tl.load(subset + row)
    largest = tl.zeros((_SAMPLE,), tl.float64)
    for q in range(0, d, BD):
        columns = q + tl.arange(0, BD)
        inside = (columns < d)[None, :] & (row >= 0)[:, None]
        v = stored(tl.load(points + row[:, None] * stride + columns.to(tl.int64)[None, :] * step, mask=inside, other=0))
        v = tl.abs(v - tl.load(middle + columns, mask=columns < d, other=0.0)[None, :])
        largest = tl.maximum(largest, tl.max(tl.where(inside, v, 0.0), axis=1))
    size = _median(largest, (largest > 0.0) & (largest < _FAR))
    power = _BITS - tl.floor(tl.log2(tl.where(size > 0.0, size, 1.0)))
    tl.store(factor, tl.exp2(power).to(tl.float64))


@triton.jit(do_not_specialize=["n", "d"])
def measure(
    points, subset, middle, factor, reach, n, stride, step, d, BD: tl.constexpr, BM: tl.constexpr, SOME: tl.constexpr
):
    """Write how far from the middle each of n points is: reach (n,) float32, roughly; infinite if it is not finite."""
    at = tl.program_id(0) * BM + tl.arange(0, BM)
    here = at < n
    row = at.to(tl.int64)
    if SOME:
        row = tl.load(subset + at, mask=here, other=0)
    scale = tl.load(factor).to(tl.float32)
    square = tl.zeros((BM,), tl.float32)
    for q in range(0, d, BD):
        columns = q + tl.arange(0, BD)
        inside = here[:, None] & (columns < d)[None, :]
        v = tl.load(points + row[:, None] * stride + columns.to(tl.int64)[None, :] * step, mask=inside, other=0).to(
            tl.float32
        )
        v = (
            tl.where(inside, v - tl.load(middle + columns, mask=columns < d, other=0.0).to(tl.float32)[None, :], 0.0)
            * scale
        )
        square += tl.sum(v * v, axis=1)
    tl.store(reach + at, tl.where(square < float("inf"), square, float("inf")), mask=here)


@triton.jit
def tile_extremes(numbers, extremes, n, BN: tl.constexpr, BIASED: tl.constexpr):
    """Write what holds of all centres of a tile, (tiles, 4), of numbers (4, n): see `packing` and `bounds`."""
    tile = tl.program_id(0)
    at = tile * BN + tl.arange(0, BN)
    high, low = tl.load(numbers + 2 * n + at), tl.load(numbers + 3 * n + at)
    tl.store(extremes + tile * 4, tl.max(tl.load(numbers + at), axis=0))
    tl.store(extremes + tile * 4 + 1, tl.max(tl.load(numbers + n + at), axis=0))
    if BIASED:  # the bias, rounded up, is in the products; what it was rounded by is left
        gap = tl.max(tl.where(low == float("-inf"), 0.0, high - low), axis=0)
        tl.store(extremes + tile * 4 + 2, 0.0)
        tl.store(extremes + tile * 4 + 3, -1.00001 * gap)
    else:
        tl.store(extremes + tile * 4 + 2, tl.max(high, axis=0))
        tl.store(extremes + tile * 4 + 3, tl.min(low, axis=0))
