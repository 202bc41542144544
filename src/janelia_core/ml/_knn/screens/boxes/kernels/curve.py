"""Where points lie along Hilbert's curve: neighbours on it are neighbours in space.

Skilling's transformation (2004), bit by bit from the highest: coordinates are exchanged or turned in place, and the
bits of all of them, one after the other, are the place.
"""

# mypy: disable-error-code="assignment, misc"
from __future__ import annotations

import triton
import triton.language as tl

_LAST: tl.constexpr = tl.constexpr(9223372036854775807)


@triton.jit
def _turned(v, i: tl.constexpr, D: tl.constexpr, bit: tl.constexpr):
    """Coordinates v after the turn that bit `bit` of the i-th asks for."""
    flip = (v[i] & bit) != 0
    gap = tl.where(flip, 0, (v[0] ^ v[i]) & (bit - 1))
    turned = (tl.where(flip, v[0] ^ (bit - 1), v[0] ^ gap),)
    for q in tl.static_range(1, D):
        turned = turned + ((v[q] ^ gap) if q == i else v[q],)  # noqa: RUF005
    return turned


@triton.jit
def place_on_curve(points, low, scale, out, n, D: tl.constexpr, BITS: tl.constexpr, BLOCK: tl.constexpr):
    """Write the places (n,) int64 of points (n, D) float32, in steps of 1 / scale from low (D,); infinite ones last."""
    rows = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    here = rows < n
    factor = tl.load(scale)
    last = rows < 0
    v = ()
    for q in tl.static_range(D):
        z = tl.load(points + rows.to(tl.int64) * D + q, mask=here, other=0.0)
        last = last | (z == float("inf"))
        step = tl.where(last, 0.0, (z - tl.load(low + q)) * factor)
        step = tl.minimum(tl.maximum(step, 0.0), (1 << BITS) - 1.0)
        v = v + (step.to(tl.int32),)  # noqa: RUF005
    for b in tl.static_range(BITS - 1):
        for i in tl.static_range(D):
            v = _turned(v, i, D, 1 << (BITS - 1 - b))
    gray = (v[0],)
    for q in tl.static_range(1, D):
        gray = gray + (v[q] ^ gray[q - 1],)  # noqa: RUF005
    turn = tl.zeros((BLOCK,), tl.int32)
    for b in tl.static_range(BITS - 1):
        turn = turn ^ tl.where((gray[D - 1] & (1 << (BITS - 1 - b))) != 0, (1 << (BITS - 1 - b)) - 1, 0)
    place = tl.zeros((BLOCK,), tl.int64)
    for b in tl.static_range(BITS):
        for q in tl.static_range(D):
            place = (place << 1) | (((gray[q] ^ turn) >> (BITS - 1 - b)) & 1).to(tl.int64)
    tl.store(out + rows, tl.where(last, _LAST, place), mask=here)
