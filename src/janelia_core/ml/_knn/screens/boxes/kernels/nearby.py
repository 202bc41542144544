"""Bounds that k centres are proven to reach: the k-th smallest key of some."""

from __future__ import annotations

import triton
import triton.language as tl

_UP: tl.constexpr = tl.constexpr(1.0 + 2.0**-18)
_TINY: tl.constexpr = tl.constexpr(2.0**-120)
_STEPS: tl.constexpr = tl.constexpr(21)  # of 31: what is found is up to 2^-13 above the k-th
_REST: tl.constexpr = tl.constexpr((1 << 10) - 1)


@triton.jit
def kth_key(bits, K: tl.constexpr):
    """At least the K-th smallest of each column of keys >= 0, given their bits (s, r), by bisection of these."""
    found = tl.sum(tl.zeros_like(bits), axis=0)
    step = 1 << 30
    for _ in range(_STEPS):
        trial = found + step
        below = tl.sum((bits < trial[None, :]).to(tl.int32), axis=0)
        found = tl.where(below < K, trial, found)
        step = step >> 1
    return (found | _REST).to(tl.float32, bitcast=True)  # of infinite ones: NaN, which no comparison holds for


@triton.jit
def limit_of(key, residual, most, ROUNDED: tl.constexpr):
    """What no key of an answer exceeds where k keys reach `key`; negative where that proves nothing. See `bounds`."""
    if ROUNDED:
        root = tl.sqrt_rn(key + _TINY) * _UP + residual * _UP * 2.0
        limit = root * root * _UP + _TINY
    else:
        limit = key * _UP + _TINY
    return tl.where((key <= most) & (limit <= most), limit, -1.0)


@triton.jit
def bound_rows(
    x, n_room, fine, residuals, starts, centres, m_room, most, limits,
    D: tl.constexpr, T: tl.constexpr, K: tl.constexpr, SOME: tl.constexpr, R: tl.constexpr, ROUNDED: tl.constexpr,
):  # fmt: skip
    """Write limits (n_room,): of R rows a program, by SOME centres from `starts` on of the tile of T they are in."""
    rows = tl.program_id(0) * R + tl.arange(0, R)
    first = tl.load(starts + rows // T, mask=rows < n_room, other=0)
    at = first[None, :] + tl.arange(0, SOME)[:, None]
    key = tl.zeros((SOME, R), tl.float32)
    for q in tl.static_range(D):
        z = tl.load(centres + q * m_room.to(tl.int64) + at, mask=at < m_room, other=float("inf"))
        gap = z - tl.load(x + q * n_room.to(tl.int64) + rows, mask=rows < n_room, other=0.0)[None, :]
        key += gap * gap
    residual = tl.load(residuals + rows, mask=rows < n_room, other=0.0) if ROUNDED else 0.0
    limit = limit_of(kth_key(key.to(tl.int32, bitcast=True), K), residual, tl.load(most), ROUNDED)
    sound = tl.load(fine + rows, mask=rows < n_room, other=0) != 0
    tl.store(limits + rows, tl.where(sound, limit, -1.0), mask=rows < n_room)
