"""The Triton screen as `choose` knows it."""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING

import torch

from janelia_core.ml._knn.data.centres import Centres
from janelia_core.ml._knn.data.frame import Place
from janelia_core.ml._knn.plan.plan import Plan
from janelia_core.ml._knn.screens.contract import Asked
from janelia_core.ml._knn.screens.rerank.reads import why_not_read
from janelia_core.ml._knn.screens.triton import cost
from janelia_core.ml._runtime.device_kernels import launched, why_no_kernels
from janelia_core.ml._runtime.workers import Workers

if TYPE_CHECKING:
    from janelia_core.ml._knn.screens.triton.screen import PreparedTriton


class TritonScreen:
    """Float16 products on matrix units: a GPU."""

    name, parallel, looks, gpu = "triton", False, False, True
    why_not, cost, demand = staticmethod(cost.why_not), staticmethod(cost.cost), staticmethod(cost.demand)

    def why_not_here(self, asked: Asked) -> str:
        """Values speak for themselves as they are packed; a tile of products is tried once in a process."""
        if why := why_not_read(asked, torch.bool):
            return why
        sound = launched(lambda: self._is_sound(asked))  # where Triton may fail to be imported, too
        return why_no_kernels() if sound is None else "" if sound else "products of this device break their bound"

    def _is_sound(self, asked: Asked) -> bool:
        from janelia_core.ml._knn.screens.triton.canary import is_sound

        return is_sound(asked.x.device, asked.plan.own)

    def key(self, place: Place, plan: Plan) -> Hashable:
        """Centres are packed for one layout of tiles."""
        return plan.own.biased, plan.own.tile.ctrs

    def prepare(self, centres: Centres, place: Place, plan: Plan, workers: Workers) -> PreparedTriton:
        """Pack the centres on their device."""
        from janelia_core.ml._knn.screens.triton.screen import PreparedTriton

        return PreparedTriton(centres.points, plan.problem.form, plan.own)


TRITON = TritonScreen()
