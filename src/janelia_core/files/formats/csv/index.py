"""Columns of a `.csv` that number its rows: left out where their names say so, refused where only their values do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from janelia_core.files.errors import VectorFileError
from janelia_core.files.formats.csv.fields import Field
from janelia_core.files.formats.csv.names import REMEDY, Head

_FEW = 3  # rows whose first numbers may count by chance


class RowNumbers:
    """Watches the columns in front while the rows go by.

    Attributes:
        d: Columns that are left.

    Args:
        path: The table.
        head: What its first line says.
        fields: Those of the first line of numbers.
        asked: A caller said what the first line is, so that a column that merely looks like numbers of rows is none.
    """

    def __init__(self, path: Path, head: Head, fields: list[Field], asked: bool) -> None:
        self._path, self._named, self._nameless = path, head.numbering, head.nameless
        self.d = len(fields) - head.numbering
        if self.d < 1:
            raise VectorFileError(path, "has no column beside the numbers of its rows")
        if head.perhaps and not asked:
            reason = f"column {head.numbering + 1}, {head.perhaps!r}, numbers rows by its name"
            reason = f"{reason}; write the table without it"
            raise VectorFileError(path, f"{reason}, or, if it is a coordinate, say --header (in Python header=True)")
        digits = self.d > 1 and fields[head.numbering].text in {"0", "1"}
        self._counts = digits and (head.nameless or not asked)  # the first column that is left, so far
        self._fractions = False
        self._first = [field.text == "1" for field in fields[: head.numbering + 1]]  # count from 0 or from 1
        self._n = 0

    def left_out(self, block: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Return the rows that come next without the columns that number them."""
        numbers = np.arange(self._n, self._n + len(block))
        self._n += len(block)
        for at in range(self._named):
            other = np.flatnonzero(block[:, at] != numbers + self._first[at])
            if len(other):
                reason = f"column {at + 1} is an index by its name, but does not count: {block[other[0], at]:.17g}"
                reason = f"{reason} in row {numbers[other[0]]}"
                raise VectorFileError(self._path, f"{reason}; write the table without it, or give it another name")
        if self._counts:
            self._counts = np.array_equal(block[:, self._named], numbers + self._first[-1])
            others = block[:, self._named + 1 :]
            self._fractions = self._fractions or bool((others != np.floor(others)).any())
        return block[:, self._named :]

    def ended(self) -> None:
        """Refuse a table whose first column counted to the end, beside fractions, and nobody said that it is one."""
        column = f"column {self._named + 1} counts the rows"
        if self._counts and self._nameless:
            raise VectorFileError(self._path, f"{column} and has no name; write the table without it")
        if self._counts and self._fractions and self._n >= _FEW:
            raise VectorFileError(self._path, f"{column}; write the table without it, or, if it is meant, {REMEDY}")
