"""Rows that a kernel answers one after the other, or leaves in doubt: of these nothing is listed."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from janelia_core.ml._knn.answers import Answers, memory_of
from janelia_core.ml._knn.contract import Candidates
from janelia_core.ml._knn.rows import Rows
from janelia_core.ml._knn.screens.contract import Asked, Lister, Meeting
from janelia_core.ml._knn.screens.output import Output
from janelia_core.ml._knn.screens.rungs import Rungs

_NONE = np.empty(0, np.int64)


class Nothing:
    """Lists nothing: rows in doubt are searched among every centre."""

    def candidates(self, rows: Rows) -> Candidates:
        """Tell nothing."""
        n = len(rows.values)
        nobody = torch.full((n, 1), -1, dtype=torch.int64, device="cpu")
        return Candidates(nobody, torch.full((n,), -torch.inf, dtype=torch.float64, device="cpu"))


def without_lists() -> Rungs[Lister]:
    """Return the rungs of a meeting that lists nothing."""
    nothing: Lister = Nothing()
    return Rungs(lambda _: nothing)


class RowByRow(Meeting):
    """Rows as they come.

    Args:
        asked: The search.
    """

    def __init__(self, asked: Asked) -> None:
        super().__init__(without_lists())
        self.x = asked.x

    def turns(self) -> Iterator[Tensor | None]:
        """Yield all rows as they come."""
        yield torch.arange(len(self.x))

    def output(self, positions: Tensor, answers: Answers) -> Output:
        """Return where the answers of rows go."""
        own = self.x.row_numbers(positions).numpy() if answers.but_self else _NONE
        return Output(*memory_of(answers.out), positions.numpy(), own)
