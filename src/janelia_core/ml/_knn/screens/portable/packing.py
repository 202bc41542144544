"""Rows and centres packed in float32 so that their plain product is an upper bound of the score.

u are frame coordinates (`Place.apply`), z is u rounded to float32, r >= |u - z| its measured residual, and
g = gamma(columns) in float32. With

    row     [ z_x, 1, p_x ]     p_x  = max(|z_x|, 2^bits r_x)
    centre  [ z_c, b, q_c ]     b   >= -|u_c|^2 / 2 + g |u_c|^2 + tiny
                                q_c >= (r_c + g |z_c| + 2^-bits |u_c|) (1 + 2 g)

the computed product U satisfies U >= s = <u_x, u_c> - |u_c|^2 / 2: the exact product of the rounded vectors is
within r_x |u_c| + |z_x| r_c of <u_x, u_c> (Cauchy-Schwarz), its evaluation loses at most
g (|z_x| |z_c| + |b| + p_x q_c), and p_x q_c (1 - g) >= |z_x| (r_c + g |z_c|) + r_x |u_c| pays for both.

Where products may round their operands (TF32, bfloat16 passes: global flags that are not ours to touch), all
columns are cut to 8 significant bits first. That changes only the residuals, and b then travels in three parts.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from janelia_core.ml._knn.arithmetic.bounds import OUTWARD, UNIT32, UNIT64, gamma
from janelia_core.ml._knn.data.directions import direction_error
from janelia_core.ml._knn.data.frame import Place
from janelia_core.ml._knn.data.points import as_float64, is_finite, is_wide
from janelia_core.ml._knn.screens.portable.cost import CUT_BITS, FULL_BITS, columns, n_columns

_MOST = 1 << 15  # coordinates packed at a time on a CPU, whose temporaries stay in a core's cache
FLUSH = 2.0**-60  # smaller coordinates become 0 (measured) and margins are no smaller: no product is subnormal
TINY = 2.0**-100  # more than all that may be flushed to zero on the way
_NEVER = -(2.0**126)  # score of a centre that is not finite: below every finite one


class PackedRows(NamedTuple):
    """Packed rows (r, columns) float32 and a lower bound of |u_x|^2 (r,) float64."""

    packed: Tensor
    square_low: Tensor


def pack_rows(values: Tensor, place: Place, bits: int, chunk: int = _MOST) -> PackedRows:
    """Pack stored rows (r, d), all finite, for products with `pack_ctrs`, chunk coordinates at a time."""
    r, d = values.shape
    packed = torch.empty(r, columns(d, bits), dtype=torch.float32, device=values.device)
    square_low = torch.empty(r, dtype=torch.float64, device=place.shift.device)
    for part in chunks(values, chunk):
        z, residual, square_low[part], _ = _rounded(place.apply(values[part]), values[part], place, bits)
        packed[part, :d] = z
        packed[part, d:-1] = 1.0
        margin = torch.maximum(_norm(as_float64(z)), residual * 2.0**bits)
        packed[part, -1] = up(margin.clamp_(min=FLUSH), bits)
    return PackedRows(packed, square_low)


def pack_ctrs(values: Tensor, place: Place, bits: int, product: bool = False, chunk: int = _MOST) -> Tensor:
    """Pack stored centres (b, d) as (b, columns) float32; those that are not finite score below all others.

    The score is <x, c> - |c|^2 / 2, or just <x, c> for a product, whose b is no more than what may underflow.
    """
    b, d = values.shape
    packed = torch.empty(b, columns(d, bits), dtype=torch.float32, device=values.device)
    g = gamma(n_columns(d), UNIT32)
    for part in chunks(values, chunk):
        u = place.apply(values[part])
        finite = is_finite(u).all(dim=1)
        u = torch.where(finite[:, None], u, 0.0)
        z, residual, square_low, norm_high = _rounded(u, values[part], place, bits)
        bias = torch.zeros_like(square_low) if product else -0.5 * square_low + g * norm_high.square()
        bias = torch.where(finite, bias + TINY, _NEVER)
        q = (residual + g * _norm(as_float64(z)) + 2.0**-bits * norm_high) * ((1.0 + 2.0 * g) * OUTWARD)
        packed[part, :d] = z
        packed[part, d:-1] = up(bias, bits)[:, None] if bits == FULL_BITS else _three_parts(bias)
        packed[part, -1] = up(q.clamp_(min=FLUSH), bits)
    return packed


def product_error(row: Tensor, packed: Tensor) -> Tensor:
    """Bound |computed - exact| of the products of one packed row (columns,) with packed centres (b, columns)."""
    g = gamma(row.shape[0], UNIT32)
    return torch.mv(as_float64(packed).abs(), as_float64(row).abs()) * (g * OUTWARD) + TINY


def _rounded(u: Tensor, values: Tensor, place: Place, bits: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return z (r, d) float32, its residual, a lower bound of |u|^2 and an upper bound of |u|, each (r,) float64."""
    z = torch.where(u.abs() < FLUSH, 0.0, u).to(torch.float32)
    if bits == CUT_BITS:
        z = _cut(z)
    norm = _norm(u)
    # What u itself may have lost: the shift's rounding, and before it that of 64-bit integers or of directions.
    lost = norm * 2.0 * (direction_error(u.shape[1]) if place.directed else UNIT64)
    if is_wide(values) and not place.directed:
        lost = lost + _norm(as_float64(values)) * (2.0 * UNIT64 * 2.0**-place.exponent)
    residual = (_norm(u - as_float64(z)) + lost) * OUTWARD
    # norm is an upper bound by a relative 2 (d + 8) units; twice that below it is a lower bound.
    low = (norm * (1.0 - 4.0 * (u.shape[1] + 8) * UNIT64) - lost).clamp_(min=0.0)
    return z, residual, low.square_() * (2.0 - OUTWARD), (norm + lost) * OUTWARD


def _norm(u: Tensor) -> Tensor:
    """Return an upper bound of the Euclidean norms (r,) of u (r, d) float64, tight to 4 (d + 8) units."""
    norm: Tensor = torch.linalg.vector_norm(u, dim=1)
    return norm * (1.0 + 2.0 * (u.shape[1] + 8) * UNIT64)


def _cut(z: Tensor) -> Tensor:
    """Truncate float32 values to 8 significant bits, towards zero."""
    return (z.view(torch.int32) & -0x10000).view(torch.float32)


def up(value: Tensor, bits: int) -> Tensor:
    """Round float64 values up to float32, or to float32 with 8 significant bits."""
    high = value.to(torch.float32)
    high = torch.nextafter(high, torch.full_like(high, torch.inf))
    if bits == FULL_BITS:
        return high
    # Truncation towards zero rounds negative values up; positive ones need the next 8-bit value first.
    return _cut(torch.where(high > 0, high * (1.0 + 2.0**-6), high))


def _three_parts(value: Tensor) -> Tensor:
    """Split float64 values (b,) into three float32 parts (b, 3) of 8 significant bits, their sum not below them."""
    first = _cut(value.to(torch.float32))
    second = _cut((value - as_float64(first)).to(torch.float32))
    third = up(value - as_float64(first) - as_float64(second), CUT_BITS)
    return torch.stack([first, second, third], dim=1)


def chunks(values: Tensor, chunk: int) -> Iterator[slice]:
    """Cut rows into parts of at most chunk coordinates."""
    rows, d = values.shape
    step = max(1, (min(chunk, _MOST) if values.is_cpu else chunk) // max(1, d))
    return (slice(start, start + step) for start in range(0, rows, step))
