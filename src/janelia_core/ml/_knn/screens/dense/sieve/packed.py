"""Points in bytes, in tiles or each in one piece; with what their keys need.

Names and equations are those of `dense.screen`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from torch import Tensor

from janelia_core.ml._knn.arithmetic.bounds import TINY32 as TINY
from janelia_core.ml._knn.data.points import Points
from janelia_core.ml._knn.screens.dense.centres import EPILOGUE
from janelia_core.ml._knn.screens.dense.ctr_bounds import CtrConstants, bound_ctrs
from janelia_core.ml._knn.screens.dense.formats import INT8
from janelia_core.ml._knn.screens.dense.frame import Float32s, Known, Words, find_frame
from janelia_core.ml._knn.screens.dense.rounding import SUMS, Places, Sums, round_points
from janelia_core.ml._knn.screens.dense.row_bounds import KeyTerms, RowConstants, bound_rows
from janelia_core.ml._runtime.arrays import B8, F64
from janelia_core.ml._runtime.workers import Workers
from janelia_core.ml._simd.bits import LANES
from janelia_core.ml._simd.dot_tiles import PARAMETERS, ROWS, TILE, WORDS

_SAMPLE, _USUAL = 256, 0.75  # points that tell what is usually lost, and the share of them that loses less
_TOGETHER = 64  # tiles that are bounded by one worker
_CHUNKED = 4  # coordinates of a chunk that take as much as the temporaries of a packed point


class PackedRows(NamedTuple):
    """Rows as keys want them.

    Fields:
        terms: Of n rows, r rounded up to a multiple of ROWS.
        square: (r,) float64, |x|^2 rounded down, in the frame.
        upper: (r,) float64, rounded up.
        lost: (r,) bool, rows beyond what bytes hold.
    """

    terms: KeyTerms
    square: F64
    upper: F64
    lost: B8


class PackedPoints:
    """Packed points. Nothing of it is written once it stands.

    Args:
        points: Finite points.
        order: (n,) int64; the position of the point in each place.
        tiled: In tiles, as `score_tile` wants them; else each in one piece of whole vectors, for `byte_product`.
        workers: Threads that share the packing.
        known: What is known of the points, if anything.

    Attributes:
        words: (places, width) uint32, places a multiple of TILE.
        errs: (places, 2) float32, (e_j, g_j).
        parameters: (places / TILE, PARAMETERS, TILE) float32.
        scale: Of the frame, a power of two.
    """

    def __init__(
        self, points: Points, order: Tensor, tiled: bool, workers: Workers, known: Known | None = None
    ) -> None:
        self._points, self._order, n, d = points, order, len(points), points.d
        self._frame = find_frame(points, INT8, 0.0, workers, known=known)
        self._rounding = self._frame.rounding(INT8, TILE)._replace(lanes=TILE if tiled else 1)
        n_words, n_tiles = INT8.n_words(d), -(-n // TILE)
        self.width, self.scale = n_words if tiled else -(-n_words // LANES) * LANES, self._frame.scale
        self.words: Words = np.zeros((n_tiles * TILE, self.width), np.uint32)
        self.errs: Float32s = np.empty((n_tiles * TILE, 2), np.float32)
        self.parameters: Float32s = np.empty((n_tiles, PARAMETERS, TILE), np.float32)
        gamma = EPILOGUE * 2.0**-24 / (1.0 - EPILOGUE * 2.0**-24)
        self._unit = workers.once(self._usual_loss)
        of = CtrConstants(
            d=d,
            relative_error=0.0,
            unit=self._unit,
            gamma=gamma,
            tiny=(EPILOGUE + 4) * TINY,
            product=False,
            exact=self._frame.may_be_exact,
        )
        steps, sums = np.zeros(n_tiles * TILE, np.float32), np.empty(n_tiles * TILE, SUMS)
        if tiled:
            self._in_order(steps, sums, workers)
        else:
            self._as_they_come(steps, sums, workers)

        def bound(first: int) -> tuple[float, bool, float]:
            own = slice(first, first + _TOGETHER)
            places = slice(first * TILE, own.stop * TILE)
            return bound_ctrs(sums[places], steps[places], of, self.parameters[own], self.errs[places])

        bounded = workers.each(bound, range(0, n_tiles, _TOGETHER))
        self._asked = RowConstants(
            d=d,
            relative_error=0.0,
            whole=self._frame.may_be_exact and all(whole for _, whole, _ in bounded),
            largest=max(largest for largest, _, _ in bounded),
            unit=self._unit,
            lacking=max(lacking for _, _, lacking in bounded),
            widest=float(self.parameters[:, 0].max()),
            int8=True,
        )

    @property
    def nbytes(self) -> int:
        """What is held."""
        return self.words.nbytes + self.errs.nbytes + self.parameters.nbytes

    def _in_order(self, steps: Float32s, sums: Sums, workers: Workers) -> None:
        """Round points tile by tile."""
        points, step = self._points, max(1, self._points.chunk // _CHUNKED // (TILE * self._points.d)) * TILE

        def pack(first: int) -> None:
            places = slice(first, first + step)
            values = points.take(points.row_numbers(self._order[places]))
            self._round(values, self.words[places], steps[places], sums[places])

        workers.each(pack, range(0, len(points), step))

    def _as_they_come(self, steps: Float32s, sums: Sums, workers: Workers) -> None:
        """Round points as they are stored, and put them into their places: they are read where they are."""
        points, step = self._points, max(1, self._points.chunk // _CHUNKED // self._points.d)
        place = np.empty(len(points), np.int64)
        place[self._order.numpy()] = np.arange(len(points))

        def pack(first: int) -> None:
            values = points.block(first, min(first + step, len(points)))
            places = place[first : first + len(values)]
            words: Words = np.zeros((len(values), self.width), np.uint32)
            own, told = np.empty(len(values), np.float32), np.empty(len(values), SUMS)
            self._round(values, words, own, told)
            self.words[places], steps[places], sums[places] = words, own, told

        workers.each(pack, range(0, len(points), step))

    def _round(self, points: Tensor, words: Words, steps: Float32s, sums: Sums) -> None:
        """Round points into words; what is behind the last is left as it is."""
        round_points(self._frame.ready(points), Places(0, 1, 0, len(words), 1), self._rounding, words, steps, sums)

    def _usual_loss(self) -> float:
        """What most points lose, relative to their norms: any unit is right, this one makes errors small."""
        most = max(1, min(_SAMPLE, self._points.chunk // _CHUNKED // self._points.d))
        some = self._points.block(0, len(self._points), -(-len(self._points) // most))
        n = -(-len(some) // TILE) * TILE
        words: Words = np.empty((n, self.width), np.uint32)
        sums = np.empty(n, SUMS)
        self._round(some, words, np.empty(n, np.float32), sums)
        sums = sums[: len(some)]
        loss = np.sqrt(sums["loss"] / np.maximum(sums["square"], TINY))
        return min(max(float(np.quantile(loss, _USUAL)), 2.0**-20), INT8.unit)

    def rows(self, rows: Tensor) -> PackedRows:
        """Pack finite rows (r, d)."""
        r = len(rows)
        n = -(-r // ROWS) * ROWS
        words, alpha, sums = np.zeros((n, self.width), np.uint32), np.zeros(n, np.float32), np.empty(r, SUMS)
        self._frame.round(rows, INT8, 1, words, alpha, sums)
        terms = KeyTerms(
            words=words.view(WORDS[INT8.name]),
            start=np.zeros(n, np.int32),
            alpha=alpha,
            lift=np.zeros(n, np.float32),
            reach=np.zeros(n, np.float32),
        )
        measured = self._frame.measure(rows.shape[1], sums)
        upper = ((measured.square + measured.square_error) * (1.0 + 2.0**-50)).numpy()
        packed = PackedRows(terms, np.empty(r), upper, np.empty(r, np.bool_))
        bound_rows(sums, self._asked, terms, np.zeros(n, np.bool_), packed.square, packed.lost)
        return packed
