"""Rows of the dense screen on their way past the tiles: their words, their constants and their lists."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from janelia_core.ml._knn.contract import Candidates
from janelia_core.ml._knn.data.mask_kernels import Bits
from janelia_core.ml._knn.metrics.metric import DISTANCE
from janelia_core.ml._knn.screens.dense.centres import DenseCentres
from janelia_core.ml._knn.screens.dense.formats import INT8
from janelia_core.ml._knn.screens.dense.frame import Words
from janelia_core.ml._knn.screens.dense.lists import empty_lists, finish
from janelia_core.ml._knn.screens.dense.rounding import SUMS, Places, round_points
from janelia_core.ml._knn.screens.dense.row_bounds import KeyTerms, bound_rows, prove
from janelia_core.ml._knn.screens.dense.scan import Tiles, scan
from janelia_core.ml._runtime.arrays import B8, F64
from janelia_core.ml._simd.dot_tiles import ROWS, TILE, WORDS

# Centres whose scores set a row's first thresholds: so many groups of 2 k, of all centres at most one in so many.
_FEWEST, _MOST, _ONE_IN = 8, 16, 4
_MOST_SEEN = 1 << 13  # centres in these groups: their scores are kept


class PackedRows(NamedTuple):
    """Rows as keys want them, and what was measured of them.

    Fields:
        terms: Of n rows, r rounded up to a multiple of ROWS.
        square: (r,) float64, |x|^2 rounded down, in the frame.
        lost: (r,) bool, rows beyond what the format holds.
    """

    terms: KeyTerms
    square: F64
    lost: B8


def pack_rows(centres: DenseCentres, rows: Tensor, exact: B8) -> PackedRows:
    """Return rows (r, d) in the format of the centres; exact (n,) is written: keys are scores."""
    r, n = len(rows), len(exact)
    words, alpha = np.zeros((n, centres.n_words), np.uint32), np.zeros(n, np.float32)
    sums = np.empty(r, SUMS)
    places = Places(first=0, panels=1, across=0, panel=r, along=1)
    round_points(centres.frame.ready(rows), places, centres.row_rounding, words, alpha, sums)
    terms = KeyTerms(
        words=words.view(WORDS[centres.format.name]),
        start=np.zeros(n, np.int32 if centres.format is INT8 else np.float32),
        alpha=alpha,
        lift=np.zeros(n, np.float32),
        reach=np.zeros(n, np.float32),
    )
    packed = PackedRows(terms, np.empty(r), np.empty(r, np.bool_))
    bound_rows(sums, centres.asked, terms, exact, packed.square, packed.lost)
    return packed


class RowBlock:
    """Some rows and what of the centres may matter to them.

    Args:
        centres: The centres.
        rows: (r, d) finite rows.
        k: How many centres are wanted.
        cap: How many a list may hold after it was compacted, k <= cap < capacity.
        capacity: How many it may hold.
        allowed: Words of the centres that rows may have, in packed order; None: all.
    """

    def __init__(
        self,
        centres: DenseCentres,
        rows: Tensor,
        k: int,
        cap: int,
        capacity: int,
        allowed: Bits | None = None,
    ) -> None:
        self._centres, self._k, r = centres, k, len(rows)
        self._allowed = allowed
        n = -(-r // ROWS) * ROWS
        self._lists = empty_lists(n, k, cap, capacity)
        self._lists.threshold[r:] = np.inf
        self._rows, self._square, self._lost = pack_rows(centres, rows, self._lists.exact)

    def scan(self, panel: int, words: Words, first: bool) -> None:
        """Look at the panels of centres in words, from number `panel` on; first: these rows have seen none yet."""
        centres = self._centres
        ctrs, parameters = words.reshape(-1).view(WORDS[centres.format.name]), centres.parameters(panel, len(words))
        tiles = Tiles(ctrs, parameters, panel * centres.panel, centres.errs)
        sample = self._sample(len(words) * centres.panel // TILE) if first else 0
        scan(tiles, self._rows, self._lists, self._allowed, sample, -(-2 * self._k // TILE) * TILE)

    def _sample(self, n_tiles: int) -> int:
        """Return how many of n_tiles tiles are to set the first thresholds, if any."""
        tiles = -(-2 * self._k // TILE)  # of a group
        most = min(self._centres.n_ctrs // _ONE_IN // TILE, n_tiles, _MOST_SEEN // TILE) // tiles
        return 0 if most < _FEWEST else tiles * min(most, _MOST)

    def finish(self) -> Candidates:
        """The lists and what they prove."""
        width, r, centres = max(self._k, finish(self._lists)), len(self._square), self._centres
        distances = centres.form == DISTANCE
        listed, excluded, at_least = np.empty((r, width), np.int64), np.empty(r), np.empty((r, width * distances))
        place = centres.frame.scale, centres.form, centres.panel, centres.stride
        prove(self._lists, self._square, self._lost, *place, listed, excluded, at_least)
        proven = torch.from_numpy(at_least) if distances else None
        return Candidates(torch.from_numpy(listed), torch.from_numpy(excluded), proven)
