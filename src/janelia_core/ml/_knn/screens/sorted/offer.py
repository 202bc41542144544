"""The sorted screen as `choose` knows it."""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING

from janelia_core.ml._knn.data.centres import Centres
from janelia_core.ml._knn.data.frame import Place
from janelia_core.ml._knn.data.values import Reader
from janelia_core.ml._knn.metrics.metric import DISTANCE
from janelia_core.ml._knn.plan.plan import Plan
from janelia_core.ml._knn.screens.contract import Asked
from janelia_core.ml._knn.screens.sorted import cost
from janelia_core.ml._knn.screens.suited import EXTREME, why_not_finite
from janelia_core.ml._runtime.workers import Workers

if TYPE_CHECKING:
    from janelia_core.ml._knn.screens.sorted.screen import PreparedSorted


class Sorted:
    """All distances of a row, sorted by compiled kernels: many neighbours, a CPU."""

    name, parallel, looks = "sorted", True, True
    why_not, cost, demand = staticmethod(cost.why_not), staticmethod(cost.cost), staticmethod(cost.demand)

    def why_not_here(self, asked: Asked) -> str:
        """Distances are of finite centres that float64 holds."""
        if asked.mask is not None or asked.plan.problem.form != DISTANCE:
            return "distances alone are sorted, without masks"
        if not asked.frame.in_float64:
            return EXTREME
        return why_not_finite(asked)

    def key(self, place: Place, plan: Plan) -> Hashable:
        """Whatever k, the tiles are the same."""
        return None

    def prepare(self, centres: Centres, place: Place, plan: Plan, workers: Workers) -> PreparedSorted:
        """Put the finite centres into tiles."""
        from janelia_core.ml._knn.screens.sorted.screen import PreparedSorted

        return PreparedSorted(centres.finite(Reader(workers, plan.kernels)).points, workers)


SORTED = Sorted()
