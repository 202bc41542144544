"""Tiles of neighbouring rows through the boxes: three levels of 32 each, any number on top, leaves of 32 centres.

Rows lie along the last axis, so that a thread has a row, or shares it with some others, and what is summed over nodes
or centres stays in it. Which nodes of 32 are entered is a word of bits.
"""

from __future__ import annotations

import triton
import triton.language as tl

_UP: tl.constexpr = tl.constexpr(1.0 + 2.0**-18)
_TINY: tl.constexpr = tl.constexpr(2.0**-120)
_MANY: tl.constexpr = tl.constexpr(32)  # centres of a leaf, children of a node

# A thread appends (key, number) by itself, and only where there is a hit: a masked store of Triton's exchanges what is
# stored between threads, and takes addresses for all. Labels are local to the braces.
# $1 key, $2 limit, $3 slot, $4 number, $5 row of the tile, $6 lists, $7 capacity, $8 rows of a tile.
_APPEND: tl.constexpr = tl.constexpr("""
{
  .reg .pred p;
  .reg .b32 s, v;
  .reg .b64 a;
  mov.b32 $0, 0;
  setp.le.f32 p, $1, $2;
  @!p bra DONE;
  setp.lt.s32 p, $3, $7;
  @!p bra DONE;
  mad.lo.u32 s, $3, $8, $5;
  mul.wide.u32 a, s, 8;
  add.u64 a, a, $6;
  mov.b32 v, $1;
  st.global.v2.b32 [a], {v, $4};
DONE:
}
""")


@triton.jit
def _or(a, b):
    return a | b


@triton.jit
def _opened(x, n_room, rows, reach, low, high, nodes, first, D: tl.constexpr, INLINE: tl.constexpr):
    """Which of the 32 nodes from `first` on any of the rows has to enter, as bits."""
    node = first + tl.arange(0, _MANY)
    key = tl.zeros((_MANY, rows.shape[0]), tl.float32)
    for q in tl.static_range(D):
        z = tl.load(x + q * n_room.to(tl.int64) + rows)[None, :]
        least = tl.load(low + q * nodes.to(tl.int64) + node)[:, None]
        most = tl.load(high + q * nodes.to(tl.int64) + node)[:, None]
        gap = tl.maximum(tl.maximum(least - z, z - most), 0.0)
        key += gap * gap
    hit, bit = key <= reach[None, :], 1 << tl.arange(0, _MANY)
    if INLINE:
        return tl.reduce(tl.sum(tl.where(hit, bit[:, None], 0), axis=0), 0, _or)
    return tl.sum(tl.where(tl.max(hit.to(tl.int32), axis=1) != 0, bit, 0), axis=0)  # as Python, far sooner


@triton.jit
def _lowest(bits):
    """The position of the lowest bit that is set."""
    exponent = (bits & -bits).to(tl.float32).to(tl.int32, bitcast=True) >> 23
    return (exponent & 255) - 127


@triton.jit(do_not_specialize=["first_tile", "leaves", "above", "top"])
def walk_boxes(
    x, n_room, limits, centres, numbers, m_room, low, high, nodes, leaves, above, top, lists, counts, first_tile,
    D: tl.constexpr, T: tl.constexpr, CAP: tl.constexpr, INLINE: tl.constexpr,
):  # fmt: skip
    """List for T rows a program whatever centre has a key within their limits (negative: nothing).

    x (D, n_room), centres (D, m_room) and boxes low, high (D, nodes) come coordinate by coordinate; of these first
    `leaves`, then `above` that hold 32 of them each, then `top` that hold 32 of those.
    lists (tiles, CAP, T, 2) int32, by the programs: bits of keys, and numbers; counts (tiles, T): how many there are,
    kept or not.
    """
    tile = tl.program_id(0)
    lanes = tl.arange(0, T)
    rows = (first_tile + tile) * T + lanes
    limit = tl.load(limits + rows)
    reach = tl.where(limit >= 0.0, limit * _UP + _TINY, -1.0)
    lists += tile.to(tl.int64) * (CAP * T * 2)
    inside = tl.arange(0, _MANY)
    count = tl.zeros((T,), tl.int32)
    # Of each level, the 32 nodes that were looked at last begin at `first`, and `open` are left to enter.
    open0, open1, open2 = tile * 0, tile * 0, tile * 0
    first0, first1, first2, next2 = tile * 0, tile * 0, tile * 0, tile * 0
    while (next2 < top) | ((open0 | open1 | open2) != 0):
        if open0 != 0:
            at = (first0 + _lowest(open0)) * _MANY + inside
            open0 = open0 & (open0 - 1)
            key = tl.zeros((_MANY, T), tl.float32)
            for q in tl.static_range(D):
                gap = tl.load(centres + q * m_room.to(tl.int64) + at)[:, None]
                gap = gap - tl.load(x + q * n_room.to(tl.int64) + rows)[None, :]
                key += gap * gap
            number = tl.load(numbers + at)
            hit = key <= limit[None, :]
            one = hit.to(tl.int32)
            slot = count[None, :] + tl.cumsum(one, axis=0) - one
            if INLINE:
                tl.inline_asm_elementwise(
                    _APPEND, "=&r,f,f,r,r,r,l,r,r",
                    [
                        key, tl.broadcast_to(limit[None, :], (_MANY, T)), slot,
                        tl.broadcast_to(number[:, None], (_MANY, T)),
                        tl.broadcast_to(lanes[None, :], (_MANY, T)), lists.to(tl.int64), CAP, T,
                    ],
                    dtype=tl.int32, is_pure=False, pack=1,
                )  # fmt: skip
            else:
                where = lists + (slot * T + lanes[None, :]) * 2
                kept = hit & (slot < CAP)
                tl.store(where, key.to(tl.int32, bitcast=True), mask=kept)
                tl.store(where + 1, tl.broadcast_to(number[:, None], (_MANY, T)), mask=kept)
            count += tl.sum(one, axis=0)
        else:
            of1, of2 = open1 != 0, open2 != 0
            child0 = (first1 + _lowest(open1)) * _MANY
            child1 = (first2 + _lowest(open2)) * _MANY
            first = tl.where(of1, child0, tl.where(of2, leaves + child1, leaves + above + next2))
            bits = _opened(x, n_room, rows, reach, low, high, nodes, first, D, INLINE)
            open0 = tl.where(of1, bits, 0)
            first0 = tl.where(of1, child0, first0)
            first1 = tl.where(of1, first1, child1)
            open2, first2, next2 = (
                tl.where(of1, open2, tl.where(of2, open2 & (open2 - 1), bits)),
                tl.where(of1 | of2, first2, next2),
                tl.where(of1 | of2, next2, next2 + _MANY),
            )
            open1 = tl.where(of1, open1 & (open1 - 1), tl.where(of2, bits, 0))
    tl.store(counts + tile * T + lanes, count)
