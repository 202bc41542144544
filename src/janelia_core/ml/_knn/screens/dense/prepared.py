"""Packed centres in all the formats that rows asked for."""

from __future__ import annotations

from collections.abc import Hashable, Iterable

import torch

from janelia_core.ml._knn.data.centres import Centres
from janelia_core.ml._knn.data.frame import levelled
from janelia_core.ml._knn.data.mask_bits import BitMask
from janelia_core.ml._knn.data.points import Points
from janelia_core.ml._knn.data.values import Reader
from janelia_core.ml._knn.metrics.registry import metric_named
from janelia_core.ml._knn.plan.plan import Plan
from janelia_core.ml._knn.rows import Rows
from janelia_core.ml._knn.screens.contract import Asked, Lister, Meeting, Within
from janelia_core.ml._knn.screens.dense import cost
from janelia_core.ml._knn.screens.dense.centres import DenseCentres
from janelia_core.ml._knn.screens.dense.formats import FORMATS, Format
from janelia_core.ml._knn.screens.dense.frame import First, Known, first_look
from janelia_core.ml._knn.screens.dense.screen import DenseScreen
from janelia_core.ml._knn.screens.dense.within import DenseWithin
from janelia_core.ml._knn.screens.ready import Ready
from janelia_core.ml._knn.screens.rungs import Rungs
from janelia_core.ml._runtime.locks import ForkSafeLock
from janelia_core.ml._runtime.workers import Workers

_FEW_ROWS = 16  # for each worker: of more, each takes some among all centres


class PreparedDense:
    """Packed centres in the formats that rows asked for, each packed once: whole, or else for each size of panels.

    What is packed whole serves every k, every memory and every type of rows: m and the memory bound what is made of
    centres at a time, and that is nothing once they are packed.

    Args:
        metric: What orders them.
        whole: What was packed whole before.
    """

    def __init__(self, metric: str, whole: Iterable[DenseCentres] = ()) -> None:
        self.metric = metric
        # Never changed, but replaced.
        self._packed = {self._key(centres.ctrs, centres.format.name): centres for centres in whole}
        self._lock = ForkSafeLock()

    @property
    def whole(self) -> list[DenseCentres]:
        """What is packed whole."""
        return [centres for centres in self._packed.values() if centres.kept]

    @property
    def stands(self) -> bool:
        """Whether centres are packed whole in a format; else each search packs them panel by panel."""
        return bool(self.whole)

    @property
    def nbytes(self) -> int:
        """What packed centres take."""
        return sum(centres.nbytes for centres in self._packed.values())

    def pack(self, centres: Centres, plan: Plan, workers: Workers) -> Centres:
        """Pack those that can be answered in the first format that a plan names, and return them."""
        sifted = _sifted(centres, plan, workers)
        self._in(plan.own.formats[0], sifted, plan.own, workers)
        return sifted

    def meet(self, asked: Asked) -> Meeting:
        """List rows in one format after the other; of few rows, all at once, by workers that share the centres."""
        panels, k, alone = asked.plan.own, asked.plan.k, Workers(1, pool=False)
        sifted, first = self.pack(asked.centres, asked.plan, asked.workers), panels.formats[0]
        mask = None if asked.mask is None else BitMask(asked.mask, asked.plan.problem.m, panels.cells)
        screen = DenseScreen(self._in(first, sifted, panels, alone), k, mask)
        few = len(asked.x) < _FEW_ROWS * asked.workers.count and asked.workers.count > 1
        ready = self._listed(screen, asked) if few and screen.centres.kept and asked.frame.x_finite else screen

        def lister(name: str) -> Lister:
            return ready if name == first else self.lister(name, sifted, panels, k, mask)

        meeting = Meeting(Rungs(lister, panels.formats), compiled=True)
        meeting.within = self._within(asked) if mask is None else None
        return meeting

    def _within(self, asked: Asked) -> Within:
        """Return who lists all centres within a limit: of those, no copy is left out."""
        finite, panels = asked.centres.finite(Reader(asked.workers, asked.plan.kernels)), asked.plan.own

        def packed(name: str) -> DenseCentres:
            return self._in(name, finite, panels, Workers(1, pool=False))

        return DenseWithin(packed, panels.formats, metric_named(self.metric))

    def lister(self, name: str, sifted: Centres, panels: cost.Panels, k: int, mask: BitMask | None = None) -> Lister:
        """Return who lists k neighbours in a format, packed by the worker whose rows want it."""
        return DenseScreen(self._in(name, sifted, panels, Workers(1, pool=False)), k, mask)

    def _listed(self, screen: DenseScreen, asked: Asked) -> Lister:
        """Return who hands out the lists of all rows, which are made now."""
        x, level = asked.x.block(0, len(asked.x)), asked.frame.level
        x = x if level is None else levelled(x, level)[0]
        numbers = asked.x.row_numbers(torch.arange(len(x), device=x.device))
        return Ready(x, numbers, screen.shared(Rows(x, numbers), asked.workers), screen)

    @staticmethod
    def _key(points: Points, name: str, panel: int = 0) -> Hashable:
        """Of centres sifted for several k, the number tells which they are; panel 0: all are packed."""
        return len(points), name, panel

    def _in(self, name: str, sifted: Centres, panels: cost.Panels, workers: Workers) -> DenseCentres:
        points = sifted.points
        whole, by_panels = self._key(points, name), self._key(points, name, panels.panel)
        if whole in self._packed:
            return self._packed[whole]
        with self._lock:
            left = panels.pack_bytes - sum(centres.words.nbytes for centres in self._packed.values())
            fits = FORMATS[name].words_bytes(len(points), points.d) <= left
            key = whole if fits or whole in self._packed else by_panels
            if key not in self._packed:
                made = self._made(FORMATS[name], sifted, left, panels.panel, workers)
                same = made.n_ctrs, made.format
                others = {at: one for at, one in self._packed.items() if (one.n_ctrs, one.format) != same}
                self._packed = {**others, key: made}  # in place of what is not whole
            return self._packed[key]

    def _made(self, chosen: Format, sifted: Centres, left: int, panel: int, workers: Workers) -> DenseCentres:
        return DenseCentres(
            sifted.points,
            chosen,
            self.metric,
            pack_bytes=left,
            panel=panel,
            workers=workers,
            known=Known(sifted.columns, sifted.largest, _first(sifted, workers)),
        )


def begin(centres: Centres, plan: Plan, workers: Workers) -> None:
    """See what a sample of centres tells before they are packed; it is kept with them."""
    _first(_sifted(centres, plan, workers), workers)


def _sifted(centres: Centres, plan: Plan, workers: Workers) -> Centres:
    """Return those that can be answered."""
    finite = centres.finite(Reader(workers, plan.kernels))
    # Under a mask any copy may be the one that a row may have.
    masked = plan.problem.masked
    return finite if masked else finite.without_copies(plan.k, plan.workspace_bytes // 2, workers)


def _first(sifted: Centres, workers: Workers) -> First | None:
    """Return what a sample tells, where the largest magnitude is known."""
    points, largest = sifted.points, sifted.largest
    if largest is None:
        return None
    return sifted.made("sampled", lambda: workers.once(lambda: first_look(points, largest)))
