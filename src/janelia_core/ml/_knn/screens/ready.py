"""Lists made of all rows of a call as these meet the centres, by all workers at once: for rows too few to share out."""

from __future__ import annotations

import torch
from torch import Tensor

from janelia_core.ml._knn.contract import Candidates
from janelia_core.ml._knn.rows import Rows
from janelia_core.ml._knn.screens.contract import Lister


class Ready:
    """Hands out candidates that are there already; those of other rows, or of these times a power of two, are listed.

    Args:
        values: (r, d) rows.
        numbers: (r,) ascending row numbers.
        found: Their candidates.
        lister: Who lists others.
    """

    def __init__(self, values: Tensor, numbers: Tensor, found: Candidates, lister: Lister) -> None:
        self._values, self._numbers, self._found, self._lister = values, numbers, found, lister

    def candidates(self, rows: Rows) -> Candidates:
        """Shortlist the centres for a block of rows."""
        if torch.equal(rows.numbers, self._numbers) and self._are(rows.values, self._values):
            return self._found
        positions = torch.searchsorted(self._numbers, rows.numbers).clamp_(max=len(self._numbers) - 1)
        known = torch.equal(self._numbers[positions], rows.numbers)
        if known and self._are(rows.values, self._values[positions]):
            return self._found.rows(positions)
        return self._lister.candidates(rows)

    def _are(self, given: Tensor, own: Tensor) -> bool:
        return given.dtype == own.dtype and torch.equal(given, own)
