"""The Triton kernel of distances: compensated sums over the coordinates of listed pairs, rounded once.

A sum, its error bound and its rounding are those of `triton_sums`. float64 holds all values of the dtypes that come
here, and no square of a dtype narrower than float64 leaves the range in which products are error-free: (2^-149)^2 >
SMALL, and (2^129)^2 d is far below LARGEST for all d.

Where a coordinate is not finite, the terms of such coordinates alone make the value, as IEEE has it: of what is finite
nothing overflows. These terms are kept in a sum of their own, which is not 0 exactly where there are any.

What stays in doubt is appended to a list. In which order that happens is the device's, which pairs these are is not.
"""

from __future__ import annotations

import triton
import triton.language as tl

from janelia_core.ml._knn.arithmetic.triton_sums import (
    LARGEST,
    add_product,
    add_square,
    cosine_of,
    joined,
    rounded_sum,
)
from janelia_core.ml._knn.metrics import metric as _metrics

_DISTANCE, _COSINE = tl.constexpr(_metrics.DISTANCE), tl.constexpr(_metrics.COSINE)
_INFINITE = tl.constexpr(float("inf"))


@triton.jit(do_not_specialize=["n_pairs", "first_pair", "k", "d", "x_row", "c_row", "i_row", "i_slot", "most"])
def round_pairs(
    x, ctrs, indices, out, doubtful, count, n_pairs, first_pair, k, d, x_row, x_col, c_row, c_col, i_row, i_slot, most,
    FORM: tl.constexpr, ROOT: tl.constexpr, WIDE: tl.constexpr, P: tl.constexpr, W: tl.constexpr, LOG: tl.constexpr,
):  # fmt: skip
    """Fill distances of pairs first_pair + (0 .. n_pairs - 1), row by row of k slots, P of them here.

    x (n, d) rows and ctrs (m, d) centres have strides x_row, x_col, c_row, c_col; indices, from the row of first_pair
    on, i_row, i_slot: -1 for none. out (n k,), float32 or float64, is written. Pairs that stay in doubt are appended to
    doubtful (most, 2), with their centres, and counted in count (1,) int64, also those beyond `most`. FORM is the
    metric's; with ROOT square roots are wanted; WIDE: values are float64. W = 2^LOG columns are taken at a time.
    """
    at = tl.program_id(0).to(tl.int64) * P + tl.arange(0, P)
    here = at < n_pairs
    row, slot = at // k, at % k
    j = tl.load(indices + row * i_row + slot * i_slot, mask=here, other=-1)
    there = j >= 0
    x += (first_pair // k + row)[:, None] * x_row
    ctrs += tl.where(there, j, 0)[:, None] * c_row
    zero = tl.zeros((P, W), tl.float64)
    s, low, m, lost, wild, differs = zero, zero, zero, zero, zero, zero
    if FORM == _COSINE:
        a, a_low, a_m, b, b_low, b_m = zero, zero, zero, zero, zero, zero
    for start in range(0, d, W):
        q = start + tl.arange(0, W).to(tl.int64)
        inside = there[:, None] & (q < d)[None, :]
        f = tl.load(x + q[None, :] * x_col, mask=inside, other=0).to(tl.float64)
        g = tl.load(ctrs + q[None, :] * c_col, mask=inside, other=0).to(tl.float64)
        finite = (tl.abs(f) < _INFINITE) & (tl.abs(g) < _INFINITE)
        if FORM == _DISTANCE:
            wild += tl.where(finite, 0.0, (f - g) * (f - g))
        elif FORM == _COSINE:
            wild += tl.where(finite, 0.0, float("nan"))
            differs += tl.where(f == g, 0.0, 1.0)
        else:
            wild -= tl.where(finite, 0.0, f * g)
        if WIDE:
            taken = (tl.abs(f) < LARGEST) & (tl.abs(g) < LARGEST)
            lost += tl.where(finite & ~taken, _INFINITE, 0.0)
            f, g = tl.where(taken, f, 0.0), tl.where(taken, g, 0.0)
        else:
            f, g = tl.where(finite, f, 0.0), tl.where(finite, g, 0.0)
        if FORM == _DISTANCE:
            s, low, m, lost = add_square(f, g, s, low, m, lost, WIDE)
        else:
            s, low, m, lost = add_product(f, g, s, low, m, lost, WIDE)
        if FORM == _COSINE:
            a, a_low, a_m, lost = add_product(f, f, a, a_low, a_m, lost, WIDE)
            b, b_low, b_m, lost = add_product(g, g, b, b_low, b_m, lost, WIDE)
    hi, lo, error = joined(s, low, m, lost, d, W, LOG)
    if FORM == _COSINE:
        a, a_low, a_m = joined(a, a_low, a_m, lost, d, W, LOG)
        b, b_low, b_m = joined(b, b_low, b_m, lost, d, W, LOG)
        hi, lo, error = cosine_of(hi, lo, error, a, a_low, a_m, b, b_low, b_m, tl.sum(differs, axis=1) == 0.0)
    elif FORM != _DISTANCE:
        hi, lo = -hi, -lo
    value, certain = rounded_sum(hi, lo, error, ROOT, out.dtype.element_ty)
    wild = tl.sum(wild, axis=1)
    wild = tl.where(wild == wild, wild, float("nan"))
    value = tl.where(wild == 0.0, value, wild.to(value.dtype))
    value = tl.where(there, value, _INFINITE)
    tl.store(out + first_pair + at, value, mask=here)
    unknown = there & (wild == 0.0) & ~certain
    place = tl.atomic_add(count + tl.zeros((P,), tl.int32), 1, mask=unknown, sem="relaxed")
    listed = unknown & (place < most)
    tl.store(doubtful + 2 * place, first_pair + at, mask=listed)
    tl.store(doubtful + 2 * place + 1, j, mask=listed)
