"""Rows of the dense screen on their way past the tiles: their words, their constants and their lists."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from janelia_core.ml._knn.contract import Candidates
from janelia_core.ml._knn.metrics.metric import DISTANCE
from janelia_core.ml._knn.metrics.registry import metric_named
from janelia_core.ml._knn.screens.dense import scan as kernels
from janelia_core.ml._knn.screens.dense.centres import DenseCentres
from janelia_core.ml._knn.screens.dense.formats import INT8
from janelia_core.ml._knn.screens.dense.frame import Words
from janelia_core.ml._knn.screens.dense.row_bounds import bound_rows, prove
from janelia_core.ml._knn.screens.dense.tiles import ROWS, TILE, WORDS
from janelia_core.ml._simd.bits import LANES

# Centres whose scores set a row's first thresholds: so many groups of 2 k, of all centres at most one in so many.
_FEWEST, _MOST, _ONE_IN = 8, 16, 4
_MOST_SEEN = 1 << 13  # centres in these groups: their scores are kept


class RowBlock:
    """Some rows and what of the centres may matter to them.

    Args:
        centres: The centres.
        rows: (r, d) finite rows.
        k: How many centres are wanted.
        cap: How many a list may hold after it was compacted, k <= cap < capacity.
        capacity: How many it may hold.
        metric: "dot", "cosine" or a Euclidean one.
    """

    def __init__(self, centres: DenseCentres, rows: Tensor, k: int, cap: int, capacity: int, metric: str) -> None:
        self._centres, self._k, self._cap, self._form = centres, k, cap, metric_named(metric).form
        r = len(rows)
        n = -(-r // ROWS) * ROWS
        words, alpha = np.zeros((n, centres.n_words), np.uint32), np.zeros(n, np.float32)
        sums = centres.frame.round(rows, centres.format, 1, words, alpha)
        self._words, self._square, self._lost = words, np.empty(r), np.empty(r, np.bool_)
        self._rows = kernels.Shortlist(
            start=np.zeros(n, np.int32 if centres.format is INT8 else np.float32),
            alpha=alpha,
            lift=np.zeros(n, np.float32),
            reach=np.zeros(n, np.float32),
            threshold=np.full(n, np.finfo(np.float32).min),
            limit=np.full(n, -np.inf),
            exact=np.zeros(n, np.bool_),
            count=np.zeros(n, np.int64),
            full=np.full(n, min(capacity, k + kernels.BETWEEN + k // 4)),
            keys=np.empty((n, capacity), np.float32),
            ids=np.empty((n, capacity), np.int32),
            lows=np.empty(n * capacity + LANES, np.int32),
        )
        of = self._rows
        of.threshold[r:] = np.inf
        constants = alpha, of.start, of.lift, of.reach, of.exact, self._square, self._lost
        bound_rows(sums, centres.asked, words, *constants)

    def scan(self, panel: int, words: Words) -> None:
        """Look at the panels of centres in words, the first of which is number `panel`."""
        centres, rows, k = self._centres, self._rows, self._k
        n_tiles, as_type = len(words) * centres.panel // TILE, WORDS[centres.format.name]
        ctrs, points = (array.reshape(-1).view(as_type) for array in (words, self._words))
        given = ctrs, centres.parameters(panel, len(words))
        sample = self._sample(n_tiles) if panel == 0 else 0
        tiles = panel * centres.panel, n_tiles, sample, -(-2 * k // TILE) * TILE
        kernels.scan(*given, *tiles, points, centres.n_words, k, self._cap, rows, centres.errs)

    def _sample(self, n_tiles: int) -> int:
        """Return how many of n_tiles tiles are to set the first thresholds, if any."""
        tiles = -(-2 * self._k // TILE)  # of a group
        most = min(self._centres.n_ctrs // _ONE_IN // TILE, n_tiles, _MOST_SEEN // TILE) // tiles
        return 0 if most < _FEWEST else tiles * min(most, _MOST)

    def finish(self) -> Candidates:
        """The lists and what they prove."""
        width, r, rows, centres = (
            kernels.finish(self._k, self._cap, self._rows),
            len(self._square),
            self._rows,
            self._centres,
        )
        distances = self._form == DISTANCE
        listed, excluded, at_least = np.empty((r, width), np.int64), np.empty(r), np.empty((r, width * distances))
        prove(
            rows.count, rows.keys, rows.ids, rows.limit, rows.exact, self._square, self._lost,
            centres.frame.scale, self._form, centres.panel, centres.stride,
            listed, excluded, at_least,
        )  # fmt: skip
        proven = torch.from_numpy(at_least) if distances else None
        return Candidates(torch.from_numpy(listed), torch.from_numpy(excluded), proven)
