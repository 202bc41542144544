"""The direct screen as `choose` knows it, and its lists, which are made as rows meet the centres."""

from __future__ import annotations

import math
from collections.abc import Hashable

import torch

from janelia_core.ml._knn.data.centres import Centres
from janelia_core.ml._knn.data.frame import Place
from janelia_core.ml._knn.metrics.registry import metric_named
from janelia_core.ml._knn.plan.demand import cells_asked
from janelia_core.ml._knn.plan.plan import Plan
from janelia_core.ml._knn.rows import Rows
from janelia_core.ml._knn.screens.contract import Asked, Lister, Meeting
from janelia_core.ml._knn.screens.direct import cost
from janelia_core.ml._knn.screens.ready import Ready
from janelia_core.ml._knn.screens.rungs import Rungs
from janelia_core.ml._runtime.workers import Workers

_AS_STORED, _SIFTED = "as stored", "in float64, without copies"


class PreparedDirect:
    """Nothing: centres are taken as they are stored."""

    nbytes, stands = 0, False

    def meet(self, asked: Asked) -> Meeting | None:
        """Look at all centres with all rows; None where these are of magnitudes that the bounds do not allow."""
        from janelia_core.ml._knn.data.mask_bits import BitMask
        from janelia_core.ml._knn.screens.direct.screen import DirectScreen

        plan, centres, report = asked.plan, asked.centres, asked.report
        form, width = plan.problem.form, cost.width(plan.k)
        mask = None if asked.mask is None else BitMask(asked.mask, plan.problem.m, cells_asked(plan.problem))
        screen = DirectScreen(centres.points, form, width, mask=mask)
        x = asked.x.block(0, len(asked.x))
        numbers = asked.x.row_numbers(torch.arange(len(x), device=x.device))
        swept = screen.swept(Rows(x, numbers), asked.workers)
        if math.isfinite(swept.largest):  # else whoever asks looks once more
            centres.tell(swept.largest)
        if not (swept.moderate and asked.frame.in_float64):
            report.look = "values are of extreme magnitude"
            return None
        if metric_named(plan.metric).signed and not asked.frame.ctrs_finite:
            report.look = "inner products with infinite centres may be of any sign"
            return None
        ready = Ready(x, numbers, swept.found, screen)

        def lister(name: str) -> Lister:
            if name == _AS_STORED:
                return ready
            sifted = centres
            if mask is None:  # else any copy may be the one that a row may have
                sifted = centres.without_copies(plan.k, plan.workspace_bytes // 2, Workers(1, pool=False))
            return DirectScreen(sifted.points, form, width, True, mask)

        meeting = Meeting(Rungs(lister, (_AS_STORED, _SIFTED)), compiled=True)
        meeting.brief = True
        return meeting


class Direct:
    """One pass over the centres as they are stored: few rows, a CPU."""

    name, parallel, looks = "direct", True, False
    why_not, cost, demand = staticmethod(cost.why_not), staticmethod(cost.cost), staticmethod(cost.demand)

    def why_not_here(self, asked: Asked) -> str:
        """Whatever else speaks against it, the pass over the centres sees first."""
        return ""

    def key(self, place: Place, plan: Plan) -> Hashable:
        """Nothing is made of the centres."""
        return None

    def prepare(self, centres: Centres, place: Place, plan: Plan, workers: Workers) -> PreparedDirect:
        """Nothing to do."""
        return PreparedDirect()


DIRECT = Direct()
