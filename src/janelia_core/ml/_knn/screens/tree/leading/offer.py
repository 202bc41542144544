"""The screen of leading directions as `choose` knows it."""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING

from janelia_core.ml._knn.data.centres import Centres
from janelia_core.ml._knn.data.frame import Place
from janelia_core.ml._knn.data.values import Reader
from janelia_core.ml._knn.plan.plan import Plan
from janelia_core.ml._knn.screens.contract import Asked, Glance
from janelia_core.ml._knn.screens.suited import why_not_finite, why_not_moderate
from janelia_core.ml._knn.screens.tree.leading import cost
from janelia_core.ml._runtime.workers import Workers

if TYPE_CHECKING:
    from janelia_core.ml._knn.screens.tree.leading.prepared import PreparedLeading


class LeadingDirections:
    """A box tree over the leading directions and the length of the rest: more columns than directions, a CPU."""

    name, parallel, looks = "leading", True, True
    rare = True
    why_not, cost, demand = staticmethod(cost.why_not), staticmethod(cost.cost), staticmethod(cost.demand)

    def why_not_here(self, asked: Asked) -> str:
        """Images are of finite points of moderate magnitude; whether they pay, a look at the rows tells later."""
        return why_not_moderate(asked, "trees want") or why_not_finite(asked)

    def glance(self, asked: Asked) -> Glance | None:
        """Whether there are leading directions at all."""
        stand = asked.centres.prepared(self.name, asked.plan.problem.form)
        if stand or cost.rival_of(asked.plan) is None:
            return None
        from janelia_core.ml._knn.screens.tree.leading.prepared import glance, tells_too_little

        ctrs = asked.centres.finite(Reader(asked.workers, asked.plan.kernels)).points
        return Glance(lambda: glance(ctrs), tells_too_little)

    def key(self, place: Place, plan: Plan) -> Hashable:
        """Nothing but the centres goes into it."""
        return None

    def prepare(self, centres: Centres, place: Place, plan: Plan, workers: Workers) -> PreparedLeading:
        """Make nothing yet: a look may say that it would not pay."""
        from janelia_core.ml._knn.screens.tree.leading.prepared import PreparedLeading

        return PreparedLeading()


LEADING = LeadingDirections()
