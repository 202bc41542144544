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


@triton.jit
def _or(a, b):
    return a | b


@triton.jit
def _opened(x, n_room, rows, reach, low, high, nodes, first, D: tl.constexpr):
    """Which of the 32 nodes from `first` on any of the rows has to enter, as bits."""
    node = first + tl.arange(0, _MANY)
    key = tl.zeros((_MANY, rows.shape[0]), tl.float32)
    for q in tl.static_range(D):
        z = tl.load(x + q * n_room.to(tl.int64) + rows)[None, :]
        least = tl.load(low + q * nodes.to(tl.int64) + node)[:, None]
        most = tl.load(high + q * nodes.to(tl.int64) + node)[:, None]
        gap = tl.maximum(tl.maximum(least - z, z - most), 0.0)
        key += gap * gap
    bits = tl.where(key <= reach[None, :], (1 << tl.arange(0, _MANY))[:, None], 0)
    return tl.reduce(tl.sum(bits, axis=0), 0, _or)


@triton.jit
def _lowest(bits):
    """The position of the lowest bit that is set."""
    exponent = (bits & -bits).to(tl.float32).to(tl.int32, bitcast=True) >> 23
    return (exponent & 255) - 127


@triton.jit(do_not_specialize=["first_tile"])
def walk_boxes(
    x, n_room, limits, centres, numbers, m_room,
    low0, high0, nodes0, low1, high1, nodes1, low2, high2, nodes2,
    keys, listed, counts, first_tile,
    D: tl.constexpr, T: tl.constexpr, CAP: tl.constexpr,
):  # fmt: skip
    """List for T rows a program whatever centre has a key within their limits (negative: nothing).

    x (D, n_room), centres (D, m_room) and boxes (D, nodes) come coordinate by coordinate, a level's nodes 32 by 32.
    keys, listed (tiles, CAP, T): what is listed, by the programs; counts (tiles, T): how much there is, kept or not.
    """
    tile = tl.program_id(0)
    lanes = tl.arange(0, T)
    rows = (first_tile + tile) * T + lanes
    limit = tl.load(limits + rows)
    reach = tl.where(limit >= 0.0, limit * _UP + _TINY, -1.0)
    start = tile.to(tl.int64) * (CAP * T)
    keys += start
    listed += start
    inside = tl.arange(0, _MANY)
    count = tl.zeros((T,), tl.int32)
    for top in range(0, nodes2, _MANY):
        opened2 = _opened(x, n_room, rows, reach, low2, high2, nodes2, top, D)
        while opened2 != 0:
            first1 = (top + _lowest(opened2)) * _MANY
            opened2 = opened2 & (opened2 - 1)
            opened1 = _opened(x, n_room, rows, reach, low1, high1, nodes1, first1, D)
            while opened1 != 0:
                first0 = (first1 + _lowest(opened1)) * _MANY
                opened1 = opened1 & (opened1 - 1)
                opened0 = _opened(x, n_room, rows, reach, low0, high0, nodes0, first0, D)
                while opened0 != 0:
                    at = (first0 + _lowest(opened0)) * _MANY + inside
                    opened0 = opened0 & (opened0 - 1)
                    key = tl.zeros((_MANY, T), tl.float32)
                    for q in tl.static_range(D):
                        gap = tl.load(centres + q * m_room.to(tl.int64) + at)[:, None]
                        gap = gap - tl.load(x + q * n_room.to(tl.int64) + rows)[None, :]
                        key += gap * gap
                    number = tl.load(numbers + at)
                    hit = key <= limit[None, :]
                    one = hit.to(tl.int32)
                    slot = count[None, :] + tl.cumsum(one, axis=0) - one
                    where = slot * T + lanes[None, :]
                    kept = hit & (slot < CAP)
                    tl.store(keys + where, key, mask=kept)
                    tl.store(listed + where, tl.broadcast_to(number[:, None], (_MANY, T)), mask=kept)
                    count += tl.sum(one, axis=0)
    tl.store(counts + tile * T + lanes, count)
