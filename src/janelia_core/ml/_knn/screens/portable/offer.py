"""The portable screen as `choose` knows it."""

from __future__ import annotations

from collections.abc import Hashable

from janelia_core.ml._knn.data.centres import Centres
from janelia_core.ml._knn.data.frame import Place
from janelia_core.ml._knn.plan.plan import Plan
from janelia_core.ml._knn.problem import Problem
from janelia_core.ml._knn.screens.contract import Asked, Meeting
from janelia_core.ml._knn.screens.portable import cost
from janelia_core.ml._knn.screens.portable.screen import PackedCentres, PortableScreen
from janelia_core.ml._knn.screens.portable.stored import are_few
from janelia_core.ml._knn.screens.rungs import Rungs
from janelia_core.ml._runtime.workers import Workers

_FEW, _ALL = "few candidates", "as many as may be kept"


class PreparedPortable(PackedCentres):
    """Packed centres, or how to pack them."""

    def meet(self, asked: Asked) -> Meeting:
        """Let rows ask for few candidates first, where packed centres are kept: else to ask twice is to pack twice."""
        exponent, mask, few = asked.frame.verify_exponent, asked.mask, cost.narrow(asked.plan.problem)
        screen = PortableScreen(self, exponent, mask)
        narrow = asked.x.values.is_cpu and self.products.keep_packed and few < self.products.width
        first = PortableScreen(self, exponent, mask, few) if narrow else screen
        meeting = Meeting(Rungs({_FEW: first, _ALL: screen}.__getitem__, (_FEW, _ALL) if narrow else (_ALL,)))
        meeting.near = screen
        return meeting


class Portable:
    """Torch operations: any device, any values that float32 can tell apart, masks."""

    name, parallel, looks = "portable", False, True
    placed = True
    cost, demand = staticmethod(cost.cost), staticmethod(cost.demand)

    def why_not(self, problem: Problem, workers: int) -> str:
        """It serves whatever has a form."""
        return ""

    def why_not_here(self, asked: Asked) -> str:
        """Rows that float32 cannot tell apart climb."""
        return ""

    def key(self, place: Place, plan: Plan) -> Hashable:
        """Centres are packed where points are taken, block by block."""
        return place.exponent, place.directed, plan.products, are_few(_rows(plan), plan.problem.d)

    def prepare(self, centres: Centres, place: Place, plan: Plan, workers: Workers) -> PreparedPortable:
        """Pack them, if that is planned."""
        return workers.once(lambda: PreparedPortable(centres.points, place, plan.products, plan.metric, _rows(plan)))


def _rows(plan: Plan) -> int:
    """Return how many rows are multiplied with a block of centres after it is packed."""
    return plan.problem.n_smps if plan.products.keep_packed else plan.blocks.rows


PORTABLE = Portable()
