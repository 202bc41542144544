"""Points in cells of near ones, and near ones within them side by side: an order for centres and for rows.

All is done in a few leading directions of a sample. The order decides how much is skipped, and nothing else: what is
proven of cells and tiles is measured when they stand.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from janelia_core.ml._knn.data.leading import in_order
from janelia_core.ml._knn.data.points import Points, as_float64
from janelia_core.ml._knn.screens.dense.cells.cost import DIRECTIONS, cells_of
from janelia_core.ml._runtime.workers import Workers
from janelia_core.ml._simd.dot_tiles import TILE

_SAMPLE = 1024  # points that tell the leading directions
_POWERS = 2  # of the iteration that finds them
_SAMPLED, _ROUNDS = 32, 3  # of k-means: points of each cell, and how often its middle moves
_SEEDED = 8  # of them, among which the first middles are picked
_SHARE = 2  # of a chunk, for coordinates taken at a time


class Sketch(NamedTuple):
    """Leading directions of centres.

    Attributes:
        middle: (d,) float64, a mean.
        directions: (d, p) float64.
    """

    middle: Tensor
    directions: Tensor

    def of(self, points: Points, workers: Workers) -> Tensor:
        """Return points in these directions, (n, p) float32."""
        y = torch.empty(len(points), self.directions.shape[1], dtype=torch.float32, device="cpu")
        directions, level = self.directions.float(), (self.middle @ self.directions).neg().float()

        def fill(part: tuple[int, int]) -> None:
            block = points.block(*part)
            if block.dtype == torch.float32:
                torch.addmm(level, block, directions, out=y[part[0] : part[1]])
            else:
                y[part[0] : part[1]] = (as_float64(block) - self.middle) @ self.directions

        workers.each(fill, points.chunks(_SHARE))
        return y


def sketch_of(ctrs: Points) -> Sketch:
    """Return the leading directions of finite centres of moderate magnitude."""
    most = max(1, min(_SAMPLE, ctrs.chunk // _SHARE // ctrs.d))
    sample = as_float64(ctrs.block(0, len(ctrs), -(-len(ctrs) // most)))
    middle = sample.mean(0)
    if ctrs.d <= DIRECTIONS:
        return Sketch(middle, torch.eye(ctrs.d, dtype=torch.float64, device="cpu"))
    sample = sample - middle
    source = torch.Generator(device="cpu").manual_seed(0)
    basis = torch.randn(ctrs.d, DIRECTIONS, generator=source, dtype=torch.float64, device="cpu")
    for _ in range(_POWERS):
        basis = torch.linalg.qr(sample.T @ (sample @ basis)).Q
    inner = sample @ basis
    return Sketch(middle, basis @ in_order(inner))


class Grouping(NamedTuple):
    """Centres in order.

    Attributes:
        sketch: Of the centres.
        middles: (g, p) float32; of cells, in the sketch.
        order: (n,) int64 positions of centres, cell by cell; each TILE of a cell make a tile.
        begins: (g + 1,) int64; where cells begin in `order`.
        tiles: (t, p) float32; middles of tiles, in the sketch.
    """

    sketch: Sketch
    middles: Tensor
    order: Tensor
    begins: Tensor
    tiles: Tensor

    @property
    def nbytes(self) -> int:
        """What is held."""
        return sum(one.nbytes for one in (self.middles, self.order, self.begins, self.tiles, self.sketch.directions))

    @property
    def first_tiles(self) -> Tensor:
        """(g + 1,) int64; the first tile of each cell."""
        return _first_tiles(self.begins)

    def members(self, g: int) -> Tensor:
        """Return the positions of the centres of a cell."""
        return self.order[int(self.begins[g]) : int(self.begins[g + 1])]

    def centres_of(self, tiles: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return the cells (m,) of tiles (m,), and the positions of the centres of each."""
        first = self.first_tiles
        cells = torch.searchsorted(first, tiles, right=True) - 1
        places = ((tiles - first[cells]) * TILE).tolist()
        return cells, [self.members(g)[place : place + TILE] for g, place in zip(cells.tolist(), places, strict=True)]

    def order_of(self, x: Points, workers: Workers) -> Tensor:
        """Return the positions of rows (n,) int64, those of neighbouring tiles one after the other."""
        y = self.sketch.of(x, workers)
        cell = _nearest(y, self.middles, workers)
        near, first = torch.empty_like(cell), self.first_tiles.tolist()
        by_cell, count = _sorted(cell), cell.bincount(minlength=len(self.middles))
        ends = count.cumsum(0).tolist()

        def place(g: int) -> None:
            rows = by_cell[ends[g] - int(count[g]) : ends[g]]
            if len(rows):
                near[rows] = first[g] + _nearest_of(y[rows], self.tiles[first[g] : first[g + 1]])

        workers.each(place, range(len(ends)))
        return _sorted(near)


def group(ctrs: Points, workers: Workers) -> Grouping:
    """Group finite centres of moderate magnitude."""
    from janelia_core.ml._knn.screens.dense.cells.halving import halve

    sketch = workers.once(lambda: sketch_of(ctrs))
    y = sketch.of(ctrs, workers)
    wanted = cells_of(len(ctrs), ctrs.d)
    middles = workers.once(lambda: _middles(y, wanted))
    cell = _nearest(y, middles, workers)
    count = cell.bincount(minlength=wanted)
    middles, order = middles[count > 0], _sorted(cell)
    begins = torch.cat([count.new_zeros(1), count[count > 0].cumsum(0)])
    ends, ids = begins.tolist(), order.numpy()
    workers.each(lambda g: halve(y.numpy(), ids, ends[g], ends[g + 1], TILE), range(len(middles)))
    return Grouping(sketch, middles, order, begins, workers.once(lambda: _tile_middles(y, order, begins)))


def _middles(y: Tensor, wanted: int) -> Tensor:
    """Return middles of cells: k-means of a sample."""
    from janelia_core.ml._knn.screens.dense.cells.seeding import seed

    source = torch.Generator(device="cpu").manual_seed(0)
    sample = y[torch.randperm(len(y), generator=source, device="cpu")[: wanted * _SAMPLED]]
    some, picked = sample[: wanted * _SEEDED], torch.empty(wanted, dtype=torch.int64, device="cpu")
    drawn = torch.rand(wanted, generator=source, dtype=torch.float64, device="cpu")
    seed(some.numpy(), drawn.numpy(), picked.numpy())
    middles = some[picked]
    for _ in range(_ROUNDS):
        cell = _nearest_of(sample, middles)
        count = cell.bincount(minlength=wanted)[:, None]
        total = torch.zeros_like(middles).index_add_(0, cell, sample)
        middles = torch.where(count > 0, total / count.clamp(min=1), middles)
    return middles


def _nearest_of(y: Tensor, middles: Tensor) -> Tensor:
    half = middles.square().sum(1).div_(-2.0)
    cell = torch.empty(len(y), dtype=torch.int64, device="cpu")
    step = max(1, (1 << 20) // len(middles))
    for start in range(0, len(y), step):
        part = slice(start, start + step)
        cell[part] = torch.addmm(half, y[part], middles.T).argmax(1)
    return cell


def _nearest(y: Tensor, middles: Tensor, workers: Workers) -> Tensor:
    step = 1 << 13
    parts = [y[start : start + step] for start in range(0, len(y), step)]
    return torch.cat(workers.each(lambda part: _nearest_of(part, middles), parts))


def _sorted(numbers: Tensor) -> Tensor:
    """Return where numbers stand, the least first; NumPy sorts short integers by their digits."""
    few = int(numbers.max()) < 1 << 16
    return torch.from_numpy(numbers.numpy().astype(np.uint16 if few else np.int64).argsort(kind="stable"))


def _first_tiles(begins: Tensor) -> Tensor:
    tiles = (begins.diff() + TILE - 1) // TILE
    return torch.cat([tiles.new_zeros(1), tiles.cumsum(0)])


def _tile_middles(y: Tensor, order: Tensor, begins: Tensor) -> Tensor:
    first, size = _first_tiles(begins), begins.diff()
    cell = torch.repeat_interleave(torch.arange(len(size), device="cpu"), size)
    tile = first[cell] + (torch.arange(len(order), device="cpu") - begins[cell]) // TILE
    total = torch.zeros(int(first[-1]), y.shape[1], dtype=torch.float32, device="cpu").index_add_(0, tile, y[order])
    return total / tile.bincount()[:, None]
