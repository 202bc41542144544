"""Labels row after row, and where each row's begin: two arrays of a file, read where they stand."""

from __future__ import annotations

from pathlib import Path

import torch

from janelia_core.files.errors import VectorFileError
from janelia_core.files.formats.raw import RawVectors
from janelia_core.files.labels.lists import LabelFile, Lists


class CompressedLabels(LabelFile):
    """Compressed rows of labels.

    Args:
        path: The file, for messages.
        ends: (n + 1, 1) int64: where the labels of each row begin, and the end.
        labels: (n_pairs, 1) integers.
        most: Labels are below this.
        at: The byte of the file where the ends begin.
        named: They stand for texts.
    """

    def __init__(
        self, path: Path, ends: RawVectors, labels: RawVectors, most: int, *, at: int = 0, named: bool = False
    ) -> None:
        super().__init__(path, ends.n - 1, labels.n)
        self._ends, self._labels, self._most, self._at, self.named = ends, labels, most, at, named

    def read(self, start: int, stop: int) -> Lists:
        """Return the labels of rows start .. stop - 1, counted from start."""
        ends = self._ends.read(start, stop + 1)[:, 0]
        counts, first, last = ends.diff(), int(ends[0]), int(ends[-1])
        if first < 0 or last > self.n_pairs or bool((counts < 0).any()):
            raise VectorFileError(self.path, f"rows {start} to {stop - 1} begin where no row can", self._at + 8 * start)
        labels = self._labels.read(first, last)[:, 0].long()
        if len(labels) and not (labels.min() >= 0 and labels.max() < self._most):
            raise VectorFileError(
                self.path, f"rows {start} to {stop - 1} have columns outside of 0 to {self._most - 1}"
            )
        return Lists.of(torch.repeat_interleave(torch.arange(stop - start), counts), labels)

    def close(self) -> None:
        """Let go of the file."""
        self._ends.close()
        self._labels.close()
