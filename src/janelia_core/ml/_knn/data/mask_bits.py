"""A mask as kernels read it: a bit for each row of a block and each centre, packed in the order of a screen."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from janelia_core.ml._knn.data.mask import Mask
from janelia_core.ml._knn.data.mask_kernels import WORD, Bits, fill_run, fill_strided
from janelia_core.ml._knn.data.points import Points
from janelia_core.ml._knn.rows import parts
from janelia_core.ml._runtime.arrays import I64, U8
from janelia_core.ml._simd.dot_tiles import TILE

_LINE = 64 // np.dtype(WORD).itemsize  # words of a line of cache
_OCTET, _ROWS = 8, 64  # rows asked for at once, where centres of one are more than enough


class Order(NamedTuple):
    """Where a screen has its centres.

    Fields:
        n_places: Places of centres, a multiple of TILE; those without a centre may not be had.
        panel: Centres of a panel.
        n_panels: Centre q n_panels + p is number q of panel p; 0: centres stand as they come.
    """

    n_places: int
    panel: int = TILE
    n_panels: int = 0

    @property
    def unit(self) -> int:
        """Of how many centres in a row words, or eight bits of each, can be made by themselves."""
        return _OCTET * self.n_panels or TILE


@dataclass(frozen=True)
class BitMask:
    """A mask, as bits.

    Attributes:
        mask: The mask.
        most_ctrs: How many centres are asked for at once, where it is a function.
        cells: Of how many pairs answers are held then: of more only for one row, as many centres as an order wants.
    """

    mask: Mask
    most_ctrs: int
    cells: int

    def bits(self, rows: Tensor, n: int, ctrs: Points, order: Order) -> Bits:
        """Return words (n, at least n_places / TILE), the first of them those of rows (r,) by number, the others 0.

        Args:
            rows: See above.
            n: See above.
            ctrs: The centres that count, which may be some of the mask's.
            order: Where the screen has them.
        """
        mask, n_ctrs = replace(self.mask, ctrs=ctrs), len(ctrs)
        lines = -(-order.n_places // (TILE * _LINE)) | 1  # an odd number: rows begin in different sets of a cache
        words = np.zeros((n, lines * _LINE), WORD)
        table = mask.table()
        if table is not None:
            items, places = table.bytes_of(rows)
            _fill(items.numpy(), places.numpy(), 0, n_ctrs, order, words)
            return words
        width = min(n_ctrs, max(order.unit, self.cells // _ROWS // order.unit * order.unit))
        for part in parts(len(rows), max(1, self.cells // width)):
            some, own = rows[part], words[: len(rows)][part]
            tile = torch.empty(len(some), width, dtype=torch.bool, device="cpu")
            offsets = np.arange(len(some)) * width
            for start in range(0, n_ctrs, width):
                stop = min(start + width, n_ctrs)
                self._ask(mask, some, start, stop, tile)
                _fill(tile.view(torch.uint8).view(-1).numpy(), offsets, start, stop, order, own)
        return words

    def _ask(self, mask: Mask, rows: Tensor, start: int, stop: int, tile: Tensor) -> None:
        """Writes what rows may have of centres start .. stop - 1."""
        for first in range(start, stop, self.most_ctrs):
            last = min(first + self.most_ctrs, stop)
            tile[:, first - start : last - start] = mask.tile(rows, first, last)


def _fill(items: U8, offsets: I64, start: int, stop: int, order: Order, words: Bits) -> None:
    if order.n_panels:
        fill_strided(items, offsets, start, stop, order.panel // TILE, order.n_panels, words)
    else:
        fill_run(items, offsets, start, stop, words)
