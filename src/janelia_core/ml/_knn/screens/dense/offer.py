"""The dense screen as `choose` knows it."""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING

from janelia_core.ml._knn.data.centres import Centres
from janelia_core.ml._knn.data.frame import Place
from janelia_core.ml._knn.plan.plan import Plan
from janelia_core.ml._knn.screens.contract import Asked, Glance
from janelia_core.ml._knn.screens.dense import cost
from janelia_core.ml._knn.screens.keeping import Stored
from janelia_core.ml._knn.screens.suited import EXTREME, why_not_finite
from janelia_core.ml._runtime.workers import Workers

if TYPE_CHECKING:
    from janelia_core.ml._knn.screens.dense.prepared import PreparedDense


class Dense:
    """Compiled scores in low precision, compared while in registers: many dimensions, a CPU."""

    name, parallel, looks = "dense", True, True
    radius = True
    why_not, cost, demand = staticmethod(cost.why_not), staticmethod(cost.cost), staticmethod(cost.demand)

    def why_not_here(self, asked: Asked) -> str:
        """Scores are of finite centres that float64 holds."""
        if not asked.frame.in_float64:
            return EXTREME
        return why_not_finite(asked)

    def glance(self, asked: Asked) -> Glance | None:
        """What is seen of a sample of centres before they are packed."""
        if asked.centres.prepared(self.name, asked.plan.problem.form):
            return None
        from janelia_core.ml._knn.screens.dense.prepared import begin

        return Glance(lambda: begin(asked.centres, asked.plan, asked.workers), lambda _: False)

    def key(self, place: Place, plan: Plan) -> Hashable:
        """Whatever k and the memory, what is packed is the same, or stands side by side."""
        return None

    def prepare(self, centres: Centres, place: Place, plan: Plan, workers: Workers) -> PreparedDense:
        """Pack those that can be answered, in the first format."""
        from janelia_core.ml._knn.screens.dense.prepared import PreparedDense

        prepared = PreparedDense(plan.metric)
        prepared.pack(centres, plan, workers)
        return prepared

    def stored(self, prepared: PreparedDense) -> list[Stored]:
        """Return all that was packed whole."""
        from janelia_core.ml._knn.screens.dense.stored import arrays_of

        return [arrays_of(prepared)]

    def restored(self, centres: Centres, form: int, pieces: list[Stored]) -> PreparedDense:
        """Return packed centres."""
        from janelia_core.ml._knn.screens.dense.stored import from_arrays

        (piece,) = pieces
        return from_arrays(centres.points, *piece)


DENSE = Dense()
