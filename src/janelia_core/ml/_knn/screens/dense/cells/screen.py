"""Centres in cells: whole cells, and tiles in them, are left out that a ball around them proves useless.

Real data lies in clusters, or at least some of it is far from the rest: then most centres are farther from a row than
the k nearest, and the middle and the radius of a few of them say so at once. Cells hold some hundreds of near centres,
their tiles TILE of these, nearer still. Rows are taken in the order of the cells, so that neighbours need the same.

Scores are those of `dense.screen`, but in each cell with the cell's middle m_g as the shift: what int8 loses is in
proportion to the size of the cell and the row's distance from it, not to the extent of all data.

Derivation of the bound
-----------------------
In the frame of a cell, x' = (x - m_g) scale, c' likewise, let P be the key and b the lower bound of s = <x', c'> -
|c'|^2 / 2, b <= s <= P, of (3) in `dense.screen`; D = |x' - c'|^2 = |x'|^2 - 2 s. With S- <= |x'|^2 <= S+, measured,

    b - S+ / 2  <=  -D / 2  <=  P - S- / 2,                                                             (4)

both rounded outwards to float32: these are what lists hold, and as no frame occurs in D, what different cells tell
compares. T is the k-th largest lower bound met so far; kth = sqrt(-2 T): k centres are at most so far. In a cell a key
below T + S- / 2, rounded down, need not be looked at.

Tiles. Let u be the middle of a tile, as packed, and R_t >= |c' - u'| for all its centres. The key P_u of the middle,
as (4), proves |x' - u'|^2 >= S- - 2 P_u. If that is more than (R_t + kth)^2, each centre of the tile is farther than
|x' - u'| - R_t > kth, which is -D / 2 < T.

Cells. Let R_g >= |c'| for all centres of a cell. |x - m_g| for all rows and cells comes from a matrix product in
float32 of y = fl(x - z) and w = fl(m_g - z), with z a common point: their roundings, to float64 and to float32, shift
either by at most 2^-23 of its norm. |y|^2 + |w|^2 - 2 <y, w>, with norms in float64 of what was rounded to float32, has
an error of at most (d + 8) 2^-24 (|y| + |w|)^2 in any order (Higham, 3.1; the sum of |y_q w_q| is at most |y| |w|, and
rounding to float32 moved each square by at most 2^-22 of itself). Where coordinates, products or sums of these become
subnormal, or are flushed, 4 (d + 2) 2^-125 more outweighs that, of a square and of a distance. The ceiling
-(max(0, |x'| - R_g))^2 / 2 of -D / 2 in that cell follows, rounded up. A cell whose ceiling is below T is left out.

Whoever leaves something out raises `limit` to T, so that it bounds -D / 2 of all that is not listed, and
D >= -2 limit.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from janelia_core.ml._knn.contract import Candidates
from janelia_core.ml._knn.metrics.metric import DISTANCE
from janelia_core.ml._knn.rows import Rows, parts
from janelia_core.ml._knn.screens.dense.cells.ceilings import Ceilings
from janelia_core.ml._knn.screens.dense.cells.centres import CellCentres, Packing
from janelia_core.ml._knn.screens.dense.cells.scan import Cells, Local, scan
from janelia_core.ml._knn.screens.dense.formats import INT8
from janelia_core.ml._knn.screens.dense.lists import Lists, empty_lists, finish
from janelia_core.ml._knn.screens.dense.rounding import SUMS
from janelia_core.ml._knn.screens.dense.row_bounds import KeyTerms, prove
from janelia_core.ml._knn.screens.dense.scan import Tiles
from janelia_core.ml._knn.screens.dense.screen import joined
from janelia_core.ml._runtime.arrays import B8, Reals
from janelia_core.ml._simd.dot_tiles import ROWS, WORDS

MOST_ROWS, ROW_BYTES = 512, 1 << 22
"""Rows that visit cells together, of so many bytes of values and of places in cells."""


class CellScreen:
    """Shortlists by cells; thread safe, scratch is a call's own.

    Args:
        centres: The centres.
        k: How many are wanted, 1 <= k <= n_ctrs.

    Memory:
        Of MOST_ROWS rows their values, words and ceilings; per row 12 bytes for each of `capacity` entries of its list.
    """

    def __init__(self, centres: CellCentres, k: int) -> None:
        self.centres, self.k = centres, k
        self.cap = k + centres.format.slack + k // 2
        self.capacity = self.cap + 16 + k // 2
        word = WORDS[centres.format.name]
        self._cells = Cells(
            tiles=_tiles(centres.tiles, word),
            heads=_tiles(centres.heads, word),
            first_tiles=centres.first_tiles,
            first_heads=centres.first_heads,
            radii=centres.radii,
            shifts=centres.shifts,
            lengths=centres.lengths,
            scale=centres.scale,
            bits=32 // centres.format.per_word,
            asked=centres.asked,
        )
        self._ceilings = Ceilings(centres)

    def candidates(self, rows: Rows) -> Candidates:
        """Shortlist the centres for a block of finite rows."""
        centres = self.centres
        step = max(ROWS, min(MOST_ROWS, ROW_BYTES // (8 * (centres.d + len(centres.reach)))))
        lists = [self._scanned(rows.values[part]) for part in parts(len(rows.values), step)]
        found = lists[0] if len(lists) == 1 else joined(lists)
        return found._replace(indices=centres.ctrs.row_numbers(centres.positions(found.indices)))

    def _scanned(self, rows: Tensor) -> Candidates:
        rows = rows.contiguous() if rows.dtype in (torch.float32, torch.float64) else rows.double()
        ceilings, visits = self._ceilings.of(rows)
        n, r = -(-len(rows) // ROWS) * ROWS, len(rows)
        lists, lost = empty_lists(n, self.k, self.cap, self.capacity), np.zeros(r, np.bool_)
        scan(self._cells, rows.numpy(), visits, ceilings, self._local(rows.numpy(), n), lists, lost)
        return self._proven(lists, lost)

    def _local(self, x: Reals, n: int) -> Local:
        centres = self.centres
        words = np.zeros((n, centres.n_words), np.uint32)
        terms = KeyTerms(
            words=words.view(WORDS[centres.format.name]),
            start=np.zeros(n, np.int32 if centres.format is INT8 else np.float32),
            alpha=np.zeros(n, np.float32),
            lift=np.zeros(n, np.float32),
            reach=np.zeros(n, np.float32),
        )
        flags = np.zeros((2, n), np.bool_)
        return Local(
            values=np.empty((n, x.shape[1]), x.dtype),
            words=words,
            terms=terms,
            sums=np.empty(n, SUMS),
            which=np.empty(n, np.int64),
            least=np.empty(n, np.float32),
            square=np.empty(n),
            upper=np.empty(n),
            exact=flags[0],
            lost=flags[1],
            needs=np.empty(n // ROWS, np.uint64),
            done=np.empty(n // ROWS, np.uint64),
        )

    def _proven(self, lists: Lists, lost: B8) -> Candidates:
        width, r = finish(lists), len(lost)
        listed, excluded, at_least = np.empty((r, width), np.int64), np.empty(r), np.empty((r, width))
        prove(lists, np.zeros(r), lost, self.centres.scale, DISTANCE, 0, 0, listed, excluded, at_least)
        return Candidates(torch.from_numpy(listed), torch.from_numpy(excluded), torch.from_numpy(at_least))


def _tiles(packing: Packing, word: type) -> Tiles:
    return Tiles(packing.words.reshape(-1).view(word), packing.parameters.reshape(-1), 0, packing.errs)
