"""The boxes screen as `choose` knows it."""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING

from janelia_core.ml._knn.data.centres import Centres
from janelia_core.ml._knn.data.frame import Place
from janelia_core.ml._knn.plan.plan import Plan
from janelia_core.ml._knn.screens.boxes import cost
from janelia_core.ml._knn.screens.contract import Asked
from janelia_core.ml._knn.screens.rerank.reads import why_not_read
from janelia_core.ml._runtime.workers import Workers

if TYPE_CHECKING:
    from janelia_core.ml._knn.screens.boxes.screen import PreparedBoxes


class BoxesScreen:
    """Boxes of neighbouring centres, walked by tiles of neighbouring rows: few dimensions, a GPU."""

    name, parallel, looks, gpu = "boxes", False, False, True
    why_not, cost, demand = staticmethod(cost.why_not), staticmethod(cost.cost), staticmethod(cost.demand)

    def why_not_here(self, asked: Asked) -> str:
        """Rows say for themselves that their values do not suit."""
        if asked.mask is not None:
            return "boxes take no masks"
        return why_not_read(asked)

    def key(self, place: Place, plan: Plan) -> Hashable:
        """Whatever k, the boxes are the same."""
        return None

    def prepare(self, centres: Centres, place: Place, plan: Plan, workers: Workers) -> PreparedBoxes:
        """Put the centres into boxes, on their device."""
        from janelia_core.ml._knn.screens.boxes.screen import PreparedBoxes

        return PreparedBoxes(centres.points)


BOXES = BoxesScreen()
