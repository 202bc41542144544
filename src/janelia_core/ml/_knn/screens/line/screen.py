"""The line screen: centres of one coordinate are sorted once; each row starts where it stands and walks outward.

Exactness
---------
To the left of a row x, that is below it, distances x - c rise with each step, and so they do to the right. What is
equal comes by number: for that, equal centres stand in two orders. So the answer is the merge of two sorted rows of
(distance, number), and all that is compared is x - a with b - x, for a < x <= b that float64 holds.

Each of both differences is rounded once, to s and t, and rounding keeps the order: s < t only where x - a < b - x.
Where s = t, their errors decide, which Knuth's two-sum finds exactly: x - a = s + e and b - x = t + f. It does for all
numbers whose difference does not overflow, subnormal ones included (`Frame.in_float64`). There is no doubt left.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from janelia_core.ml._knn.answers import Answers
from janelia_core.ml._knn.data.points import IN_FLOAT32, Points, as_float64
from janelia_core.ml._knn.screens.contract import Asked, Meeting
from janelia_core.ml._knn.screens.line.kernels import Line, fill_line, sort_float32, walk_rows
from janelia_core.ml._knn.screens.row_by_row import RowByRow

_NONE = np.empty(0, np.int64)


class PreparedLine:
    """Sorted centres, for any number of searches.

    Args:
        ctrs: Finite centres of one coordinate that float64 holds.
    """

    stands = True

    def __init__(self, ctrs: Points) -> None:
        n = len(ctrs)
        stored = ctrs.block(0, n)[:, 0]
        numbers = _NONE if ctrs.subset is None else ctrs.subset.numpy()
        self.line = Line(np.empty(n + 2), np.empty(2 * n + 4, np.int32), numbers)
        if stored.dtype in IN_FLOAT32:
            bits = (stored.to(torch.float32) + 0.0).contiguous().numpy().view(np.uint32)
            sort_float32(bits, np.empty(n, np.uint64), np.empty(n, np.uint64), self.line)
        else:
            values = as_float64(stored)
            fill_line(values.contiguous().numpy(), values.sort(stable=True).indices.numpy(), self.line)

    @property
    def nbytes(self) -> int:
        """What is held."""
        return self.line.values.nbytes + self.line.positions.nbytes

    def meet(self, asked: Asked) -> Meeting:
        """Let rows walk as they come."""
        return Walks(self.line, asked)


class Walks(RowByRow):
    """Rows that walk outward.

    Args:
        line: The centres.
        asked: The search.
    """

    def __init__(self, line: Line, asked: Asked) -> None:
        super().__init__(asked)
        self._line, self._k = line, asked.plan.k

    def answer(self, positions: Tensor, answers: Answers) -> Tensor:
        """Answer finite rows, one after the other as `turns` has them."""
        first, last = int(positions[0]), int(positions[-1])
        x = as_float64(self.x.block(first, last + 1))[:, 0].contiguous().numpy()
        output, doubtful = self.output(positions, answers), np.empty(len(x), np.int64)
        failed = walk_rows(x, self._line, self._k, output, doubtful)
        return positions[torch.from_numpy(doubtful[:failed])]
