"""The centres of the dense screen: rounded to a format and packed in panels, with what their keys need.

Names and equations are those of `dense.screen`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from janelia_core.ml._knn.arithmetic.bounds import TINY32 as TINY
from janelia_core.ml._knn.data.points import Points
from janelia_core.ml._knn.metrics.metric import COSINE, DISTANCE
from janelia_core.ml._knn.metrics.registry import metric_named
from janelia_core.ml._knn.screens.dense.ctr_bounds import Bounded, CtrConstants, bound_ctrs
from janelia_core.ml._knn.screens.dense.formats import FLOAT32, INT8, PANEL, Format
from janelia_core.ml._knn.screens.dense.frame import (
    DenseFrame,
    Float32s,
    Known,
    Words,
    find_frame,
    frame_of_directions,
    in_place,
)
from janelia_core.ml._knn.screens.dense.rounding import SUMS, Places, Sums, round_points
from janelia_core.ml._knn.screens.dense.row_bounds import RowConstants
from janelia_core.ml._runtime.workers import Workers
from janelia_core.ml._simd.dot_tiles import PARAMETERS, TILE

PACKED_AT_ONCE = 32
"""Panels packed together at most, so that neighbours are read one after the other; fewer where chunks are small."""
_TOGETHER = 1 << 10  # words of a point, in all panels packed together: their tiles stay in a core's L2 cache
_GROUPS = 2  # of panels for each worker, at least
_CHUNKED = 4  # coordinates of a chunk that take as much as the temporaries of a packed centre
EPILOGUE = 8
"""Roundings of a key, and two to spare."""


class Packed(NamedTuple):
    """What is held of packed centres, beyond their own values. Nothing of it is written once it stands.

    Fields:
        frame: Where points are taken.
        unit: rho.
        asked: What the centres ask of rows.
        words: (n_panels, panel, n_words) uint32; no panels where they are not kept.
        errs: (n_packed, 2) float32, (e_j, g_j) of each packed centre.
        parameters: (n_packed / TILE, PARAMETERS, TILE) float32, for the keys.
    """

    frame: DenseFrame
    unit: float
    asked: RowConstants
    words: Words
    errs: Float32s
    parameters: Float32s

    @property
    def nbytes(self) -> int:
        """What the arrays take."""
        return self.words.nbytes + self.errs.nbytes + self.parameters.nbytes


class DenseCentres:
    """Packed centres.

    Args:
        ctrs: Finite centres, any real dtype that float64 holds.
        chosen: Format of the coordinates.
        metric: "dot", "cosine" or a Euclidean one.
        relative_error: Bound of the relative error of each coordinate of the points; 0.0: as stored.
        pack_bytes: How many bytes packed centres may take; beyond, `round` makes panel by panel anew.
        panel: Centres that are rounded at a time; where they are not kept, those of a panel.
        workers: Threads that share the packing.
        known: What is known of the centres.
        packed: What was packed of these centres before, all of it.

    Attributes:
        kept: All centres are packed, in panels of PANEL.
        row_rounding: How rows are rounded.
        packed: What is held of centres; its `frame`, `words`, `errs` and `asked` stand beside it too.
    """

    def __init__(
        self,
        ctrs: Points,
        chosen: Format = FLOAT32,
        metric: str = "euclidean",
        relative_error: float = 0.0,
        pack_bytes: int = 2**62,
        panel: int = PANEL,
        workers: Workers | None = None,
        known: Known | None = None,
        packed: Packed | None = None,
    ) -> None:
        self.format, self.ctrs, self.form = chosen, ctrs, metric_named(metric).form
        self.n_ctrs, self.d, self.n_words = len(ctrs), ctrs.d, chosen.n_words(ctrs.d)
        self.kept = packed is not None or chosen.words_bytes(len(ctrs), ctrs.d) <= pack_bytes
        self.panel, self._at_a_time = PANEL if self.kept else panel, panel
        self.n_panels = -(-self.n_ctrs // self.panel)
        roundings = EPILOGUE if chosen is INT8 else self.d + EPILOGUE
        sum_unit = max(chosen.sum_unit, 2.0**-24)
        self._gamma, self._tiny = roundings * sum_unit / (1.0 - roundings * sum_unit), (roundings + 4) * TINY
        workers = workers or Workers(1, pool=False)
        if packed is not None:
            self.frame = packed.frame
        elif self.form == COSINE:
            self.frame = frame_of_directions(self.d)
        else:
            self.frame = find_frame(ctrs, chosen, relative_error, workers, self.form != DISTANCE, known)
        self._values = None if self.frame.directed else in_place(ctrs)
        self._rounding, self.row_rounding = (self.frame.rounding(chosen, lanes) for lanes in (TILE, 1))
        self.packed = packed or self._all_packed(workers)
        self.words, self.errs, self.asked = self.packed.words, self.packed.errs, self.packed.asked

    @property
    def nbytes(self) -> int:
        """What is held of centres."""
        return self.packed.nbytes

    def _all_packed(self, workers: Workers) -> Packed:
        """Packs all centres; where they are not kept, for what their keys need."""
        n_packed, chosen = self.n_panels * self.panel, self.format
        unit = self._usual_loss() if chosen is INT8 else chosen.unit
        words = np.zeros((self.n_panels if self.kept else 0, self.panel, self.n_words), np.uint32)
        errs = np.empty((n_packed, 2), np.float32)
        parameters = np.empty((n_packed // TILE, PARAMETERS, TILE), np.float32)
        chunk = self.ctrs.chunk // _CHUNKED // self.panel
        share = -(-self.n_panels // (_GROUPS * workers.count))
        group = max(1, min(PACKED_AT_ONCE, _TOGETHER // self.n_words, chunk, share))

        def pack(first: int) -> Bounded:
            """Fill a group of panels from `first` on."""
            stop = min(first + group, self.n_panels)
            places, tiles = (slice(first * size, stop * size) for size in (self.panel, self.panel // TILE))
            return self._pack(first, words[first:stop], unit, parameters[tiles], errs[places])

        bounded = workers.each(pack, range(0, self.n_panels, group))
        asked = RowConstants(
            d=self.d,
            relative_error=self.frame.relative_error,
            whole=self.frame.may_be_exact and all(of.whole for of in bounded),
            largest=max(of.largest for of in bounded),
            unit=unit,
            lacking=max(of.lacking for of in bounded),
            widest=float(parameters[:, 0].max()),
            int8=chosen is INT8,
        )
        return Packed(self.frame, unit, asked, words, errs, parameters)

    def _members(self, panel: int) -> tuple[int, int, int]:
        """Positions of a panel's centres: a run on a grid, where ties want ascending order, else every n-th.

        A strided sample meets near and far centres alike, so the first panels already leave tight thresholds
        even when the centres are sorted.
        """
        if self.stride == 0:
            return panel * self.panel, min((panel + 1) * self.panel, self.n_ctrs), 1
        return panel, self.n_ctrs, self.stride

    def _usual_loss(self) -> float:
        """What most centres lose, relative to their norms: any unit is right, this one makes errors small."""
        if self._values is None:
            spare, sums = np.zeros((self.panel, self.n_words), np.uint32), np.empty(self.panel, SUMS)
            n = self.round(0, spare, np.empty(self.panel, np.float32), sums)
        else:
            spare, sums, n = np.zeros((TILE, self.n_words), np.uint32), np.empty(TILE, SUMS), min(TILE, self.n_ctrs)
            places = Places(first=0, panels=1, across=0, panel=TILE, along=self.n_ctrs // n)
            round_points(self._values, places, self._rounding, spare, np.empty(TILE, np.float32), sums)
        residual, norm = self.frame.measured(self.d, sums[:n])[:2]
        losses = np.sort(residual / np.maximum(norm, TINY))
        return min(max(float(losses[3 * (n - 1) // 4]), 2.0**-20), self.format.unit)

    def _pack(self, first: int, words: Words, unit: float, parameters: Float32s, errs: Float32s) -> Bounded:
        """Writes some panels from `first` on, none where they are not kept, their parameters, and errs."""
        steps, sums = np.zeros(len(errs), np.float32), np.empty(len(errs), SUMS)
        if self.kept:
            self._round(first, len(words), words.reshape(-1, self.n_words), steps, sums)
        else:
            spare, wide = np.empty((self.panel, self.n_words), np.uint32), self.spare()
            for panel in range(len(errs) // self.panel):
                own = slice(panel * self.panel, (panel + 1) * self.panel)
                self.round(first + panel, spare, steps[own], sums[own], wide)
        return self._bound(sums, steps, unit, parameters, errs)

    def spare(self) -> Tensor | None:
        """Room for points of a panel as float64, where they are not read in place; for `round`."""
        if self._values is not None:
            return None
        return torch.empty(min(self._at_a_time, self.panel), self.d, dtype=torch.float64)

    def round(self, panel: int, words: Words, steps: Float32s, sums: Sums, wide: Tensor | None = None) -> int:
        """Rounds a panel's points into words, steps and sums, by way of `wide`; returns how many there are."""
        self._round(panel, 1, words, steps, sums, wide)
        return len(range(*self._members(panel)))

    def _round(
        self, first: int, n_panels: int, words: Words, steps: Float32s, sums: Sums, wide: Tensor | None = None
    ) -> None:
        """Rounds the points of some panels: read in place, where that can be, else a few at a time."""
        size, run = self.panel, self.stride == 0
        if self._values is not None:
            start, across, along = (first * size, size, 1) if run else (first, 1, self.stride)
            round_points(self._values, Places(start, n_panels, across, size, along), self._rounding, words, steps, sums)
            return
        wide = self.spare() if wide is None else wide
        for panel in range(n_panels):
            start, stop, stride = self._members(first + panel)
            n = len(range(start, stop, stride))
            for some in range(0, n, self._at_a_time):
                end = min(some + self._at_a_time, n)
                block = self.ctrs.block(start + some * stride, min(start + end * stride, stop), stride)
                own = slice(panel * size + some, panel * size + -(-end // TILE) * TILE)
                places = Places(0, 1, 0, own.stop - own.start, 1)
                round_points(self.frame.ready(block, wide), places, self._rounding, words[own], steps[own], sums[own])

    def _bound(self, sums: Sums, steps: Float32s, unit: float, parameters: Float32s, errs: Float32s) -> Bounded:
        """Writes e_j, h_j and g_j of some packed centres."""
        of = CtrConstants(
            d=self.d,
            relative_error=self.frame.relative_error,
            unit=unit,
            gamma=self._gamma,
            tiny=self._tiny,
            product=self.form != DISTANCE,
            exact=self.frame.may_be_exact,
        )
        return Bounded(*bound_ctrs(sums, steps, of, parameters, errs))

    def parameters(self, panel: int, n_panels: int) -> Float32s:
        """What goes into the keys of some panels."""
        per_panel = self.panel // TILE
        return self.packed.parameters[panel * per_panel : (panel + n_panels) * per_panel].reshape(-1)

    @property
    def stride(self) -> int:
        """What lies between neighbours of a panel: panel p holds every so many-th centre from p on; 0: a run."""
        return 0 if self.frame.may_be_exact else self.n_panels
