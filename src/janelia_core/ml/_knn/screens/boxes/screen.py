"""The boxes screen: lists by boxes, answers by what verifies and ranks for the Triton screen, too.

No number comes back to the host until all rows have gone through; then one: how many are in doubt.
"""

from __future__ import annotations

import torch
from torch import Tensor

from janelia_core.ml._knn.answers import Answers
from janelia_core.ml._knn.data.points import Points
from janelia_core.ml._knn.metrics.metric import DISTANCE
from janelia_core.ml._knn.screens.boxes.cost import Settings
from janelia_core.ml._knn.screens.boxes.listing import list_candidates
from janelia_core.ml._knn.screens.boxes.planted import plant
from janelia_core.ml._knn.screens.contract import Asked, Meeting
from janelia_core.ml._knn.screens.triton import launches
from janelia_core.ml._knn.screens.triton.cost import SORTED_ABOVE
from janelia_core.ml._knn.screens.triton.launches import Found
from janelia_core.ml._knn.screens.triton.sorting import sorted_found


class PreparedBoxes:
    """Centres in boxes, for any number of searches.

    Args:
        ctrs: The centres.
    """

    stands = True

    def __init__(self, ctrs: Points) -> None:
        self.ctrs, self.boxes = ctrs, plant(ctrs)
        self.nbytes = self.boxes.nbytes

    def meet(self, asked: Asked) -> Meeting:
        """Rows ask for nothing more."""
        return BoxesMeeting(self, asked)


class BoxesMeeting(Meeting):
    """Rows that are answered block by block on the device.

    Args:
        prepared: The centres.
        asked: The search.
    """

    def __init__(self, prepared: PreparedBoxes, asked: Asked) -> None:
        super().__init__(None)
        self._prepared, self._x, self._k = prepared, asked.x, asked.plan.k
        self._settings: Settings = asked.plan.own

    def sweep(self, answers: Answers) -> Tensor:
        """Answer all rows of which that can be proven; return the positions of the others."""
        x, step = self._x, self._settings.rows
        doubt = torch.empty(len(x), dtype=torch.int32, device=x.device)
        for start in range(0, len(x), step):
            part = slice(start, min(start + step, len(x)))
            found, doubt[part] = self._searched(x.block(part.start, part.stop))
            answers.put(part, found, x.row_numbers(torch.arange(part.start, part.stop, device=x.device)))
        return doubt.nonzero()[:, 0]

    def _searched(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return what was found of rows (r, k) int64, and which are in doubt (r,)."""
        boxes, ctrs, settings, k = self._prepared.boxes, self._prepared.ctrs.values, self._settings, self._k
        found = Found(*list_candidates(boxes, x, settings.shape, settings.tiles))
        values = launches.verified(x, ctrs, found, DISTANCE)
        order = launches.ranked if settings.shape.keep <= SORTED_ABOVE else sorted_found
        ordered = order(found, values, k, False)
        launches.ties_looked_at(x, ctrs, ordered, found.doubt, k, DISTANCE)
        return ordered[0][:, :k].to(torch.int64), found.doubt
