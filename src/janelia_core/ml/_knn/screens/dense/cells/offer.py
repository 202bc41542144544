"""Cells as `choose` knows them."""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING

from janelia_core.ml._knn.data.centres import Centres
from janelia_core.ml._knn.data.frame import Place
from janelia_core.ml._knn.plan.plan import Plan
from janelia_core.ml._knn.screens.contract import Asked, Glance
from janelia_core.ml._knn.screens.dense.cells import cost
from janelia_core.ml._knn.screens.suited import why_not_finite, why_not_moderate
from janelia_core.ml._runtime.workers import Workers

if TYPE_CHECKING:
    from janelia_core.ml._knn.screens.dense.cells.prepared import PreparedCells


class Cells:
    """The dense screen's scores among cells of near centres: data in clusters, a CPU."""

    name, parallel, looks = "cells", True, True
    rare = True
    why_not, cost, demand = staticmethod(cost.why_not), staticmethod(cost.cost), staticmethod(cost.demand)

    def why_not_here(self, asked: Asked) -> str:
        """Cells are of finite centres of moderate magnitude; whether they pay, a look at the rows tells later."""
        return why_not_moderate(asked, "cells want") or why_not_finite(asked)

    def glance(self, asked: Asked) -> Glance | None:
        """Whether centres lie in clusters at all."""
        if asked.plan.own is None or asked.centres.prepared(self.name, asked.plan.problem.form):
            return None
        from janelia_core.ml._knn.screens.dense.cells.look import alike, are_too_alike

        return Glance(lambda: alike(asked.x, asked.centres.points), lambda ratio: are_too_alike(ratio, asked.x.d))

    def key(self, place: Place, plan: Plan) -> Hashable:
        """Nothing but the centres goes into them."""
        return None

    def prepare(self, centres: Centres, place: Place, plan: Plan, workers: Workers) -> PreparedCells:
        """Make nothing yet: a look may say that it would not pay."""
        from janelia_core.ml._knn.screens.dense.cells.prepared import PreparedCells

        return PreparedCells(plan.metric)


CELLS = Cells()
