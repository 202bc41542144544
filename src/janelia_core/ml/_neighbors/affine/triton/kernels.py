"""Triton kernels: each row's sums of affine maps, in float64; no map is copied."""

from __future__ import annotations

import triton
import triton.language as tl

_PLAIN = [
    "k", "outputs", "d", "w_map", "w_output", "w_col", "b_map", "b_output", "x_row", "x_col", "c_row", "c_col",
    "g_row", "g_output",
]  # fmt: skip


@triton.jit(do_not_specialize=_PLAIN)
def map_rows(
    weight, bias, x, c, indices, out, k, outputs, d, w_map, w_output, w_col, b_map, b_output, x_row, x_col, c_row,
    c_col, A: tl.constexpr, B: tl.constexpr,
):  # fmt: skip
    """Write sum_j W_j (x_i - c_j) + b_j to out (n, outputs), for one row and A of the outputs, B columns at a time."""
    i = tl.program_id(0).to(tl.int64)
    a = tl.program_id(1).to(tl.int64) * A + tl.arange(0, A)
    mapped, total = tl.zeros((A, B), tl.float64), tl.zeros((A,), tl.float64)
    for slot in range(0, k):
        j = tl.load(indices + i * k + slot)
        there = tl.where(j >= 0, a, outputs) < outputs  # the interpreter of Triton 3.9 takes no `&` with a number
        j = tl.where(j < 0, 0, j)
        total += tl.load(bias + j * b_map + a * b_output, mask=there, other=0.0).to(tl.float64)
        for start in range(0, d, B):
            q = start + tl.arange(0, B).to(tl.int64)
            gap = tl.load(x + i * x_row + q * x_col, mask=q < d, other=0.0).to(tl.float64)
            gap -= tl.load(c + j * c_row + q * c_col, mask=q < d, other=0.0).to(tl.float64)
            inside = there[:, None] & (q < d)[None, :]
            at = weight + j * w_map + a[:, None] * w_output + q[None, :] * w_col
            each = tl.load(at, mask=inside, other=0.0).to(tl.float64) * gap[None, :]
            mapped += tl.where(inside, each, 0.0)
    total += tl.sum(mapped, axis=1)
    tl.store(out + i * outputs + a, total.to(out.dtype.element_ty), mask=a < outputs)


@triton.jit(do_not_specialize=_PLAIN)
def pull_rows(
    g, weight, indices, out, k, outputs, d, g_row, g_output, w_map, w_output, w_col,
    A: tl.constexpr, B: tl.constexpr,
):  # fmt: skip
    """Write sum_j W_j^T g_i to out (n, d), for one row and B of the columns, A outputs at a time."""
    i = tl.program_id(0).to(tl.int64)
    q = tl.program_id(1).to(tl.int64) * B + tl.arange(0, B)
    pulled = tl.zeros((A, B), tl.float64)
    for slot in range(0, k):
        j = tl.load(indices + i * k + slot)
        there = j >= 0
        j = tl.where(there, j, 0)
        for start in range(0, outputs, A):
            a = start + tl.arange(0, A).to(tl.int64)
            gradient = tl.load(g + i * g_row + a * g_output, mask=a < outputs, other=0.0).to(tl.float64)
            inside = (tl.where(there, a, outputs) < outputs)[:, None] & (q < d)[None, :]
            at = weight + j * w_map + a[:, None] * w_output + q[None, :] * w_col
            each = tl.load(at, mask=inside, other=0.0).to(tl.float64) * gradient[:, None]
            pulled += tl.where(inside, each, 0.0)
    tl.store(out + i * d + q, tl.sum(pulled, axis=0).to(out.dtype.element_ty), mask=q < d)
