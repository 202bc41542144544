"""The boxes screen as `choose` knows it."""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING

import torch

from janelia_core.ml._knn.data.centres import Centres
from janelia_core.ml._knn.data.frame import Place
from janelia_core.ml._knn.plan.plan import Plan
from janelia_core.ml._knn.screens.boxes import cost
from janelia_core.ml._knn.screens.contract import Asked
from janelia_core.ml._knn.screens.rerank.cost import MOST_ROWS
from janelia_core.ml._runtime.workers import Workers

if TYPE_CHECKING:
    from janelia_core.ml._knn.screens.boxes.screen import PreparedBoxes

_DTYPES = (
    torch.float32, torch.float64, torch.float16, torch.bfloat16,
    torch.int8, torch.int16, torch.int32, torch.int64, torch.uint8,
)  # fmt: skip


class BoxesScreen:
    """Boxes of neighbouring centres, walked by tiles of neighbouring rows: few dimensions, a GPU."""

    name, parallel, looks, gpu = "boxes", False, False, True
    why_not, cost, demand = staticmethod(cost.why_not), staticmethod(cost.cost), staticmethod(cost.demand)

    def why_not_here(self, asked: Asked) -> str:
        """Rows say for themselves that their values do not suit."""
        if asked.mask is not None:
            return "boxes take no masks"
        for values in (asked.x.values, asked.centres.points.values):
            if values.dtype not in _DTYPES:
                return f"its kernels do not read {values.dtype}"
        if len(asked.centres.points.values) > MOST_ROWS:
            return "its kernels know rows by 32-bit numbers"
        return ""

    def key(self, place: Place, plan: Plan) -> Hashable:
        """Whatever k, the boxes are the same."""
        return None

    def prepare(self, centres: Centres, place: Place, plan: Plan, workers: Workers) -> PreparedBoxes:
        """Put the centres into boxes, on their device."""
        from janelia_core.ml._knn.screens.boxes.screen import PreparedBoxes

        return PreparedBoxes(centres.points)


BOXES = BoxesScreen()
