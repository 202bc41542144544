"""The screen by differences as `choose` knows it."""

from __future__ import annotations

from collections.abc import Hashable

from janelia_core.ml._knn.data.centres import Centres
from janelia_core.ml._knn.data.frame import Place
from janelia_core.ml._knn.data.points import Points
from janelia_core.ml._knn.data.single import Lattice, is_float32
from janelia_core.ml._knn.data.values import Reader
from janelia_core.ml._knn.plan.plan import Plan
from janelia_core.ml._knn.screens.contract import Asked, Lister, Meeting
from janelia_core.ml._knn.screens.differences import cost
from janelia_core.ml._knn.screens.rungs import Rungs
from janelia_core.ml._knn.screens.suited import EXTREME, MASKED, why_not_finite
from janelia_core.ml._runtime.workers import Workers

_SHORT, _LONG = "near", "farther"


class PreparedDifferences:
    """Centres, which are taken as they are stored, and what is known of them.

    Args:
        ctrs: The centres, finite.
        stored: Float32 holds their values.
    """

    nbytes, stands = 0, False

    def __init__(self, ctrs: Points, stored: bool) -> None:
        self.ctrs, self.stored, self._lattice = ctrs, stored, Lattice(ctrs)

    def meet(self, asked: Asked) -> Meeting:
        """Bring the rows."""
        from janelia_core.ml._knn.screens.differences.screen import DifferencesScreen

        x, form, k, once = asked.x.values, asked.plan.problem.form, asked.plan.k, asked.workers.once
        plain = self.stored and asked.frame.x_finite and asked.x.subset is None and once(lambda: is_float32(x))
        exact = plain and once(lambda: self._lattice.holds(x, form))

        def lister(which: str) -> Lister:
            width = k if exact else cost.width(k) if which == _SHORT else cost.longer(k)
            return DifferencesScreen(self.ctrs, form, width, exact)

        return Meeting(Rungs(lister, (_SHORT,) if exact else (_SHORT, _LONG)), compiled=True)


class Differences:
    """Float32 distances of all pairs that no matrix product makes: a CPU."""

    name, parallel, looks = "differences", True, True
    forms = cost.FORMS
    why_not, cost, demand = staticmethod(cost.why_not), staticmethod(cost.cost), staticmethod(cost.demand)

    def why_not_here(self, asked: Asked) -> str:
        """Keys are float32 distances of finite centres; the ladder sees to rows that are not finite."""
        if asked.mask is not None:
            return MASKED
        frame = asked.frame
        if asked.plan.problem.form not in cost.FORMS or not (frame.in_float64 and frame.fits_float32):
            return EXTREME
        return why_not_finite(asked)

    def key(self, place: Place, plan: Plan) -> Hashable:
        """Of copies of a centre as many stay as are wanted."""
        return plan.k

    def prepare(self, centres: Centres, place: Place, plan: Plan, workers: Workers) -> PreparedDifferences:
        """Look whether float32 holds the centres."""
        ctrs = centres.finite(Reader(workers, plan.kernels)).points
        every = range(0, len(ctrs), max(1, ctrs.chunk // ctrs.d))
        stored = workers.once(lambda: all(is_float32(ctrs.block(i, i + every.step)) for i in every))
        return PreparedDifferences(ctrs, stored)


DIFFERENCES = Differences()
