"""What is listed of a row -> a lower bound; what is within that are its candidates, if all that count were kept."""

from __future__ import annotations

import triton
import triton.language as tl

from janelia_core.ml._knn.screens.boxes.kernels.nearby import kth_key, limit_of


@triton.jit(do_not_specialize=["first_row", "last_row"])
def tighten(
    lists, counts, limits, residuals, most, order, found, n_found, doubt, first_row, last_row, n,
    K: tl.constexpr, T: tl.constexpr, CAP: tl.constexpr, KEEP: tl.constexpr, R: tl.constexpr, SOME: tl.constexpr,
    ROUNDED: tl.constexpr,
):  # fmt: skip
    """Write found (n, KEEP), n_found, doubt (n,) of the rows first_row .. last_row - 1 whose limits are not negative.

    Those of rows of which more was within the limit than CAP are lowered, so that one more walk may list all; those of
    others become negative. R rows a program, of one tile of T; lists: see `walk_boxes`. order (n,): which rows it is.
    """
    first = tl.program_id(0) * R
    local = first + tl.arange(0, R)
    rows = first_row + local
    here = rows < last_row
    limit = tl.load(limits + rows, mask=here, other=-1.0)
    asked = limit >= 0.0
    count = tl.where(asked, tl.load(counts + local, mask=here, other=0), 0)
    if tl.max(count, axis=0) > 0:
        lists += (first // T).to(tl.int64) * (CAP * T * 2)
        lanes = (first % T + tl.arange(0, R))[None, :]
        slots = tl.arange(0, CAP)[:, None]
        bits = tl.load(lists + (slots * T + lanes) * 2, mask=slots < count[None, :], other=0x7F800000)
        residual = tl.load(residuals + rows, mask=here, other=0.0) if ROUNDED else 0.0
        lower = limit_of(kth_key(bits, K), residual, tl.load(most), ROUNDED)
        lower = tl.where(lower >= 0.0, tl.minimum(lower, limit), lower)
        full = count > CAP
        row = tl.load(order + rows, mask=here & (rows < n), other=0)
        total = tl.zeros((R,), tl.int32)
        for slot in range(0, tl.minimum(tl.max(count, axis=0), CAP), SOME):
            some = slot + tl.arange(0, SOME)[:, None]
            there = some < tl.minimum(count, CAP)[None, :]
            where = lists + (some * T + lanes) * 2
            key = tl.load(where, mask=there, other=0x7F800000).to(tl.float32, bitcast=True)
            hit = there & (key <= lower[None, :])
            one = hit.to(tl.int32)
            place = total[None, :] + tl.cumsum(one, axis=0) - one
            number = tl.load(where + 1, mask=hit, other=0)
            tl.store(found + row[None, :] * KEEP + place, number, mask=hit & (place < KEEP))
            total += tl.sum(one, axis=0)
        sure = asked & (full == 0) & (total >= K) & (total <= KEEP)
        tl.store(n_found + row, total, mask=sure)
        tl.store(doubt + row, tl.zeros_like(total), mask=sure)
        tl.store(limits + rows, tl.where(full, lower, -1.0), mask=here)
