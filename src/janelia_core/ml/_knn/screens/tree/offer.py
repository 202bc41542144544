"""The tree screen as `choose` knows it."""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING

from janelia_core.ml._knn.data.centres import Centres
from janelia_core.ml._knn.data.frame import Place
from janelia_core.ml._knn.data.values import Reader
from janelia_core.ml._knn.metrics.metric import OF_GAPS
from janelia_core.ml._knn.plan.plan import Plan
from janelia_core.ml._knn.screens.contract import Asked, Glance
from janelia_core.ml._knn.screens.keeping import Stored
from janelia_core.ml._knn.screens.suited import finite_ctrs, why_not_moderate
from janelia_core.ml._knn.screens.tree import cost
from janelia_core.ml._runtime.workers import Workers

if TYPE_CHECKING:
    from janelia_core.ml._knn.screens.tree.forest import PreparedTrees


class Tree:
    """Boxes walked by packets of neighbouring rows, compiled: few dimensions or clustered data, a CPU."""

    name, parallel, looks = "tree", True, True
    forms = OF_GAPS
    radius = True
    why_not, cost, demand = staticmethod(cost.why_not), staticmethod(cost.cost), staticmethod(cost.demand)

    def why_not_here(self, asked: Asked) -> str:
        """Keys are float32 distances of finite points; whether they pay, a look at the rows tells later."""
        why, look = why_not_moderate(asked, "the tree wants", OF_GAPS), asked.plan.own
        if why:
            return why
        few = finite_ctrs(asked) < asked.plan.k * (look.trees.parts if look else 1)
        return "fewer than k centres of a tree are finite" if few else ""

    def glance(self, asked: Asked) -> Glance | None:
        """Whether a tree is worth planting at all."""
        look, stand = asked.plan.own, asked.centres.prepared(self.name, asked.plan.problem.form)
        if stand or not cost.glances(asked.plan.problem, look) or not asked.is_ready(asked.plan):
            return None
        from janelia_core.ml._knn.screens.tree.glance import glance

        ctrs = asked.centres.finite(Reader(asked.workers, asked.plan.kernels)).points
        return Glance(lambda: glance(asked.x, ctrs, look), bool)

    def key(self, place: Place, plan: Plan) -> Hashable:
        """Nothing but the centres went into them; `PreparedTrees` tells which tree serves a k."""
        return None

    def prepare(self, centres: Centres, place: Place, plan: Plan, workers: Workers) -> PreparedTrees:
        """Plant nothing yet: a look may say that it would not pay."""
        from janelia_core.ml._knn.screens.tree.forest import PreparedTrees

        return PreparedTrees(centres.finite(Reader(workers, plan.kernels)).points, plan.problem.form)

    def stored(self, prepared: PreparedTrees) -> list[Stored]:
        """Return the trees over all centres that stand."""
        from janelia_core.ml._knn.screens.tree.stored import arrays_of

        return [arrays_of(tree) for tree in prepared.trees]

    def restored(self, centres: Centres, form: int, pieces: list[Stored]) -> PreparedTrees:
        """Return trees over the finite ones of the centres."""
        from janelia_core.ml._knn.screens.tree.forest import PreparedTrees
        from janelia_core.ml._knn.screens.tree.stored import from_arrays

        finite = centres.finite(Reader()).points
        return PreparedTrees(finite, form, tuple(from_arrays(finite, *piece) for piece in pieces))


TREE = Tree()
