"""Rows of whole numbers, in any format of vectors, as labels: `.npy`, `.ivecs`, a column of a table; -1 is none."""

from __future__ import annotations

import torch

from janelia_core.files.errors import VectorFileError
from janelia_core.files.formats.contract import VectorFile
from janelia_core.files.labels.lists import LabelFile, Lists


class IntegerLabels(LabelFile):
    """The numbers of each row."""

    def __init__(self, file: VectorFile) -> None:
        super().__init__(file.path, file.n, file.n * file.d)
        self._file = file

    def read(self, start: int, stop: int) -> Lists:
        """Return the labels of rows start .. stop - 1, counted from start."""
        values = self._file.read(start, stop)
        labels = values.to(torch.int64)
        if not torch.equal(labels.to(values.dtype), values) or (labels < -1).any():
            raise VectorFileError(self.path, f"holds numbers that are no labels in rows {start} to {stop - 1}")
        row, column = (labels >= 0).nonzero(as_tuple=True)
        return Lists.of(row, labels[row, column])

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()
