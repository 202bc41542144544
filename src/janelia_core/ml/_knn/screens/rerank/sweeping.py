"""Rows that a screen on a GPU answers block by block, all there, and of which the host is then told who is in doubt."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from janelia_core.ml._knn.answers import Answers
from janelia_core.ml._knn.rows import parts
from janelia_core.ml._knn.screens.contract import Asked, Meeting
from janelia_core.ml._knn.screens.rerank.cost import TOGETHER
from janelia_core.ml._knn.screens.row_by_row import without_lists
from janelia_core.ml._runtime.device_kernels import launched, why_no_kernels


class Sweeping(Meeting, ABC):
    """Prepared centres on a GPU and the rows of one call.

    Args:
        asked: The search.
        step: Rows of a block.

    Attributes:
        lists: Torch operations list what rows in doubt want.
    """

    lists = False

    def __init__(self, asked: Asked, step: int) -> None:
        super().__init__(without_lists())
        self._x, self._k, self._step, self._report = asked.x, asked.plan.k, step, asked.report

    @abstractmethod
    def swept(self, first: int, last: int, answers: Answers) -> Tensor:
        """Answer rows first .. last - 1, some blocks, without waiting between these; return who is in doubt."""
        ...

    def sweep(self, answers: Answers) -> Tensor:
        """Answer all rows of which that can be proven; return the positions of the others."""
        left = launched(lambda: self._swept(answers))
        if left is None:
            self._report.look = why_no_kernels()
            return torch.arange(len(self._x), device=self._x.device)
        return left

    def _swept(self, answers: Answers) -> Tensor:
        some = parts(len(self._x), self._step * TOGETHER)
        left = [self.swept(one.start, min(one.stop, len(self._x)), answers) for one in some]
        return left[0] if len(left) == 1 else torch.cat(left)

    def blocks(self, first: int, last: int) -> list[slice]:
        """Return the blocks of rows first .. last - 1."""
        return [slice(part.start, min(part.stop, last)) for part in parts(last, self._step, first)]

    def numbers(self, part: slice) -> Tensor:
        """Return what the rows of a block are called."""
        return self._x.row_numbers(torch.arange(part.start, part.stop, device=self._x.device))
