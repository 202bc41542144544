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
from janelia_core.ml._knn.screens.rerank.cost import TOGETHER
from janelia_core.ml._knn.screens.rerank.found import Found, reranked
from janelia_core.ml._knn.screens.row_by_row import without_lists
from janelia_core.ml._runtime.device_kernels import launched


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
            asked.report.look = "its kernels do not compile here"
            return None
        return BoxesMeeting(self.ctrs, self.boxes, asked)


class BoxesMeeting(Meeting):
    """Rows that are answered block by block on the device.

    Args:
        ctrs: The centres.
        boxes: What they are in.
        asked: The search.

    Attributes:
        lists: Torch operations list what rows in doubt want.
    """

    lists = False

    def __init__(self, ctrs: Points, boxes: Boxes, asked: Asked) -> None:
        super().__init__(without_lists())
        self._ctrs, self._boxes, self._x, self._k = ctrs, boxes, asked.x, asked.plan.k
        self._settings: Settings = asked.plan.own

    def sweep(self, answers: Answers) -> Tensor:
        """Answer all rows of which that can be proven; return the positions of the others."""
        left = launched(lambda: self._swept(answers))
        return torch.arange(len(self._x), device=self._x.device) if left is None else left

    def _swept(self, answers: Answers) -> Tensor:
        some = parts(len(self._x), self._settings.rows * TOGETHER)
        left = [self._swept_together(one.start, min(one.stop, len(self._x)), answers) for one in some]
        return left[0] if len(left) == 1 else torch.cat(left)

    def _swept_together(self, first: int, last: int, answers: Answers) -> Tensor:
        """Answer some blocks of rows without waiting; return who is in doubt."""
        x, settings, step = self._x, self._settings, self._settings.rows
        doubt = torch.empty(last - first, dtype=torch.int32, device=x.device)
        for start in range(first, last, step):
            part = slice(start, min(start + step, last))
            found, doubt[start - first : part.stop - first] = self._searched(x.block(part.start, part.stop), settings)
            answers.put(part, found, x.row_numbers(torch.arange(part.start, part.stop, device=x.device)))
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
