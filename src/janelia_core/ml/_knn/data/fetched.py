"""Stored centres that were fetched from where they are, looked up by their numbers."""

from __future__ import annotations

import torch
from torch import Tensor

from janelia_core.ml._knn.data.points import picked_rows

_CHUNK = 1 << 17  # coordinates that settle holds at a time


class Fetched:
    """Stored centres as `settle` asks for them (`Stored`).

    Args:
        numbers: (n,) int64, ascending.
        values: (n, d) the centres.
    """

    chunk = _CHUNK

    def __init__(self, numbers: Tensor, values: Tensor) -> None:
        self._numbers, self._values = numbers, values
        self.d, self.device = values.shape[1], values.device

    def take(self, row_numbers: Tensor) -> Tensor:
        """Return the centres with these numbers (any shape of int64): row_numbers.shape + (d,)."""
        return picked_rows(self._values, torch.searchsorted(self._numbers, row_numbers.to(self.device).contiguous()))
