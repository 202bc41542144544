"""The boxes screen: lists by boxes, which are then re-ranked.

No number comes back to the host until some blocks of rows have gone through; then one: how many are
in doubt.
"""

from __future__ import annotations

import torch
from torch import Tensor

from janelia_core.ml._knn.answers import Answers
from janelia_core.ml._knn.data.points import Points
from janelia_core.ml._knn.metrics.metric import DISTANCE
from janelia_core.ml._knn.rows import parts
from janelia_core.ml._knn.screens.boxes.cost import Settings, again
from janelia_core.ml._knn.screens.boxes.listing import list_candidates
from janelia_core.ml._knn.screens.boxes.planted import Boxes, plant
from janelia_core.ml._knn.screens.contract import Asked, Meeting
from janelia_core.ml._knn.screens.rerank.found import Found, reranked
from janelia_core.ml._knn.screens.rerank.sweeping import Sweeping
from janelia_core.ml._runtime.device_kernels import launched, why_no_kernels


class PreparedBoxes:
    """Centres in boxes, for any number of searches.

    Args:
        ctrs: The centres.
    """

    stands = True

    def __init__(self, ctrs: Points) -> None:
        self.ctrs = ctrs
        self.boxes = launched(lambda: plant(ctrs))
        self.nbytes = 0 if self.boxes is None else self.boxes.nbytes

    def meet(self, asked: Asked) -> Meeting | None:
        """Rows ask for nothing more."""
        if self.boxes is None:
            asked.report.look = why_no_kernels()
            return None
        return BoxesMeeting(self.ctrs, self.boxes, asked)


class BoxesMeeting(Sweeping):
    """Rows that are answered block by block on the device.

    Args:
        ctrs: The centres.
        boxes: What they are in.
        asked: The search.
    """

    def __init__(self, ctrs: Points, boxes: Boxes, asked: Asked) -> None:
        self._settings: Settings = asked.plan.own
        super().__init__(asked, self._settings.rows)
        self._ctrs, self._boxes = ctrs, boxes

    def swept(self, first: int, last: int, answers: Answers) -> Tensor:
        """Answer rows of some blocks; return who is in doubt."""
        x = self._x
        doubt = torch.empty(last - first, dtype=torch.int32, device=x.device)
        for part in self.blocks(first, last):
            here = slice(part.start - first, part.stop - first)
            found, doubt[here] = self._searched(x.block(part.start, part.stop), self._settings)
            answers.put(part, found, self.numbers(part) if answers.but_self else None)
        left = doubt.nonzero()[:, 0]
        return left if len(left) == 0 else self._once_more(left + first, answers)

    def _once_more(self, left: Tensor, answers: Answers) -> Tensor:
        """Search rows again whose lists were full, or anything else; return who is in doubt still."""
        wide, still = again(self._settings, len(self._ctrs)), []
        for part in parts(len(left), wide.rows):
            numbers = self._x.row_numbers(left[part])
            found, doubt = self._searched(self._x.take(numbers), wide)
            answers.put(left[part], found, numbers)
            still.append(left[part][doubt != 0])
        return torch.cat(still)

    def _searched(self, x: Tensor, settings: Settings) -> tuple[Tensor, Tensor]:
        """Return what was found of rows (r, k) int64, and which are in doubt (r,)."""
        ctrs, k = self._ctrs.values, self._k
        found = Found(*list_candidates(self._boxes, x, settings.shape, settings.tiles))
        return reranked(x, ctrs, found, k, DISTANCE), found.doubt
