"""Triton functions: what some pairs of a row or centre add to its sum, as `pair_kernels.add_up` has it, in float64."""

from __future__ import annotations

import triton
import triton.language as tl

from janelia_core.ml._neighbors.derivatives.triton.kinds import LENGTHS, PRODUCTS

_PRODUCTS, _LENGTHS = tl.constexpr(PRODUCTS), tl.constexpr(LENGTHS)
_LARGE = tl.constexpr(2.0**1000)  # from here on differences of float64 numbers may overflow
_LIMIT, _WIDE_LIMIT = tl.constexpr(2.0**100), tl.constexpr(2.0**900)  # of ordinary distances, as `pair_blocks.limits`
_TINY, _WIDE_TINY = tl.constexpr(2.0**-126), tl.constexpr(2.0**-1022)
_INFINITE = tl.constexpr(float("inf"))


@triton.jit
def load(points, rows, cols, row_stride, col_stride, inside):
    """Return coordinates of points in float64, 0 where they are not inside."""
    at = rows.to(tl.int64) * row_stride + cols.to(tl.int64) * col_stride
    return tl.load(points + at, mask=inside, other=0).to(tl.float64)


@triton.jit
def added(
    w, r, own, others, a, b, pair, here, k, factor, cols, d, w_row, w_slot, own_row, own_col, other_row, other_col,
    KIND: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    """Return the sum (B,) over the pairs (S,) that are here of own point a and other points b, for B of d columns."""
    weight = tl.load(w + pair // k * w_row + pair % k * w_slot, mask=here, other=0.0).to(tl.float64)
    inside = here[:, None] & (cols < d)[None, :]
    g = load(others, b[:, None], cols[None, :], other_row, other_col, inside)
    if KIND == _PRODUCTS:
        total = tl.sum((weight * factor)[:, None] * g, axis=0)
    else:
        f = load(own, a, cols, own_row, own_col, cols < d)[None, :]
        if KIND == _LENGTHS:
            total = _by_lengths(
                weight, r, f, g, own, others, a, b, pair, here, inside, d, own_row, own_col, other_row, other_col, WIDE
            )
        elif WIDE:
            part = tl.where((tl.abs(f) > _LARGE) | (tl.abs(g) > _LARGE), 0.5, 1.0)
            each = (weight * factor)[:, None] / part * (f * part - g * part)
            total = tl.sum(tl.where(inside, each, 0.0), axis=0)
        else:
            total = tl.sum(tl.where(inside, (weight * factor)[:, None] * (f - g), 0.0), axis=0)
    return total


@triton.jit
def _by_lengths(
    weight, r, f, g, own, others, a, b, pair, here, inside, d, own_row, own_col, other_row, other_col,
    WIDE: tl.constexpr,
):  # fmt: skip
    """Return the sum of weights times unit vectors: by distances r, or anew where these or quotients are extreme."""
    far = tl.load(r + pair, mask=here, other=0.0).to(tl.float64)
    limit: tl.constexpr = _WIDE_LIMIT if WIDE else _LIMIT
    tiny: tl.constexpr = _WIDE_TINY if WIDE else _TINY
    quotient = weight / tl.where(far > 0.0, far, 1.0)
    size = tl.abs(quotient)
    ordinary = (far >= 1.0 / limit) & (far <= limit) & ((size == 0.0) | ((size >= tiny) & (size < _INFINITE)))
    total = tl.sum(tl.where(ordinary[:, None] & inside, quotient[:, None] * (f - g), 0.0), axis=0)
    extreme = here & (far > 0.0) & ~ordinary
    if tl.max(extreme.to(tl.int32), axis=0) > 0:
        largest, norm, part = _polar(
            own, others, a, b, extreme, d, own_row, own_col, other_row, other_col, g.shape[0], g.shape[1]
        )
        there = (largest > 0.0)[:, None] & inside
        divisor = tl.where(largest > 0.0, largest, 1.0)
        unit = (f * part[:, None] - g * part[:, None]) / divisor[:, None] / norm[:, None]
        total += tl.sum(tl.where(there & (unit != 0.0), weight[:, None] * unit, 0.0), axis=0)
    return total


@triton.jit
def _polar(
    own, others, a, b, here, d, own_row, own_col, other_row, other_col, S: tl.constexpr, B: tl.constexpr
):  # fmt: skip
    """Return the largest coordinate of the pairs' differences times part, 0 where there is none, their norms, and part.

    Differences are taken of points times part, which is less than 1 where they might overflow, and norms of those
    divided by their largest coordinate.
    """
    most, largest, square = tl.zeros((S,), tl.float64), tl.zeros((S,), tl.float64), tl.zeros((S,), tl.float64)
    wild = tl.zeros((S,), tl.int32)
    for start in range(0, d, B):
        cols = start + tl.arange(0, B)
        inside = here[:, None] & (cols < d)[None, :]
        size = tl.abs(load(own, a, cols, own_row, own_col, cols < d))[None, :]
        others_size = tl.abs(load(others, b[:, None], cols[None, :], other_row, other_col, inside))
        finite = (size < _INFINITE) & (others_size < _INFINITE)
        wild += tl.sum(tl.where(finite, 0, 1), axis=1)
        most = tl.maximum(most, tl.max(tl.where(finite, tl.maximum(size, others_size), 0.0), axis=1))
    part = tl.where(most > _LARGE, 0.25, 1.0).to(tl.float64)
    for start in range(0, d, B):
        cols = start + tl.arange(0, B)
        inside = here[:, None] & (cols < d)[None, :]
        f = load(own, a, cols, own_row, own_col, cols < d)[None, :] * part[:, None]
        g = load(others, b[:, None], cols[None, :], other_row, other_col, inside) * part[:, None]
        largest = tl.maximum(largest, tl.max(tl.where(inside & (wild == 0)[:, None], tl.abs(f - g), 0.0), axis=1))
    divisor = tl.where(largest > 0.0, largest, 1.0)
    for start in range(0, d, B):
        cols = start + tl.arange(0, B)
        inside = here[:, None] & (cols < d)[None, :]
        f = load(own, a, cols, own_row, own_col, cols < d)[None, :] * part[:, None]
        g = load(others, b[:, None], cols[None, :], other_row, other_col, inside) * part[:, None]
        gap = tl.where(inside & (largest > 0.0)[:, None], (f - g) / divisor[:, None], 0.0)
        square += tl.sum(gap * gap, axis=1)
    return largest, tl.where(largest > 0.0, tl.sqrt(square), 1.0), part
