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

from collections.abc import Sequence

import torch
from torch import Tensor

from janelia_core.ml._knn.arithmetic.bounds import OUTWARD
from janelia_core.ml._knn.contract import Candidates
from janelia_core.ml._knn.data.frame import Place
from janelia_core.ml._knn.data.mask import Mask
from janelia_core.ml._knn.data.points import Points, as_float64, float64_device
from janelia_core.ml._knn.metrics.metric import COSINE, DISTANCE, DOT
from janelia_core.ml._knn.metrics.registry import metric_named
from janelia_core.ml._knn.plan.demand import Products
from janelia_core.ml._knn.problem import MOST_CTRS
from janelia_core.ml._knn.rows import Rows, parts
from janelia_core.ml._knn.screens.portable.cost import rows_at_once
from janelia_core.ml._knn.screens.portable.largest import largest
from janelia_core.ml._knn.screens.portable.packing import PackedRows, pack_ctrs, pack_rows, product_error
from janelia_core.ml._knn.screens.portable.stored import Block, more_columns, packed_beside, serve_as_stored


class PackedCentres:
    """Centres packed block by block: once for all if they are kept, else whenever a block is asked for.

    Where they serve as they are stored, only what belongs to them is made.

    Attributes:
        as_stored: They do.
        blocks: The blocks of centres, start and stop, in ascending order.
        nbytes: What is held.
        stands: Anything is.
    """

    def __init__(self, ctrs: Points, place: Place, products: Products, metric: str, n_rows: int = 0) -> None:
        """n_rows: So many will be multiplied with a block after it is packed."""
        self.ctrs, self.products, self.form = ctrs, products, metric_named(metric).form
        self.as_stored = serve_as_stored(ctrs, place, products.operand_bits, n_rows)
        self.place = place._replace(shift=torch.zeros_like(place.shift)) if self.as_stored else place
        step, n_ctrs = products.ctr_block, len(ctrs)
        self.blocks = [(start, min(start + step, n_ctrs)) for start in range(0, n_ctrs, step)]
        self._kept = self._all_ready() if products.keep_packed else None
        self.nbytes = sum(block.nbytes for block in self._kept or () if block is not None)
        self.stands = self.nbytes > 0

    def block(self, start: int, stop: int) -> Block:
        """Return one of the blocks, or a part of one."""
        number, first = divmod(start, self.products.ctr_block)
        whole = None if self._kept is None else self._kept[number]
        kept = None if whole is None else whole[first : first + stop - start]
        if not self.as_stored:
            return Block(self._pack(start, stop) if kept is None else kept)
        values, chunk = self.ctrs.block(start, stop), self.ctrs.chunk
        more = self._more(values) if self._kept is None else kept
        if more is None:
            return Block(packed_beside(values, self.place, self.form != DISTANCE, chunk))
        return Block(values, more)

    def rows(self, values: Tensor) -> PackedRows:
        """Pack rows (r, d) for products with blocks."""
        packed = pack_rows(values, self.place, self.products.operand_bits, self.ctrs.chunk)
        if self.as_stored:
            packed.packed[:, : values.shape[1]] *= 2.0**-self.place.exponent
        return packed

    def _all_ready(self) -> Sequence[Tensor | None]:
        """Pack all blocks, as many together as a chunk holds: on an accelerator every operation costs a launch."""
        if self.as_stored:
            return [self._more(self.ctrs.block(*block)) for block in self.blocks]
        packed: list[Tensor] = []
        step = max(1, self.ctrs.chunk // max(1, self.ctrs.d) // self.products.ctr_block)
        for some in parts(len(self.blocks), step):
            blocks = self.blocks[some]
            packed += torch.split(self._pack(blocks[0][0], blocks[-1][1]), self.products.ctr_block)
        return packed

    def _more(self, values: Tensor) -> Tensor | None:
        return more_columns(values, self.place, self.form != DISTANCE, self.ctrs.chunk)

    def _pack(self, start: int, stop: int) -> Tensor:
        product = self.form != DISTANCE
        block, chunk = self.ctrs.block(start, stop), self.ctrs.chunk
        return pack_ctrs(block, self.place, self.products.operand_bits, product, chunk)


class PortableScreen:
    """Shortlists the `width` best upper bounds of every row, centre block by centre block.

    Args:
        centres: The centres.
        verify_exponent: Order values are handed on in these units, see `Frame`.
        mask: Which centres a row may be answered with; None: all.
        width: How many; 0: as many as the plan says.
    """

    def __init__(self, centres: PackedCentres, verify_exponent: int, mask: Mask | None = None, width: int = 0) -> None:
        self._centres, self._mask = centres, mask
        self._width = width or centres.products.width
        self._chunk = centres.ctrs.chunk
        self._exponent = centres.place.exponent - verify_exponent

    def candidates(self, rows: Rows) -> Candidates:
        """Shortlist the centres for rows of finite values."""
        packed = self._centres.rows(rows.values)
        best, indices, sound = self._best(packed, rows.numbers)
        empty = best == -torch.inf
        indices = self._centres.ctrs.row_numbers(indices.masked_fill_(empty, -1))
        excluded = self._order_value(packed, as_float64(best.amin(dim=1)))
        excluded.masked_fill_(empty.any(dim=1).to(excluded.device), torch.inf)
        if self._width == len(self._centres.ctrs):
            excluded = torch.full_like(excluded, torch.inf)
        return Candidates(indices, torch.where(sound, excluded, -torch.inf))

    def within(self, rows: Rows, radius: Tensor, start: int, stop: int) -> Tensor:
        """Return (r, stop - start) bool: False where centre start + j is proven farther than radius (r,)."""
        of = self._centres.rows(rows.values)
        least = self._least_score(of, radius).to(torch.float32)
        threshold = torch.nextafter(least, torch.full_like(least, -torch.inf))
        threshold = threshold.masked_fill_(threshold.isnan(), -torch.inf).to(of.packed.device)
        block = self._centres.block(start, stop)
        scores = block.product(of.packed)
        return (scores >= threshold[:, None]) | ~_is_sound(of.packed[0], block, scores[0], self._chunk)

    def blocks(self) -> list[tuple[int, int]]:
        """Return the blocks of centres, start and stop, that `within` takes."""
        step = MOST_CTRS if self._centres.ctrs.values.is_cpu else len(self._centres.ctrs)
        blocks = self._centres.blocks
        return [(part, min(part + step, stop)) for start, stop in blocks for part in range(start, stop, step)]

    def _order_value(self, rows: PackedRows, score: Tensor) -> Tensor:
        """Return a lower bound, in the units of verify, of the order values of centres that score at most this (r,)."""
        if self._centres.form == COSINE:
            return _down(1.0 - score, 2.0)
        value = -score if self._centres.form == DOT else rows.square_low - 2.0 * score
        return _down(value * 4.0**self._exponent)

    def _least_score(self, rows: PackedRows, radius: Tensor) -> Tensor:
        """Return a lower bound of the scores of centres whose order values are at most radius (r,)."""
        if self._centres.form == COSINE:
            return _down(1.0 - radius, 2.0)
        in_frame = radius * 4.0**-self._exponent
        in_frame = -_down(-in_frame)
        return -in_frame if self._centres.form == DOT else 0.5 * (rows.square_low - in_frame)

    def _best(self, rows: PackedRows, numbers: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the `width` largest U of each row, their centres (r, width), and whether (,) the product is sound."""
        device, r, step = rows.packed.device, len(rows.packed), self._step(len(rows.packed))
        longest = min(self._centres.products.ctr_block, len(self._centres.ctrs))
        tile = torch.empty(step * longest, dtype=torch.float32, device=device)
        best = torch.full((r, self._width), -torch.inf, dtype=torch.float32, device=device)
        indices = torch.full((r, self._width), -1, dtype=torch.int64, device=device)
        sound = torch.ones((), dtype=torch.bool, device=rows.square_low.device)
        for start, stop in self._centres.blocks:
            block = self._centres.block(start, stop)
            for part in parts(r, step):
                some = rows.packed[part]
                scores = block.product(some, tile[: len(some) * (stop - start)].view(len(some), stop - start))
                if start == 0 and part.start == 0:
                    sound = _is_sound(some[0], block, scores[0], self._chunk)
                if self._mask is not None:
                    scores.masked_fill_(~self._mask.tile(numbers[part], start, stop).to(device), -torch.inf)
                _keep(best[part], indices[part], *largest(scores, min(self._width, stop - start)), start)
        return best, indices, sound

    def _step(self, n_rows: int) -> int:
        """Return of how many rows scores are held at a time."""
        return rows_at_once(self._centres.products, n_rows) if self._centres.ctrs.values.is_cpu else max(1, n_rows)


def _keep(best: Tensor, indices: Tensor, values: Tensor, columns: Tensor, start: int) -> None:
    """Keep the largest of scores (r, w) and of the largest (r, v) of a block of centres, which begins at start."""
    if start == 0:
        best[:, : values.shape[1]], indices[:, : values.shape[1]] = values, columns
        return
    values, columns = torch.cat([best, values], dim=1), torch.cat([indices, columns.add_(start)], dim=1)
    top = values.topk(best.shape[1], dim=1, sorted=False)
    best.copy_(top.values)
    torch.gather(columns, 1, top.indices, out=indices)


def _down(value: Tensor, size: float = 0.0) -> Tensor:
    """Lower float64 values by more than a few roundings of them, or of numbers up to `size`."""
    return value - (OUTWARD - 1.0) * (value.abs() + size)


def _is_sound(row: Tensor, block: Block, scores: Tensor, chunk: int) -> Tensor:
    """Compare one row of a tile (b,) with the same products in float64, `chunk` coordinates at a time: the canary.

    Returns:
        A bool (,) of the device: the host need not wait for it.
    """
    step, sound = max(1, chunk // len(row)), torch.ones((), dtype=torch.bool, device=float64_device(row.device))
    for part in parts(len(scores), step):
        packed = block.columns(part)
        exact = torch.mv(as_float64(packed), as_float64(row))
        sound = sound & ((as_float64(scores[part]) - exact).abs() <= product_error(row, packed)).all()
    return sound
