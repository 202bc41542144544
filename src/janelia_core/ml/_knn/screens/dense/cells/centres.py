"""Centres in cells: packed in tiles around the middle of their cell, with balls around tiles and cells.

Names and equations are those of `dense.cells.screen`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from janelia_core.ml._knn.arithmetic.bounds import TINY32 as TINY
from janelia_core.ml._knn.data.points import Points
from janelia_core.ml._knn.screens.dense.cells.balls import cell_middle, tile_balls
from janelia_core.ml._knn.screens.dense.cells.grouping import Grouping
from janelia_core.ml._knn.screens.dense.centres import EPILOGUE
from janelia_core.ml._knn.screens.dense.ctr_bounds import CtrConstants, bound_ctrs
from janelia_core.ml._knn.screens.dense.formats import INT8, Format
from janelia_core.ml._knn.screens.dense.frame import Float32s, Float64s, Words
from janelia_core.ml._knn.screens.dense.rounding import SUMS, Places, Rounding, Sums, round_points
from janelia_core.ml._knn.screens.dense.row_bounds import UP, RowConstants
from janelia_core.ml._runtime.arrays import I64
from janelia_core.ml._runtime.workers import Workers
from janelia_core.ml._simd.dot_tiles import PARAMETERS, TILE

_TOLD = 4  # cells that tell what most centres lose
_USUAL = 0.75  # of them


class Packing(NamedTuple):
    """Packed points, in places of TILE.

    Fields:
        words: (places, n_words) uint32.
        errs: (places, 2) float32, (e_j, g_j).
        parameters: (places / TILE, PARAMETERS, TILE) float32.
    """

    words: Words
    errs: Float32s
    parameters: Float32s

    @classmethod
    def empty(cls, n_tiles: int, n_words: int) -> Packing:
        """Return room for the points of some tiles."""
        places = n_tiles * TILE
        parameters = np.empty((n_tiles, PARAMETERS, TILE), np.float32)
        return cls(np.zeros((places, n_words), np.uint32), np.empty((places, 2), np.float32), parameters)

    def part(self, first: int, last: int) -> Packing:
        """Return some of its tiles."""
        places = slice(first * TILE, last * TILE)
        return Packing(self.words[places], self.errs[places], self.parameters[first:last])

    @property
    def nbytes(self) -> int:
        """What the arrays take."""
        return self.words.nbytes + self.errs.nbytes + self.parameters.nbytes


class CellCentres:
    """Packed centres in cells. Nothing of it is written once it stands.

    Args:
        ctrs: Finite centres of moderate magnitude.
        grouping: Their order.
        chosen: Format of the coordinates.
        workers: Threads that share the packing.
        largest: No magnitude of a coordinate is above it.

    Attributes:
        tiles: The packed centres; those of a cell begin a tile.
        heads: Packed middles of tiles; those of a cell begin a tile, too.
        radii: (t,) float64; R_t: no centre of the tile is farther from its packed middle.
        first_tiles: (g + 1,) int64; the first tile of each cell.
        first_heads: (g + 1,) int64; likewise of `heads`.
        shifts: (g, d) float64; the middle m_g of each cell, times scale.
        lengths: (g,) float64; at least their norms.
        reach: (g,) float64; no centre of the cell is farther from its middle.
        numbers: (places,) int64; the position of each packed centre; -1: there is none.
        scale: A power of two.
        asked: What centres ask of rows.
    """

    def __init__(self, ctrs: Points, grouping: Grouping, chosen: Format, workers: Workers, largest: float) -> None:
        self.ctrs, self.format, self.d, self.n_words = ctrs, chosen, ctrs.d, chosen.n_words(ctrs.d)
        self._grouping = grouping
        first = grouping.first_tiles
        self.first_tiles = first.numpy()
        count = (first.diff() + TILE - 1) // TILE
        self.first_heads = torch.cat([count.new_zeros(1), count.cumsum(0)]).numpy()
        n_cells, n_tiles = len(grouping.middles), int(first[-1])
        self.tiles = Packing.empty(n_tiles, self.n_words)
        self.heads = Packing.empty(int(self.first_heads[-1]), self.n_words)
        self.radii, self.numbers = np.zeros(n_tiles), np.full(n_tiles * TILE, -1, np.int64)
        self.shifts, self.lengths, self.reach = np.empty((n_cells, ctrs.d)), np.empty(n_cells), np.empty(n_cells)
        self.scale = 2.0 ** (20 - int(np.frexp(2.0 * largest * np.sqrt(self.d))[1]))  # differences are below 2^20
        roundings = EPILOGUE if chosen is INT8 else self.d + EPILOGUE
        sum_unit = max(chosen.sum_unit, 2.0**-24)
        self._gamma, self._tiny = roundings * sum_unit / (1.0 - roundings * sum_unit), (roundings + 4) * TINY
        told = workers.each(self._losses, range(0, n_cells, -(-n_cells // _TOLD))) if chosen is INT8 else []
        unit = float(np.quantile(np.concatenate(told), _USUAL)) if told else chosen.unit
        self._unit = min(max(unit, 2.0**-20), chosen.unit)
        workers.each(self._pack, range(n_cells))
        self.asked = RowConstants(
            d=self.d,
            relative_error=0.0,
            whole=False,
            largest=0.0,
            unit=self._unit,
            lacking=0.0,
            widest=float(max(self.tiles.parameters[:, 0].max(), self.heads.parameters[:, 0].max())),
            int8=chosen is INT8,
        )

    @property
    def nbytes(self) -> int:
        """What is held."""
        held = (self.radii, self.numbers, self.shifts, self.lengths, self.reach, self.first_tiles, self.first_heads)
        return self.tiles.nbytes + self.heads.nbytes + sum(array.nbytes for array in held)

    def _values(self, g: int) -> Float32s | Float64s:
        """The centres of a cell, as `round_points` reads them."""
        values = self.ctrs.take(self.ctrs.row_numbers(self._grouping.members(g)))
        values = values.contiguous() if values.dtype in (torch.float32, torch.float64) else values.double()
        return values.numpy()

    def _placed(self, g: int) -> Float32s | Float64s:
        """Notes who is where, and the middle of a cell; returns its centres."""
        members, first = self._grouping.members(g), int(self.first_tiles[g]) * TILE
        self.numbers[first : first + len(members)] = members.numpy()
        values = self._values(g)
        cell_middle(values, self.scale, self.shifts[g])
        self.lengths[g] = np.sqrt(np.square(self.shifts[g]).sum()) * UP
        return values

    def _rounding(self, g: int) -> Rounding:
        return Rounding(
            shift=self.shifts[g],
            length=float(self.lengths[g]),
            scale=self.scale,
            grid=False,
            bits=32 // self.format.per_word,
            lanes=TILE,
            flip=0x80808080 if self.format is INT8 else 0,
        )

    def _rounded(self, values: Float32s | Float64s, g: int, words: Words) -> tuple[Float32s, Sums]:
        steps, sums = np.zeros(len(words), np.float32), np.empty(len(words), SUMS)
        round_points(values, Places(0, 1, 0, len(words), 1), self._rounding(g), words, steps, sums)
        return steps, sums

    def _losses(self, g: int) -> Float64s:
        """What the centres of a cell lose, relative to their norms."""
        values, n_tiles = self._placed(g), int(self.first_tiles[g + 1] - self.first_tiles[g])
        _, sums = self._rounded(values, g, np.empty((n_tiles * TILE, self.n_words), np.uint32))
        sums = sums[: len(values)]
        losses: Float64s = np.sqrt(sums["loss"] / np.maximum(sums["square"], TINY))
        return losses

    def _pack(self, g: int) -> None:
        """Packs the centres of a cell, and the middles of its tiles."""
        values, (first, last) = self._placed(g), self.first_tiles[g : g + 2]
        middles = np.empty((last - first, self.d))
        tile_balls(values, self.scale, middles, self.radii[first:last])
        largest = self._bounded(values, g, self.tiles.part(first, last))
        self._bounded(middles, g, self.heads.part(*self.first_heads[g : g + 2]))
        self.reach[g] = largest

    def _bounded(self, values: Float32s | Float64s, g: int, packing: Packing) -> float:
        """Writes words, and e_j, h_j and g_j; returns the largest norm, not rounded down."""
        steps, sums = self._rounded(values, g, packing.words)
        of = CtrConstants(
            d=self.d,
            relative_error=0.0,
            unit=self._unit,
            gamma=self._gamma,
            tiny=self._tiny,
            product=False,
            exact=False,
        )
        return float(bound_ctrs(sums, steps, of, packing.parameters, packing.errs)[0])

    def positions(self, places: Tensor) -> Tensor:
        """Translate places among packed centres to positions; -1 stays."""
        numbers: I64 = self.numbers
        return torch.where(places < 0, places, torch.from_numpy(numbers)[places.clamp(min=0)])
