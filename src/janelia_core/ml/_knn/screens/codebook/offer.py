"""The codebook screen as `choose` knows it."""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING

from janelia_core.ml._knn.data.centres import Centres
from janelia_core.ml._knn.data.copies import without_spare_copies
from janelia_core.ml._knn.data.frame import Place
from janelia_core.ml._knn.data.points import is_wide
from janelia_core.ml._knn.data.values import Reader
from janelia_core.ml._knn.plan.plan import Plan
from janelia_core.ml._knn.screens.codebook import cost
from janelia_core.ml._knn.screens.contract import Asked
from janelia_core.ml._runtime.workers import Workers

if TYPE_CHECKING:
    from janelia_core.ml._knn.screens.codebook.screen import PreparedBook

_LARGEST = 2.0**390  # float64 squares of more are scaled (`Frame.in_float64`)


class Codebook:
    """Many rows among few centres: a CPU."""

    name, parallel, looks = "codebook", True, False
    why_not, cost, demand = staticmethod(cost.why_not), staticmethod(cost.cost), staticmethod(cost.demand)

    def why_not_here(self, asked: Asked) -> str:
        """Look at the few centres; the pass over the rows sees what these are."""
        if asked.mask is not None:
            return "the compiled screens take no masks"
        if (is_wide(asked.x.values) or is_wide(asked.centres.points.values)) and not asked.frame.held:
            return "float64 does not hold all values"
        seen = asked.centres.seen(Reader())  # few, so that handing them out would take longer
        return "" if seen.finite and seen.largest < _LARGEST else "centres are not all of moderate magnitude"

    def key(self, place: Place, plan: Plan) -> Hashable:
        """Of copies of a centre as many stay as are wanted."""
        return plan.k

    def prepare(self, centres: Centres, place: Place, plan: Plan, workers: Workers) -> PreparedBook:
        """Put the centres into words."""
        from janelia_core.ml._knn.screens.codebook.book import may_hold_copies
        from janelia_core.ml._knn.screens.codebook.screen import PreparedBook

        points = centres.points
        if plan.sifts and may_hold_copies(points):
            points = without_spare_copies(points, plan.k, plan.workspace_bytes // 2)
        return PreparedBook(points, plan.problem.form)


CODEBOOK = Codebook()
