"""Order values -> the k nearest of each row, by (value, number), and whether that order is proven.

With E the largest error in a row, two centres that follow each other by value are in order if they lie more than 2 E
apart; if all that follow each other do, so does everyone else. E = 0: nothing was lost, and equal values are ties.
Where they are closer, they may still tie for sure: coordinate by coordinate, both centres lie equally far from the row
(or contribute alike to an inner product).
"""

from __future__ import annotations

import triton
import triton.language as tl

from janelia_core.ml._knn.arithmetic.triton_sums import two_sum
from janelia_core.ml._knn.metrics import metric as forms
from janelia_core.ml._knn.screens.rerank import doubt as reasons
from janelia_core.ml._knn.screens.rerank.kernels.reading import stored

_CLOSE: tl.constexpr = tl.constexpr(reasons.CLOSE)
_FEW: tl.constexpr = tl.constexpr(reasons.FEW)
_NOBODY: tl.constexpr = tl.constexpr(2147483647)
_DISTANCE: tl.constexpr = tl.constexpr(forms.DISTANCE)
_COSINE: tl.constexpr = tl.constexpr(forms.COSINE)


@triton.jit
def _values(found, high, low, begin, slots, many):
    """The order values, in two parts, and the numbers of what is found in some slots; behind the last, nobody's."""
    there = slots < many
    h = tl.load(high + begin + slots, mask=there, other=float("inf"))
    w = tl.load(low + begin + slots, mask=there, other=0.0)
    number = tl.load(found + begin + slots, mask=there, other=_NOBODY)
    return tl.where(h == h, h, float("inf")), tl.where(w == w, w, 0.0), number  # NaN: of rows in doubt


@triton.jit(do_not_specialize=["k"])
def rank(
    found, n_found, high, low, error, out, near, doubt, k,
    KEEP: tl.constexpr, STEP: tl.constexpr, MASKED: tl.constexpr,
):  # fmt: skip
    """Write out (n, KEEP) the centres in order, -1 behind the last; near (n, KEEP): too close to the next to tell."""
    row = tl.program_id(0).to(tl.int64)
    slots = tl.arange(0, KEEP)
    at = row * KEEP + slots
    many = tl.load(n_found + row)
    there = slots < many
    h, w, number = _values(found, high, low, row * KEEP, slots, many)
    reach = 2.0 * tl.max(tl.load(error + at, mask=there, other=0.0), axis=0) + tl.zeros((KEEP,), tl.float64)
    place = tl.zeros((KEEP,), tl.int32)
    for first in range(0, many, STEP):  # how many of these come before
        some = first + tl.arange(0, STEP)
        g, v, its_number = _values(found, high, low, row * KEEP, some, many)
        alike = (g[None, :] == h[:, None]) & (v[None, :] == w[:, None])
        less = (g[None, :] < h[:, None]) | ((g[None, :] == h[:, None]) & (v[None, :] < w[:, None]))
        less = less | (alike & (its_number[None, :] < number[:, None]))
        place += tl.sum((less & (some < many)[None, :]).to(tl.int32), axis=1)
    tl.debug_barrier()  # all has been read
    tl.store(high + row * KEEP + place, h, mask=there)
    tl.store(low + row * KEEP + place, w, mask=there)
    tl.store(out + row * KEEP + place, number, mask=there)
    tl.store(out + at, -1, mask=there == 0)
    tl.debug_barrier()
    follows = slots + 1 < many
    h = tl.load(high + at, mask=follows, other=0.0)
    w = tl.load(low + at, mask=follows, other=0.0)
    h_next = tl.load(high + at + 1, mask=follows, other=0.0)
    w_next = tl.load(low + at + 1, mask=follows, other=0.0)
    # The difference rounds by less than 2^-50 of itself, or of the lower parts.
    apart = (h_next - h) + (w_next - w)
    slack = 8.9e-16 * (tl.abs(w) + tl.abs(w_next) + tl.abs(apart))
    close = follows & ((apart > reach + slack) == 0) & (reach > 0.0)
    tl.store(near + at, close.to(tl.int8))
    state = tl.where(tl.max((close & (slots < k)).to(tl.int32), axis=0) > 0, _CLOSE, 0)
    if not MASKED:
        state = state | tl.where(many < k, _FEW, 0)
    tl.store(doubt + row, tl.load(doubt + row) | state)


@triton.jit(do_not_specialize=["d", "k"])
def look_at_ties(
    x, ctrs, out, near, doubt, x_stride, x_step, c_stride, c_step, d, k,
    BD: tl.constexpr, KEEP: tl.constexpr, FORM: tl.constexpr,
):  # fmt: skip
    """Take a row out of doubt whose near centres all tie, coordinate by coordinate.

    So must those behind the k-th, as far as each is near the one before it: any of them might be nearer than it seems.
    """
    row = tl.program_id(0).to(tl.int64)
    state = tl.load(doubt + row)
    if state != _CLOSE:
        return
    columns = tl.arange(0, BD)
    differ = 0
    before, linked = 0, 1
    for place in range(0, KEEP - 1):
        here = tl.load(near + row * KEEP + place).to(tl.int32)
        linked = tl.where(place >= k, linked * before, 1)
        before = here
        if here * linked != 0:
            one = tl.load(out + row * KEEP + place).to(tl.int64)
            other = tl.load(out + row * KEEP + place + 1).to(tl.int64)
            for q in range(0, d, BD):
                inside = q + columns < d
                a = stored(tl.load(ctrs + one * c_stride + (q + columns).to(tl.int64) * c_step, mask=inside, other=0))
                b = stored(tl.load(ctrs + other * c_stride + (q + columns).to(tl.int64) * c_step, mask=inside, other=0))
                same = a == b
                if FORM != _COSINE:
                    v = stored(tl.load(x + row * x_stride + (q + columns).to(tl.int64) * x_step, mask=inside, other=0))
                    if FORM == _DISTANCE:
                        s, e = two_sum(v, -a)
                        t, f = two_sum(b, -v)
                        same = same | ((s == t) & (e == f))
                    else:
                        same = same | (v == 0.0)
                differ += tl.sum((same == 0).to(tl.int32), axis=0)
    if differ == 0:
        tl.store(doubt + row, 0)
