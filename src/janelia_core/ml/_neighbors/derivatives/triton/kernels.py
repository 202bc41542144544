"""Triton kernels: sums over the pairs of each row, and of each centre, in float64, in an order that never changes.

Pairs of centres stand sorted by centre, those of centre j at order[offsets[j] .. offsets[j + 1] - 1]. A centre that
many rows share would be one program's work: so PIECE pairs each of its first are added up by others, into `pieces`.
Of any PIECE places in a row exactly one is a multiple of PIECE, whose quotient numbers the piece that holds it.

Several weights of a pair are sums apart: those of w[part], by programs of the grid's third axis.
"""

from __future__ import annotations

import triton
import triton.language as tl

from janelia_core.ml._neighbors.derivatives.triton.vectors import added

_PLAIN = [
    "k", "d", "factor", "piece", "w_part", "w_row", "w_slot", "x_row", "x_col", "c_row", "c_col",
]  # fmt: skip


@triton.jit(do_not_specialize=_PLAIN)
def sum_rows(
    w, r, x, c, centres, out, k, d, factor, w_part, w_row, w_slot, x_row, x_col, c_row, c_col,
    KIND: tl.constexpr, WIDE: tl.constexpr, S: tl.constexpr, B: tl.constexpr,
):  # fmt: skip
    """Write to out (n, parts, d) what the pairs of a row add: the row x, centres c at `centres` (n, k), -1 for none."""
    i, part, parts = tl.program_id(0).to(tl.int64), tl.program_id(2), tl.num_programs(2)
    cols = tl.program_id(1) * B + tl.arange(0, B)
    total = tl.zeros((B,), tl.float64)
    for start in range(0, k, S):
        slot = start + tl.arange(0, S)
        pair = i * k + slot
        j = tl.load(centres + pair, mask=slot < k, other=-1)
        total += added(
            w + part * w_part, r, x, c, i, tl.where(j < 0, 0, j), pair, j >= 0, k, factor, cols, d, w_row, w_slot,
            x_row, x_col, c_row, c_col, KIND, WIDE,
        )  # fmt: skip
    tl.store(out + (i * parts + part) * d + cols, total.to(out.dtype.element_ty), mask=cols < d)


@triton.jit(do_not_specialize=_PLAIN)
def sum_pieces(
    w, r, x, c, sorted_centres, order, offsets, pieces, piece, k, d, factor, w_part, w_row, w_slot, x_row, x_col,
    c_row, c_col, KIND: tl.constexpr, WIDE: tl.constexpr, S: tl.constexpr, B: tl.constexpr,
):  # fmt: skip
    """Write to pieces (n_pairs / piece, parts, d) float64 what the piece of a centre adds that holds one place."""
    number, part, parts = tl.program_id(0).to(tl.int64), tl.program_id(2), tl.num_programs(2)
    cols = tl.program_id(1) * B + tl.arange(0, B)
    place = number * piece
    j = tl.load(sorted_centres + place).to(tl.int64)
    if j >= 0:
        first, last = tl.load(offsets + j), tl.load(offsets + j + 1)
        start = first + (place - first) // piece * piece
        if start + piece <= last:
            total = tl.zeros((B,), tl.float64)
            for at in range(0, piece, S):
                step = at + tl.arange(0, S)
                here = step < piece
                pair = tl.load(order + start + step, mask=here, other=0)
                total += added(
                    w + part * w_part, r, c, x, j, pair // k, pair, here, k, factor, cols, d, w_row, w_slot,
                    c_row, c_col, x_row, x_col, KIND, WIDE,
                )  # fmt: skip
            tl.store(pieces + (number * parts + part) * d + cols, total, mask=cols < d)


@triton.jit(do_not_specialize=_PLAIN)
def sum_centres(
    w, r, x, c, order, offsets, pieces, out, piece, k, d, factor, w_part, w_row, w_slot, x_row, x_col, c_row, c_col,
    KIND: tl.constexpr, WIDE: tl.constexpr, S: tl.constexpr, B: tl.constexpr, MORE: tl.constexpr,
):  # fmt: skip
    """Write to out (m, parts, d), or with MORE add to it, what the pairs of a centre add."""
    j, part, parts = tl.program_id(0).to(tl.int64), tl.program_id(2), tl.num_programs(2)
    cols = tl.program_id(1) * B + tl.arange(0, B)
    first, last = tl.load(offsets + j), tl.load(offsets + j + 1)
    total = tl.zeros((B,), tl.float64)
    whole = (last - first) // piece
    for at in range(0, whole, S):
        step = at + tl.arange(0, S)
        number = (first + step * piece + piece - 1) // piece
        inside = (step < whole)[:, None] & (cols < d)[None, :]
        total += tl.sum(
            tl.load(pieces + (number[:, None] * parts + part) * d + cols[None, :], mask=inside, other=0.0), axis=0
        )
    for at in range(first + whole * piece, last, S):
        step = at + tl.arange(0, S)
        here = step < last
        pair = tl.load(order + step, mask=here, other=0)
        total += added(
            w + part * w_part, r, c, x, j, pair // k, pair, here, k, factor, cols, d, w_row, w_slot,
            c_row, c_col, x_row, x_col, KIND, WIDE,
        )  # fmt: skip
    if MORE:
        total += tl.load(out + (j * parts + part) * d + cols, mask=cols < d, other=0.0).to(tl.float64)
    if first < last or not MORE:
        tl.store(out + (j * parts + part) * d + cols, total.to(out.dtype.element_ty), mask=cols < d)
