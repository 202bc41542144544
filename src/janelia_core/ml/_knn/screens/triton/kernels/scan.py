"""Tiles of products, from which a group of centres leaves its maximum, or its number where it counts.

A tile holds BN centres in NG groups of G: group r of a tile has its members r, r + NG, r + 2 NG, ..., so that maxima of
8 groups are taken between registers of one thread. Lists have 8 groups to a tile: each pair of a row and a column of
these has a list of its own, whose length
stays in a register: nothing is appended by atomics, and lists are the same in every run.
"""

from __future__ import annotations

import triton
import triton.language as tl

_LOWEST: tl.constexpr = tl.constexpr(-3.0e38)

# A thread appends (score, group) by itself, and only where there is a hit: a masked store of Triton's takes its
# addresses for every element of every tile, which costs a third of the rate. Labels are local to the braces.
# $0 new length: $1 maximum, $2 what it needs, $3 length, $4 where the list begins, $5 group, $6 lists, $7 capacity,
# $8 what is added to the maximum.
_APPEND: tl.constexpr = tl.constexpr("""
{
  .reg .pred p, q;
  .reg .b32 s, v;
  .reg .f32 f;
  .reg .b64 a;
  mov.b32 $0, $3;
  setp.ge.f32 p, $1, $2;
  @!p bra DONE;
  setp.lt.s32 q, $3, $7;
  add.s32 $0, $3, 1;
  @!q bra DONE;
  add.s32 s, $4, $3;
  mul.wide.u32 a, s, 8;
  add.u64 a, a, $6;
  add.f32 f, $1, $8;
  mov.b32 v, f;
  st.global.v2.b32 [a], {v, $5};
DONE:
}
""")


@triton.jit
def _scores(
    products, numbers, rows, live, bias, shown, n_ctrs, BIASED: tl.constexpr, MASKED: tl.constexpr
):  # fmt: skip
    """Products (BM, BN) with the centres' own biases, and -inf where a row may not be answered with a centre."""
    if BIASED:
        products += tl.load(bias + numbers)[None, :]
    if MASKED:
        where = shown + rows.to(tl.int64)[:, None] * n_ctrs + numbers[None, :]
        seen = tl.load(where, mask=live[:, None] & (numbers < n_ctrs)[None, :], other=0)
        products = tl.where(seen != 0, products, float("-inf"))
    return products


@triton.jit
def _take(
    scores,
    tile,
    first,
    rows,
    live,
    row_numbers,
    begins,
    lengths,
    extremes,
    out,
    stride,
    CAP: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
    NG: tl.constexpr,
    STORE: tl.constexpr,
    INLINE: tl.constexpr,
):
    """Do with a tile of scores (BM, BN) what is to be done; return the lengths of lists (BM, 8)."""
    G: tl.constexpr = BN // NG
    threshold, z, r = row_numbers
    best = tl.max(tl.reshape(scores, (BM, G, NG)), axis=1)
    error = z * tl.load(extremes + tile * 4) + r * tl.load(extremes + tile * 4 + 1)
    high, low = tl.load(extremes + tile * 4 + 2), tl.load(extremes + tile * 4 + 3)
    least = low - error
    group = tile * NG + tl.arange(0, NG)
    if STORE:
        where = out + rows.to(tl.int64)[:, None] * stride + (group - first * NG)[None, :]
        tl.store(where, best + least[:, None], mask=live[:, None])
    else:
        need = tl.maximum(threshold - (high + error), _LOWEST)  # a maximum of -inf is of none
        groups = tl.broadcast_to(group[None, :], (BM, 8))
        if INLINE:
            lengths = tl.inline_asm_elementwise(
                _APPEND,
                "=&r,f,f,r,r,r,l,r,f",
                [
                    best,
                    tl.broadcast_to(need[:, None], (BM, 8)),
                    lengths,
                    begins,
                    groups,
                    out.to(tl.int64),
                    CAP,
                    tl.broadcast_to(least[:, None], (BM, 8)),
                ],
                dtype=tl.int32,
                is_pure=False,
                pack=1,
            )
        else:
            hit = best >= need[:, None]
            kept = hit & (lengths < CAP)
            where = out + (begins + lengths).to(tl.int64) * 2
            tl.store(where, (best + least[:, None]).to(tl.int32, bitcast=True), mask=kept)
            tl.store(where + 1, groups, mask=kept)
            lengths += hit.to(tl.int32)
    return lengths


@triton.jit(do_not_specialize=["n", "first", "last", "stride"])
def scan(
    x,
    c,
    row_numbers,
    extremes,
    bias,
    shown,
    thresholds,
    out,
    counts,
    n,
    first,
    last,
    stride,
    n_ctrs,
    W: tl.constexpr,
    BK: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
    NG: tl.constexpr,
    CAP: tl.constexpr,
    STORE: tl.constexpr,
    BIASED: tl.constexpr,
    MASKED: tl.constexpr,
    FETCHED: tl.constexpr,
    INLINE: tl.constexpr,
    STAGES: tl.constexpr,
):
    """Multiply n rows, BM a program, with tiles first .. last - 1 of BN centres; grid axis 1 shares out the tiles.

    x (n, W), c (tiles * BN, W) float16, as descriptors if FETCHED. row_numbers (3, n) and extremes (tiles, 4) float32:
    see `packing`; bias (tiles * BN,), if BIASED, is added to products. shown (n, n_ctrs) bytes, if MASKED.
    STORE: out (n, stride) gets the least score that each group is sure to hold. Else, where a group may reach the
    row's threshold (n,), that and its number are appended to out (n, parts, 8, CAP, 2) int32, counts (n, parts, 8).
    W = BK: a row's coordinates stay where they are; else both come BK columns at a time.
    """
    HELD: tl.constexpr = W == BK
    row0 = tl.program_id(0) * BM
    part, parts = tl.program_id(1), tl.num_programs(1)
    each = tl.cdiv(last - first, parts)
    begin = first + part * each
    end = tl.minimum(begin + each, last)
    rows = row0 + tl.arange(0, BM)
    live = rows < n
    columns = tl.arange(0, BK)
    z = tl.load(row_numbers + rows, mask=live, other=0.0)
    r = tl.load(row_numbers + n + rows, mask=live, other=0.0)
    threshold = z
    lists = (rows[:, None] * parts + part) * 8 + tl.arange(0, 8)[None, :]
    lengths = tl.zeros((BM, 8), tl.int32)
    if not STORE:
        threshold = tl.load(thresholds + rows, mask=live, other=float("inf"))
        lengths = tl.load(counts + lists, mask=live[:, None], other=0)
    if HELD:
        if FETCHED:
            held = x.load([row0, 0])
        else:
            held = tl.load(x + rows.to(tl.int64)[:, None] * W + columns[None, :], mask=live[:, None], other=0.0)
        for tile in tl.range(begin, end, num_stages=STAGES):
            numbers = tile * BN + tl.arange(0, BN)
            if FETCHED:
                centres = c.load([tile * BN, 0])
            else:
                centres = tl.load(c + numbers.to(tl.int64)[:, None] * W + columns[None, :])
            scores = tl.dot(held, tl.trans(centres), out_dtype=tl.float32)
            scores = _scores(scores, numbers, rows, live, bias, shown, n_ctrs, BIASED, MASKED)
            lengths = _take(
                scores, tile, first, rows, live, (threshold, z, r), lists * CAP, lengths, extremes, out, stride,
                CAP, BM, BN, NG, STORE, INLINE,
            )  # fmt: skip
    else:
        for tile in tl.range(begin, end, flatten=True):
            numbers = tile * BN + tl.arange(0, BN)
            scores = tl.zeros((BM, BN), tl.float32)
            for k in tl.range(0, W, BK, num_stages=STAGES):
                if FETCHED:
                    some = x.load([row0, k])
                    centres = c.load([tile * BN, k])
                else:
                    where = x + rows.to(tl.int64)[:, None] * W + (k + columns)[None, :]
                    some = tl.load(where, mask=live[:, None], other=0.0)
                    centres = tl.load(c + numbers.to(tl.int64)[:, None] * W + (k + columns)[None, :])
                scores = tl.dot(some, tl.trans(centres), scores)
            scores = _scores(scores, numbers, rows, live, bias, shown, n_ctrs, BIASED, MASKED)
            lengths = _take(
                scores, tile, first, rows, live, (threshold, z, r), lists * CAP, lengths, extremes, out, stride,
                CAP, BM, BN, NG, STORE, INLINE,
            )  # fmt: skip
    if not STORE:
        tl.store(counts + lists, lengths, mask=live[:, None])
