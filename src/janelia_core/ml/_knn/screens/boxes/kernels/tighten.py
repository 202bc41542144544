"""What is listed of a row -> a lower bound; and what reaches that: the row's candidates, if all that count were kept."""

from __future__ import annotations

import triton
import triton.language as tl

from janelia_core.ml._knn.screens.boxes.kernels.nearby import kth_key, limit_of


@triton.jit(do_not_specialize=["first_row"])
def tighten(
    keys, listed, counts, limits, residuals, most, order, found, n_found, doubt, first_row, n, n_room,
    K: tl.constexpr, T: tl.constexpr, CAP: tl.constexpr, KEEP: tl.constexpr, R: tl.constexpr, ROUNDED: tl.constexpr,
):  # fmt: skip
    """Write found (n, KEEP), n_found and doubt (n,) of the rows from first_row on whose limits are not negative.

    Those of rows of which more was within the limit than CAP are lowered, so that one more walk may list all; those of
    others become negative. order (n,): which rows these are.
    """
    local = tl.program_id(0) * R + tl.arange(0, R)
    rows = first_row + local
    here = rows < n_room
    limit = tl.load(limits + rows, mask=here, other=-1.0)
    asked = limit >= 0.0
    count = tl.where(asked, tl.load(counts + local, mask=here, other=0), 0)
    slots = tl.arange(0, CAP)[:, None]
    there = slots < count[None, :]
    where = ((local // T).to(tl.int64) * (CAP * T) + local % T)[None, :] + slots * T
    key = tl.load(keys + where, mask=there, other=float("inf"))
    residual = tl.load(residuals + rows, mask=here, other=0.0) if ROUNDED else 0.0
    lower = limit_of(kth_key(key, K), residual, tl.load(most), ROUNDED)
    lower = tl.where(lower >= 0.0, tl.minimum(lower, limit), lower)
    full = count > CAP
    tl.store(limits + rows, tl.where(full, lower, -1.0), mask=here)
    hit = there & (key <= lower[None, :])
    one = hit.to(tl.int32)
    slot = tl.cumsum(one, axis=0) - one
    total = tl.sum(one, axis=0)
    sure = asked & (full == 0) & (total >= K) & (total <= KEEP)
    number = tl.load(listed + where, mask=hit, other=0)
    row = tl.load(order + rows, mask=here & (rows < n), other=0)
    tl.store(found + row[None, :] * KEEP + slot, number, mask=hit & sure[None, :])
    tl.store(n_found + row, total, mask=sure & (rows < n))
    tl.store(doubt + row, tl.zeros_like(total), mask=sure & (rows < n))
