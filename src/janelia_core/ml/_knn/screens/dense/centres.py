"""The centres of the dense screen: rounded to a format and packed in panels, with what their keys need.

Names and equations are those of `dense.screen`.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from janelia_core.ml._knn.arithmetic.bounds import TINY32 as TINY
from janelia_core.ml._knn.data.points import Points
from janelia_core.ml._knn.metrics.metric import COSINE, DISTANCE
from janelia_core.ml._knn.metrics.registry import metric_named
from janelia_core.ml._knn.screens.dense.formats import FLOAT32, INT8, Format
from janelia_core.ml._knn.screens.dense.frame import Measured, Words, find_frame, frame_of_directions
from janelia_core.ml._knn.screens.dense.rounding import SUMS, Sums
from janelia_core.ml._knn.screens.dense.row_bounds import UP, RowConstants
from janelia_core.ml._runtime.workers import Workers
from janelia_core.ml._simd.dot_tiles import PARAMETERS, TILE

IdArray = npt.NDArray[np.int64]
Float32s = npt.NDArray[np.float32]
PANEL = 256
"""Centres packed together, fewer where memory is tight (a multiple of 64)."""
PACKED_AT_ONCE = 32
"""Panels packed together, so that the arithmetic on norms costs no call per panel; fewer where chunks are small."""
_CHUNKED = 4  # coordinates of a chunk that take as much as the temporaries of a packed centre
EPILOGUE = 8
"""Roundings of a key, and two to spare."""


def round_up(bound: Tensor) -> Tensor:
    """Nonnegative float64 bounds in float32, never smaller."""
    return (bound * (1.0 + 2.0**-22) + TINY).float()


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

    Attributes:
        frame: Where points are taken.
        errs: (n_packed, 2) float32, (e_j, g_j) of each packed centre.
        words: (n_panels, panel, n_words) uint32; no panels where they are not kept.
        kept: All centres are packed, in panels of PANEL.
        nbytes: What is held of centres: words, parameters and errs.
        asked: What the centres ask of rows.
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
    ) -> None:
        self.format, self.ctrs, self.form = chosen, ctrs, metric_named(metric).form
        self.kept = self.words_bytes(ctrs, chosen) <= pack_bytes
        self.panel, self._at_a_time = PANEL if self.kept else panel, panel
        self._product, workers = self.form != DISTANCE, workers or Workers(1, pool=False)
        self.n_ctrs, self.d = len(ctrs), ctrs.d
        if self.form == COSINE:
            self.frame = frame_of_directions(self.d)
        else:
            self.frame = find_frame(ctrs, chosen, relative_error, workers, self._product)
        self.n_panels = -(-self.n_ctrs // self.panel)
        self.n_words = chosen.n_words(self.d)
        roundings = EPILOGUE if chosen is INT8 else self.d + EPILOGUE
        unit = max(chosen.sum_unit, 2.0**-24)
        self._gamma, self._tiny = roundings * unit / (1.0 - roundings * unit), (roundings + 4) * TINY
        n_packed = self.n_panels * self.panel
        self.errs = np.zeros((n_packed, 2), np.float32)
        self._parameters = np.zeros((n_packed // TILE, PARAMETERS, TILE), np.float32)
        self.words = np.zeros((self.n_panels if self.kept else 0, self.panel, self.n_words), np.uint32)
        self.nbytes = self.words.nbytes + self._parameters.nbytes + self.errs.nbytes
        self._group = max(1, min(PACKED_AT_ONCE, ctrs.chunk // _CHUNKED // self.panel))
        self._unit = workers.once(self._usual_loss) if chosen is INT8 else chosen.unit
        packed = workers.each(self._pack, range(0, self.n_panels, self._group))
        self.asked = RowConstants(
            d=self.d,
            relative_error=self.frame.relative_error,
            whole=self.frame.may_be_exact and all(whole for _, whole, _ in packed),
            largest=max(norm for norm, _, _ in packed),
            unit=self._unit,
            lacking=max(lacking for *_, lacking in packed),
            widest=float(self._parameters[:, 0].max()),
            int8=chosen is INT8,
        )

    @staticmethod
    def words_bytes(ctrs: Points, chosen: Format) -> int:
        """Tell what the words of centres take where all are kept."""
        return -(-len(ctrs) // PANEL) * PANEL * chosen.n_words(ctrs.d) * 4

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
        spare, sums = np.zeros((self.panel, self.n_words), np.uint32), np.empty(self.panel, SUMS)
        n = self.round(0, spare, np.empty(self.panel, np.float32), sums)
        measured = self.frame.measure(self.d, sums[:n])
        usual = float((measured.residual / measured.norm.clamp(min=TINY)).quantile(0.75))
        return min(max(usual, 2.0**-20), self.format.unit)

    def _pack(self, first: int) -> tuple[float, bool, float]:
        """Fills a group of panels from `first` on where they are kept, their parameters, and errs.

        Returns the largest norm, whether all centres are made of integers, and the most that a level lacks.
        """
        p, size = min(self._group, self.n_panels - first), self.panel
        spare = np.zeros((0 if self.kept else size, self.n_words), np.uint32)
        steps, sums = np.ones((p, size), np.float32), np.zeros((p, size), SUMS)
        unused = torch.ones(p, size, dtype=torch.bool, device="cpu")
        for panel in range(p):
            words = self.words[first + panel] if self.kept else spare
            unused[panel, : self.round(first + panel, words, steps[panel], sums[panel])] = False
        measured = self.frame.measure(self.d, sums.reshape(-1))
        reach, level, gap, lacking = self._bound(measured)
        level[unused.reshape(-1)] = -torch.inf
        tiles = slice(first * size // TILE, (first + p) * size // TILE)
        for place, values in enumerate((torch.from_numpy(steps), reach, level)):
            self._parameters[tiles, place] = values.reshape(-1, TILE).numpy()
        errs = round_up(torch.stack([reach.double(), gap * UP], 1))
        self.errs[first * size : (first + p) * size] = errs.numpy()
        return float(measured.norm.max()), bool((measured.whole | unused.reshape(-1)).all()), lacking

    def round(self, panel: int, words: Words, steps: Float32s, sums: Sums) -> int:
        """Rounds a panel's points into words, steps and sums; returns how many there are."""
        start, stop, stride = self._members(panel)
        n = len(range(start, stop, stride))
        for first in range(0, n, self._at_a_time):
            some = slice(first, min(first + self._at_a_time, n))
            points = self.ctrs.block(start + some.start * stride, min(start + some.stop * stride, stop), stride)
            self.frame.round(points, self.format, TILE, words[some], steps[some], sums[some])
        return n

    def _bound(self, points: Measured) -> tuple[Tensor, Tensor, Tensor, float]:
        """e_j and h_j in float32, and g_j, of centres; and the most that an h_j lacks."""
        half = torch.zeros_like(points.square) if self._product else points.square / 2
        own = self._gamma * 1.1 * half + self._tiny
        own += 0.0 if self._product else points.square_error
        reach = round_up(((self._unit + self._gamma) * points.norm + points.residual) / (1 - self._gamma) * UP)
        if self.frame.may_be_exact:
            level = (-half).float()
            own += (half + level.double()).abs()
            return reach, level, own, float(own.max())
        target = own - half
        level = (target + 2.0**-23 * target.abs() + TINY).float()
        return reach, level, (level.double() + half).clamp(min=0) + own, 0.0

    def parameters(self, panel: int, n_panels: int) -> Float32s:
        """What goes into the keys of some panels."""
        per_panel = self.panel // TILE
        return self._parameters[panel * per_panel : (panel + n_panels) * per_panel].reshape(-1)

    @property
    def stride(self) -> int:
        """What lies between neighbours of a panel: panel p holds every so many-th centre from p on; 0: a run."""
        return 0 if self.frame.may_be_exact else self.n_panels
