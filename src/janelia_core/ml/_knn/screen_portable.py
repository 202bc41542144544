"""The portable screen: a float32 product that *is* an upper bound of the score, in torch operations only.

The score s(x, c) = <x, c> - |c|^2 / 2 is largest for the nearest centre: D = |x|^2 - 2 s. `packing` rounds the
coordinates to float32 and adds columns for the bias and for the error margin, so that one matrix product gives
U >= s, proven for any order of summation. Everything outside the w best U of a row has D >= |x|^2 - 2 U_w.

A product can be wrong all the same (precision flags flipped half-way, device bugs): one row of every block of
rows is compared with float64; where it disagrees by more than the bound, nothing is excluded.
"""

from __future__ import annotations

import torch
from torch import Tensor

from janelia_core.ml._knn.bounds import OUTWARD
from janelia_core.ml._knn.contract import Candidates
from janelia_core.ml._knn.frame import Frame
from janelia_core.ml._knn.packing import PackedRows, pack_ctrs, pack_rows, product_error
from janelia_core.ml._knn.plan import Plan
from janelia_core.ml._knn.points import Points, as_float64


class PortableScreen:
    """Shortlists the `width` best upper bounds of every row, centre block by centre block."""

    def __init__(self, ctrs: Points, frame: Frame, plan: Plan) -> None:
        self._ctrs = ctrs
        self._frame = frame
        self._width = plan.width
        self._block = plan.ctr_block
        self._bits = plan.operand_bits
        self._chunk = ctrs.chunk
        self._kept = [self._pack(start, stop) for start, stop in self.blocks()] if plan.keep_packed else None

    def candidates(self, x_rows: Tensor) -> Candidates:
        """Shortlist the centres for rows (r, d) of stored, finite values."""
        rows = pack_rows(x_rows, self._frame, self._bits, self._chunk)
        best, indices, sound = self._best(rows)
        if self._width == len(self._ctrs):
            excluded = torch.full_like(rows.square_low, torch.inf)
        else:
            excluded = self._in_verify_units(rows.square_low - 2.0 * as_float64(best.amin(dim=1)))
        if not sound:
            excluded = torch.full_like(excluded, -torch.inf)
        return Candidates(self._ctrs.row_numbers(indices), excluded)

    def within(self, x_rows: Tensor, radius: Tensor, start: int, stop: int) -> Tensor:
        """Return (r, stop - start) bool: False where centre start + j is proven farther than radius (r,)."""
        rows = pack_rows(x_rows, self._frame, self._bits, self._chunk)
        in_frame = radius * 4.0 ** (self._frame.verify_exponent - self._frame.exponent) * OUTWARD
        least = (0.5 * (rows.square_low - in_frame)).to(torch.float32)
        threshold = torch.nextafter(least, torch.full_like(least, -torch.inf))
        threshold = threshold.masked_fill_(threshold.isnan(), -torch.inf).to(rows.packed.device)
        packed = self._packed(start, stop)
        scores = torch.mm(rows.packed, packed.T)
        return (scores >= threshold[:, None]) | (not _is_sound(rows.packed[0], packed, scores[0], self._chunk))

    def _best(self, rows: PackedRows) -> tuple[Tensor, Tensor, bool]:
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
        return pack_ctrs(self._ctrs.block(start, stop), self._frame, self._bits, self._chunk)

    def _in_verify_units(self, distance: Tensor) -> Tensor:
        # Rounded towards zero: a lower bound that is negative says nothing anyway.
        return distance * (4.0 ** (self._frame.exponent - self._frame.verify_exponent) * (2.0 - OUTWARD))


def _is_sound(row: Tensor, packed: Tensor, scores: Tensor, chunk: int) -> bool:
    """Compare one row of a tile (b,) with the same products in float64, `chunk` coordinates at a time: the canary."""
    step = max(1, chunk // len(row))
    for part in (slice(start, start + step) for start in range(0, len(packed), step)):
        exact = torch.mv(as_float64(packed[part]), as_float64(row))
        if not bool(((as_float64(scores[part]) - exact).abs() <= product_error(row, packed[part])).all()):
            return False
    return True
