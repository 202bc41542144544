"""Labels as text, as DiskANN reads them: a line a row, labels between commas; decoded once to disk.

Labels are texts, and the same text is the same label in both files. A line without any is a row without labels.

Source: https://github.com/microsoft/DiskANN, "Filtered indices".
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np
import torch

from janelia_core.files.errors import VectorFileError
from janelia_core.files.labels.lists import LabelFile, Lists, of_rows
from janelia_core.positioned import read_at, write_all

_LONGEST = 1 << 20  # bytes of a line
_AT_A_TIME = 1 << 16  # labels


class TextLabels(LabelFile):
    """Labels numbered in the order in which they first come.

    Args:
        path: The file.
        numbers: The numbers of labels met so far; the file adds its own.
    """

    def __init__(self, path: Path, numbers: dict[str, int]) -> None:
        with tempfile.TemporaryFile(buffering=0) as ends, tempfile.TemporaryFile(buffering=0) as labels:
            n = pairs = 0
            _put(ends, [0])
            for lines in _parts(path):
                found = [[numbers.setdefault(word, len(numbers)) for word in line] for line in lines]
                _put(labels, [label for line in found for label in line])
                _put(ends, pairs + np.cumsum([len(line) for line in found]))
                n, pairs = n + len(found), pairs + sum(map(len, found))
            super().__init__(path, n, pairs)
            self._ends, self._labels = os.dup(ends.fileno()), os.dup(labels.fileno())

    def read(self, start: int, stop: int) -> Lists:
        """Return the labels of rows start .. stop - 1, counted from start."""
        ends = self._read(self._ends, start, stop - start + 1)
        first = int(ends[0])
        return of_rows(ends - first, self._read(self._labels, first, int(ends[-1]) - first))

    @staticmethod
    def _read(file: int, first: int, count: int) -> torch.Tensor:
        values = np.empty(count, dtype=np.int64)
        read_at(file, values.view(np.uint8).data, 8 * first)
        return torch.from_numpy(values)

    def close(self) -> None:
        """Let go of the files."""
        if self._ends >= 0:
            os.close(self._ends)
            os.close(self._labels)
            self._ends = -1


def _put(file: IO[bytes], values: object) -> None:
    write_all(file.fileno(), np.asarray(values, dtype=np.int64).view(np.uint8).data, None)


def _parts(path: Path) -> Iterator[list[list[str]]]:
    """Yield the labels of some lines after the other."""
    part: list[list[str]] = []
    at = held = 0
    with path.open("rb") as file:
        while line := file.readline(_LONGEST):
            if len(line) == _LONGEST:
                raise VectorFileError(path, f"has a line longer than {_LONGEST} bytes", at)
            try:
                text = line.decode("utf-8-sig" if at == 0 else "utf-8")
            except UnicodeDecodeError as error:
                raise VectorFileError(path, f"is no text: {error.reason}", at + error.start) from None
            words = [word.strip() for word in text.split(",")] if text.strip() else []
            if not all(words) or "\0" in text:
                raise VectorFileError(path, f"has an empty label in the line {text.strip()!r}", at)
            part.append(words)
            at, held = at + len(line), held + 1 + len(words)
            if held >= _AT_A_TIME:
                yield part
                part, held = [], 0
    if part:
        yield part
