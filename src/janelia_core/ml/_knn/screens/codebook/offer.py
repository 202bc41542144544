"""The codebook screen as `choose` knows it."""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING

import numpy as np
import torch

from janelia_core.ml._knn.data.centres import Centres
from janelia_core.ml._knn.data.copies import without_spare_copies
from janelia_core.ml._knn.data.frame import Place
from janelia_core.ml._knn.data.points import Points, is_wide
from janelia_core.ml._knn.plan.plan import Plan
from janelia_core.ml._knn.screens.codebook import cost
from janelia_core.ml._knn.screens.contract import Asked
from janelia_core.ml._runtime.workers import Workers

if TYPE_CHECKING:
    from janelia_core.ml._knn.screens.codebook.screen import PreparedBook

_LARGEST = 2.0**390  # float64 squares of more are scaled (`Frame.in_float64`)


class Codebook:
    """Many rows among few centres: a CPU."""

    name, parallel, looks = cost.NAME, True, False
    why_not, cost, demand = staticmethod(cost.why_not), staticmethod(cost.cost), staticmethod(cost.demand)

    def why_not_here(self, asked: Asked) -> str:
        """Look at the few centres; the pass over the rows sees what these are."""
        if asked.mask is not None:
            return "the compiled screens take no masks"
        if (is_wide(asked.x.values) or is_wide(asked.centres.points.values)) and not asked.frame.held:
            return "float64 does not hold all values"
        return "" if are_moderate(asked.centres.points) else "centres are not all of moderate magnitude"

    def key(self, place: Place, plan: Plan) -> Hashable:
        """Of copies of a centre as many stay as are wanted."""
        return plan.k

    def prepare(self, centres: Centres, place: Place, plan: Plan, workers: Workers) -> PreparedBook:
        """Put the centres into words."""
        from janelia_core.ml._knn.screens.codebook.screen import PreparedBook

        points = centres.points
        if plan.sifts:
            points = without_copies(points, plan.k, plan.workspace_bytes // 2)
        return PreparedBook(points, plan.problem.form)


def without_copies(ctrs: Points, k: int, room: int) -> Points:
    """Return centres without copies that no one is answered with, as far as `room` bytes let these be found."""
    from janelia_core.ml._knn.screens.codebook.book import may_hold_copies

    return without_spare_copies(ctrs, k, room) if may_hold_copies(ctrs) else ctrs


def are_moderate(ctrs: Points) -> bool:
    """Tell whether all values are finite, and their squares in float64 too."""
    values = ctrs.block(0, len(ctrs))
    if not values.is_floating_point():
        return True
    if values.dtype in (torch.float32, torch.float64):  # few, so that torch's threads would take longer
        return float(np.abs(values.numpy()).max()) < _LARGEST
    return bool(torch.isfinite(values).all())


CODEBOOK = Codebook()
