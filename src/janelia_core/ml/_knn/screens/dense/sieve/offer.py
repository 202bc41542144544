"""The sieve as `choose` knows it."""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING

from janelia_core.ml._knn.data.centres import Centres
from janelia_core.ml._knn.data.frame import Place
from janelia_core.ml._knn.data.values import Reader
from janelia_core.ml._knn.plan.plan import Plan
from janelia_core.ml._knn.screens.contract import Asked, Glance
from janelia_core.ml._knn.screens.dense.cost import formats
from janelia_core.ml._knn.screens.dense.formats import INT8
from janelia_core.ml._knn.screens.dense.sieve import cost
from janelia_core.ml._knn.screens.suited import why_not_finite, why_not_moderate
from janelia_core.ml._runtime.workers import Workers

if TYPE_CHECKING:
    from janelia_core.ml._knn.screens.dense.sieve.prepared import PreparedSieve


class Sieve:
    """The dense screen's scores, first in leading directions, then of few centres over all columns: a CPU."""

    name, parallel, looks = "sieve", True, True
    rare = True
    why_not, cost, demand = staticmethod(cost.why_not), staticmethod(cost.cost), staticmethod(cost.demand)

    def why_not_here(self, asked: Asked) -> str:
        """Images are of finite points of moderate magnitude; whether they pay, a look at the rows tells later."""
        problem = asked.plan.problem
        why = why_not_moderate(asked, "a sieve wants") or why_not_finite(asked)
        return why or ("" if formats(problem)[0] == INT8.name else "a sieve wants scores in bytes")

    def glance(self, asked: Asked) -> Glance | None:
        """Whether few directions lead at all."""
        if asked.centres.prepared(self.name, asked.plan.problem.form) or cost.is_rehearsal(asked.plan.problem):
            return None
        from janelia_core.ml._knn.screens.dense.sieve.look import outside, tells_too_little

        ctrs = asked.centres.finite(Reader(asked.workers, asked.plan.kernels)).points
        return Glance(lambda: outside(ctrs), tells_too_little)

    def key(self, place: Place, plan: Plan) -> Hashable:
        """Nothing but the centres goes into it."""
        return None

    def prepare(self, centres: Centres, place: Place, plan: Plan, workers: Workers) -> PreparedSieve:
        """Make nothing yet: a look may say that it would not pay."""
        from janelia_core.ml._knn.screens.dense.sieve.prepared import PreparedSieve

        return PreparedSieve(plan.metric)


SIEVE = Sieve()
