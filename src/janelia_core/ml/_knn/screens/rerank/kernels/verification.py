"""Order values of listed centres from the stored values, in double-double, each with a measured error.

For distances, d + e = x - c exactly (Knuth), d = fl(x - c) and |e| <= 2^-53 |d|, and d^2 = p + f exactly (Dekker), so

    D = sum (p + f + 2 d e + e^2).

p is summed with what each addition loses (Knuth); all of these losses, f and 2 d e go into a second sum T, and their
magnitudes into A. Then |D - (S + T)| <= (4 d + 16) 2^-53 A: T takes three additions a coordinate, each of which rounds
by 2^-53 of at most A (1 + 2^-50); products round 2 d e by 2^-53 of itself; e^2 is at most 2^-54 |2 d e|. Where A is 0
nothing was lost: the value is exact, and equal values are ties. Inner products likewise, x c = p + f. For cosines,
-<x, c> / |c| orders the centres of a row; quotient and root round four times.

64-bit integers from 2^53 on may have been rounded; values beyond 2^480, or below 2^-480 but for 0, prove nothing, and
what is not finite neither: the row is in doubt.
No operation may be contracted to a fused one: kernels are compiled without (`enable_fp_fusion=False`).
"""

from __future__ import annotations

import triton
import triton.language as tl

from janelia_core.ml._knn.arithmetic.triton_sums import two_product, two_sum
from janelia_core.ml._knn.metrics import metric as forms
from janelia_core.ml._knn.screens.rerank import doubt as reasons
from janelia_core.ml._knn.screens.rerank.kernels.reading import stored

_EXTREME: tl.constexpr = tl.constexpr(reasons.EXTREME)
_MOST: tl.constexpr = tl.constexpr(2.0**480)
_LEAST: tl.constexpr = tl.constexpr(2.0**-480)
_WHOLE: tl.constexpr = tl.constexpr(2.0**53)  # integers from here on may not be what float64 makes of them
_UNIT: tl.constexpr = tl.constexpr(2.0**-53)
_DISTANCE: tl.constexpr = tl.constexpr(forms.DISTANCE)
_COSINE: tl.constexpr = tl.constexpr(forms.COSINE)


@triton.jit
def _added(s, t, a, p, f):
    """The sums with a term p + f added."""
    s, lost = two_sum(s, p)
    return s, t + (lost + f), a + (tl.abs(lost) + tl.abs(f))


@triton.jit
def _odd(v):
    size = tl.abs(v)
    return ((size <= _MOST) == 0) | ((size < _LEAST) & (size != 0))


@triton.jit
def _joined(s, t, a):
    """Pairs of sums (n, m, 2) as one each (n, m)."""
    s, more = tl.split(s)
    t, t_more = tl.split(t)
    a, a_more = tl.split(a)
    s, lost = two_sum(s, more)
    return s, (t + t_more) + lost, (a + a_more) + tl.abs(lost)


@triton.jit(do_not_specialize=["n", "d"])
def verify(
    x, ctrs, found, n_found, high, low, error, doubt, n, x_stride, x_step, c_stride, c_step, d,
    KEEP: tl.constexpr, BM: tl.constexpr, FORM: tl.constexpr, SPARSE: tl.constexpr,
):  # fmt: skip
    """Order values high + low +- error (n, KEEP) of found (n, KEEP), BM a program, side by side in memory.

    SPARSE: grid (rows / BM, KEEP), a slot of BM rows a program, so that what is not there costs nothing.
    Four coordinates at a time, each with sums of its own.
    """
    if SPARSE:
        rows = tl.program_id(0) * BM + tl.arange(0, BM)
        slot = tl.zeros((BM,), tl.int32) + tl.program_id(1)
    else:
        place = tl.program_id(0).to(tl.int64) * BM + tl.arange(0, BM)
        rows = (place // KEEP).to(tl.int32)
        slot = (place % KEEP).to(tl.int32)
    there = rows < n
    there = there & (slot < tl.load(n_found + rows, mask=there, other=0))
    if tl.max(there.to(tl.int32), axis=0) == 0:
        return
    at = rows.to(tl.int64) * KEEP + slot
    centre = tl.load(found + at, mask=there, other=0).to(tl.int64)
    s = tl.zeros((BM, 4), tl.float64)
    t = tl.zeros((BM, 4), tl.float64)
    a = tl.zeros((BM, 4), tl.float64)
    ss = tl.zeros((BM, 4), tl.float64)
    tt = tl.zeros((BM, 4), tl.float64)
    odd = tl.zeros((BM, 4), tl.int32)
    for q in range(0, d, 4):
        columns = (q + tl.arange(0, 4)).to(tl.int64)
        inside = there[:, None] & (columns < d)[None, :]
        given = tl.load(x + rows.to(tl.int64)[:, None] * x_stride + columns[None, :] * x_step, mask=inside, other=0)
        other = tl.load(ctrs + centre[:, None] * c_stride + columns[None, :] * c_step, mask=inside, other=0)
        v, w = stored(given), stored(other)
        odd = odd | (_odd(v) | _odd(w)).to(tl.int32)
        if given.dtype == tl.int64:
            odd = odd | (tl.abs(v) >= _WHOLE).to(tl.int32)
        if other.dtype == tl.int64:
            odd = odd | (tl.abs(w) >= _WHOLE).to(tl.int32)
        if FORM == _DISTANCE:
            gap, e = two_sum(v, -w)
            odd = odd | _odd(gap).to(tl.int32)
            p, f = two_product(gap, gap)
            s, t, a = _added(s, t, a, p, f)
            cross = 2.0 * gap * e
            t += cross
            a += tl.abs(cross)
        else:
            p, f = two_product(v, w)
            s, t, a = _added(s, t, a, p, f)
            if FORM == _COSINE:
                p, f = two_product(w, w)
                ss, lost = two_sum(ss, p)
                tt += lost + f
    s, t, a = _joined(tl.reshape(s, (BM, 2, 2)), tl.reshape(t, (BM, 2, 2)), tl.reshape(a, (BM, 2, 2)))
    s, t, a = _joined(s, t, a)
    e = a * ((4 * d + 16) * _UNIT)
    if FORM == _DISTANCE:
        value, rest = two_sum(s, t)
    elif FORM == _COSINE:
        square = tl.sum(ss + tt, axis=1)
        length = tl.sqrt(tl.where(square > 0.0, square, 1.0))
        value = -(s + t) / length
        rest = tl.zeros((BM,), tl.float64)
        e = tl.abs(value) * (16 * _UNIT) + 2.0 * e / length
    else:
        value, rest = two_sum(-s, -t)
    tl.store(high + at, value, mask=there)
    tl.store(low + at, rest, mask=there)
    tl.store(error + at, e, mask=there)
    # Others may say so of the same row at the same time.
    tl.atomic_or(doubt + rows, _EXTREME, mask=there & (tl.max(odd, axis=1) != 0), sem="relaxed")
