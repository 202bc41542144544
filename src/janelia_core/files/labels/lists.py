"""Lists of labels, row after row, read a block at a time."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

import torch
from torch import Tensor


class Lists(NamedTuple):
    """The labels of r rows.

    Attributes:
        row: (p,) int64, ascending: 0 <= row < r.
        label: (p,) int64, ascending within a row, none twice.
    """

    row: Tensor
    label: Tensor

    @classmethod
    def of(cls, row: Tensor, label: Tensor) -> Lists:
        """Put pairs of a row and a label in order, each once."""
        if len(row) == 0:
            return cls(row, label)
        by_label = label.argsort(stable=True)
        order = by_label[row[by_label].argsort(stable=True)]
        row, label = row[order], label[order]
        new = torch.ones(len(row), dtype=torch.bool)
        new[1:] = (row[1:] != row[:-1]) | (label[1:] != label[:-1])
        return cls(row[new], label[new])


class LabelFile(ABC):
    """An open file of labels; no more of it is in memory than what was asked for last.

    Attributes:
        path: The file.
        n: Number of rows.
        n_pairs: Labels of all rows together.
        named: Its labels stand for texts.
    """

    named = False

    def __init__(self, path: Path, n: int, n_pairs: int) -> None:
        self.path, self.n, self.n_pairs = path, n, n_pairs

    @abstractmethod
    def read(self, start: int, stop: int) -> Lists:
        """Return the labels of rows start .. stop - 1, counted from start."""

    @abstractmethod
    def close(self) -> None:
        """Let go of the file."""

    def __enter__(self) -> LabelFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
