"""The line screen as `choose` knows it."""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING

from janelia_core.ml._knn.data.centres import Centres
from janelia_core.ml._knn.data.frame import Place
from janelia_core.ml._knn.data.values import Reader
from janelia_core.ml._knn.metrics.metric import DISTANCE
from janelia_core.ml._knn.plan.plan import Plan
from janelia_core.ml._knn.screens.contract import Asked
from janelia_core.ml._knn.screens.line import cost
from janelia_core.ml._knn.screens.suited import EXTREME, MASKED, why_not_finite
from janelia_core.ml._runtime.workers import Workers

if TYPE_CHECKING:
    from janelia_core.ml._knn.screens.line.screen import PreparedLine


class LineScreen:
    """Centres of one coordinate, sorted by compiled kernels: a CPU."""

    name, parallel, looks = "line", True, True
    why_not, cost, demand = staticmethod(cost.why_not), staticmethod(cost.cost), staticmethod(cost.demand)

    def why_not_here(self, asked: Asked) -> str:
        """Numbers are finite ones that float64 holds."""
        if asked.x.d != 1 or asked.plan.problem.form != DISTANCE:
            return "points have several coordinates, or no distances"
        if asked.mask is not None:
            return MASKED
        if not asked.frame.in_float64:
            return EXTREME
        return why_not_finite(asked)

    def key(self, place: Place, plan: Plan) -> Hashable:
        """Whatever k, the line is the same."""
        return None

    def prepare(self, centres: Centres, place: Place, plan: Plan, workers: Workers) -> PreparedLine:
        """Sort the finite centres."""
        from janelia_core.ml._knn.screens.line.screen import PreparedLine

        points = centres.finite(Reader(workers, plan.kernels)).points
        return workers.once(lambda: PreparedLine(points))


LINE = LineScreen()
