"""The portable screen: a float32 product that *is* an upper bound of the score, in torch operations only.

The score s(x, c) = <x, c> - |c|^2 / 2 is largest for the nearest centre: D = |x|^2 - 2 s. For inner products, and for
cosines, which are those of directions, the score is <x, c> itself. `packing` rounds the
coordinates to float32 and adds columns for the bias and for the error margin, so that one matrix product gives
U >= s, proven for any order of summation. Everything outside the w best U of a row has D >= |x|^2 - 2 U_w, or
-<x, c> >= -U_w, or 1 - cos >= 1 - U_w.

What a mask hides scores -inf before anything is kept; a row that ends with empty slots has all it may have.

A product can be wrong all the same (precision flags flipped half-way, device bugs): one row of every block of
rows is compared with float64; where it disagrees by more than the bound, nothing is excluded.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from janelia_core.ml._knn.arithmetic.bounds import OUTWARD
from janelia_core.ml._knn.contract import Candidates
from janelia_core.ml._knn.data.frame import Frame
from janelia_core.ml._knn.data.points import Points, as_float64
from janelia_core.ml._knn.metrics.metric import COSINE, DISTANCE, DOT
from janelia_core.ml._knn.metrics.registry import metric_named
from janelia_core.ml._knn.plan.plan import Plan
from janelia_core.ml._knn.screens.portable.packing import PackedRows, pack_ctrs, pack_rows, product_error

Shown = Callable[[int, int], Tensor]


class PortableScreen:
    """Shortlists the `width` best upper bounds of every row, centre block by centre block."""

    def __init__(self, ctrs: Points, frame: Frame, plan: Plan) -> None:
        self._form = metric_named(plan.metric).form
        self._product = self._form != DISTANCE
        self._ctrs = ctrs
        self._frame = frame
        self._width = plan.width
        self._block = plan.ctr_block
        self._bits = plan.operand_bits
        self._chunk = ctrs.chunk
        self._kept = [self._pack(start, stop) for start, stop in self.blocks()] if plan.keep_packed else None

    def candidates(self, x_rows: Tensor, shown: Shown | None = None) -> Candidates:
        """Shortlist the centres for rows (r, d) of finite values; shown(start, stop) tells which may be listed."""
        rows = pack_rows(x_rows, self._frame, self._bits, self._chunk)
        best, indices, sound = self._best(rows, shown)
        empty = best == -torch.inf
        indices = self._ctrs.row_numbers(indices.masked_fill_(empty, -1))
        excluded = self._order_value(rows, as_float64(best.amin(dim=1)))
        excluded.masked_fill_(empty.any(dim=1).to(excluded.device), torch.inf)
        if self._width == len(self._ctrs):
            excluded = torch.full_like(excluded, torch.inf)
        if not sound:
            excluded = torch.full_like(excluded, -torch.inf)
        return Candidates(indices, excluded)

    def within(self, x_rows: Tensor, radius: Tensor, start: int, stop: int) -> Tensor:
        """Return (r, stop - start) bool: False where centre start + j is proven farther than radius (r,)."""
        rows = pack_rows(x_rows, self._frame, self._bits, self._chunk)
        least = self._least_score(rows, radius).to(torch.float32)
        threshold = torch.nextafter(least, torch.full_like(least, -torch.inf))
        threshold = threshold.masked_fill_(threshold.isnan(), -torch.inf).to(rows.packed.device)
        packed = self._packed(start, stop)
        scores = torch.mm(rows.packed, packed.T)
        return (scores >= threshold[:, None]) | (not _is_sound(rows.packed[0], packed, scores[0], self._chunk))

    def _order_value(self, rows: PackedRows, score: Tensor) -> Tensor:
        """Return a lower bound, in the units of verify, of the order values of centres that score at most this (r,)."""
        if self._form == COSINE:
            return _down(1.0 - score, 2.0)
        value = -score if self._form == DOT else rows.square_low - 2.0 * score
        return _down(value * 4.0 ** (self._frame.exponent - self._frame.verify_exponent))

    def _least_score(self, rows: PackedRows, radius: Tensor) -> Tensor:
        """Return a lower bound of the scores of centres whose order values are at most radius (r,)."""
        if self._form == COSINE:
            return _down(1.0 - radius, 2.0)
        in_frame = radius * 4.0 ** (self._frame.verify_exponent - self._frame.exponent)
        in_frame = -_down(-in_frame)
        return -in_frame if self._form == DOT else 0.5 * (rows.square_low - in_frame)

    def _best(self, rows: PackedRows, shown: Shown | None) -> tuple[Tensor, Tensor, bool]:
        """Return the `width` largest U of each row, their centres (r, width), and whether the product is sound."""
        device, r = rows.packed.device, rows.packed.shape[0]
        tile = torch.empty(r * min(self._block, len(self._ctrs)), dtype=torch.float32, device=device)
        best = torch.empty(r, 0, dtype=torch.float32, device=device)
        indices = torch.empty(r, 0, dtype=torch.int64, device=device)
        sound = True
        for start, stop in self.blocks():
            packed = self._packed(start, stop)
            scores = torch.mm(rows.packed, packed.T, out=tile[: r * (stop - start)].view(r, stop - start))
            if start == 0:
                sound = _is_sound(rows.packed[0], packed, scores[0], self._chunk)
            if shown is not None:
                scores.masked_fill_(~shown(start, stop).to(device), -torch.inf)
            top = scores.topk(min(self._width, stop - start), dim=1, sorted=False)
            best = torch.cat([best, top.values], dim=1)
            indices = torch.cat([indices, top.indices.add_(start)], dim=1)
            if best.shape[1] > self._width:
                best, kept = best.topk(self._width, dim=1, sorted=False)
                indices = indices.gather(1, kept)
        return best, indices, sound

    def blocks(self) -> list[tuple[int, int]]:
        """Return the blocks of centres, start and stop, in ascending order."""
        n_ctrs = len(self._ctrs)
        return [(start, min(start + self._block, n_ctrs)) for start in range(0, n_ctrs, self._block)]

    def _packed(self, start: int, stop: int) -> Tensor:
        return self._pack(start, stop) if self._kept is None else self._kept[start // self._block]

    def _pack(self, start: int, stop: int) -> Tensor:
        return pack_ctrs(self._ctrs.block(start, stop), self._frame, self._bits, self._product, self._chunk)


def _down(value: Tensor, size: float = 0.0) -> Tensor:
    """Lower float64 values by more than a few roundings of them, or of numbers up to `size`."""
    return value - (OUTWARD - 1.0) * (value.abs() + size)


def _is_sound(row: Tensor, packed: Tensor, scores: Tensor, chunk: int) -> bool:
    """Compare one row of a tile (b,) with the same products in float64, `chunk` coordinates at a time: the canary."""
    step = max(1, chunk // len(row))
    for part in (slice(start, start + step) for start in range(0, len(packed), step)):
        exact = torch.mv(as_float64(packed[part]), as_float64(row))
        if not bool(((as_float64(scores[part]) - exact).abs() <= product_error(row, packed[part])).all()):
            return False
    return True
