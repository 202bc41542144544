"""The dense screen as `choose` knows it, and packed centres in all the formats that rows asked for."""

from __future__ import annotations

import threading
from collections.abc import Hashable
from typing import TYPE_CHECKING

import torch

from janelia_core.ml._knn.data.centres import Centres
from janelia_core.ml._knn.data.frame import Place, levelled
from janelia_core.ml._knn.data.points import Points
from janelia_core.ml._knn.data.values import Reader
from janelia_core.ml._knn.plan.plan import Plan
from janelia_core.ml._knn.screens.contract import Asked, Lister, Meeting
from janelia_core.ml._knn.screens.dense import cost
from janelia_core.ml._knn.screens.dense.formats import FORMATS
from janelia_core.ml._knn.screens.ready import Ready
from janelia_core.ml._knn.screens.rungs import Rungs
from janelia_core.ml._runtime.workers import Workers

if TYPE_CHECKING:
    from janelia_core.ml._knn.screens.dense.centres import DenseCentres
    from janelia_core.ml._knn.screens.dense.screen import DenseScreen

_FEW_ROWS = 16  # for each worker: of more, each takes some among all centres


class PreparedDense:
    """Packed centres: in the first format when this is made, in others when rows first want them.

    Args:
        ctrs: Finite centres.
        panels: How to pack them.
        metric: What orders them.
        workers: Threads that share the first packing; others are made by the worker whose rows want them.
    """

    def __init__(self, ctrs: Points, panels: cost.Panels, metric: str, workers: Workers) -> None:
        self._ctrs, self._panels, self._metric = ctrs, panels, metric
        self._packed: dict[str, DenseCentres] = {}
        self._lock = threading.Lock()
        self._in(panels.formats[0], workers)

    @property
    def nbytes(self) -> int:
        """What packed centres take."""
        return sum(centres.nbytes for centres in self._packed.values())

    def meet(self, asked: Asked) -> Meeting:
        """List rows in one format after the other; of few rows, all at once, by workers that share the centres."""
        from janelia_core.ml._knn.screens.dense.screen import DenseScreen

        alone, k = Workers(1, pool=False), asked.plan.k
        screen = DenseScreen(self._in(self._panels.formats[0], alone), k)
        few = len(asked.x) < _FEW_ROWS * asked.workers.count and asked.workers.count > 1
        ready = self._listed(screen, asked) if few and screen.centres.kept and asked.frame.x_finite else screen

        def lister(name: str) -> Lister:
            if name == self._panels.formats[0]:
                return ready
            return DenseScreen(self._in(name, alone), k)

        return Meeting(Rungs(lister, self._panels.formats), compiled=True)

    def _listed(self, screen: DenseScreen, asked: Asked) -> Lister:
        """Return who hands out the lists of all rows, which are made now."""
        x, level = asked.x.block(0, len(asked.x)), asked.frame.level
        x = x if level is None else levelled(x, level)[0]
        numbers = asked.x.row_numbers(torch.arange(len(x), device=x.device))
        return Ready(x, numbers, screen.shared(x, asked.workers), screen)

    def _in(self, name: str, workers: Workers) -> DenseCentres:
        from janelia_core.ml._knn.screens.dense.centres import DenseCentres

        with self._lock:
            if name not in self._packed:
                left, panel = self._panels.pack_bytes - self.nbytes, self._panels.panel
                self._packed[name] = DenseCentres(
                    self._ctrs, FORMATS[name], self._metric, pack_bytes=left, panel=panel, workers=workers
                )
            return self._packed[name]


class Dense:
    """Compiled scores in low precision, compared while in registers: many dimensions, a CPU."""

    name, parallel, looks = "dense", True, True
    why_not, cost, demand = staticmethod(cost.why_not), staticmethod(cost.cost), staticmethod(cost.demand)

    def why_not_here(self, asked: Asked) -> str:
        """Scores are of finite centres that float64 holds."""
        if asked.mask is not None:
            return "the compiled screens take no masks"
        if not asked.frame.in_float64:
            return "values are of extreme magnitude"
        few = len(asked.centres.finite(Reader(asked.workers, asked.plan.kernels))) < asked.plan.k
        return "fewer than k centres are finite" if few else ""

    def key(self, place: Place, plan: Plan) -> Hashable:
        """Of identical centres, only k stay."""
        return self.name, plan.problem.form, plan.k, plan.own

    def prepare(self, centres: Centres, place: Place, plan: Plan, workers: Workers) -> PreparedDense:
        """Pack those that can be answered, in the first format."""
        finite = centres.finite(Reader(workers, plan.kernels))
        sifted = finite.without_copies(plan.k, plan.workspace_bytes // 2, workers)
        return PreparedDense(sifted.points, plan.own, plan.metric, workers)


DENSE = Dense()
