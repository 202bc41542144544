"""Columns that come one after the other, turned into rows by way of a nameless file on disk."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from janelia_core.positioned import read_at, write_all


class Transposed:
    """n numbers of each of several columns; a context manager.

    Args:
        n: Rows.
        dtypes: Of the columns.
    """

    def __init__(self, n: int, dtypes: list[np.dtype[Any]]) -> None:
        self._n, self._dtypes = n, dtypes
        self._starts = np.cumsum([0] + [n * dtype.itemsize for dtype in dtypes]).tolist()
        self._filled = [0] * len(dtypes)
        self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115

    def append(self, column: int, values: npt.NDArray[Any]) -> None:
        """Put down the next numbers of a column."""
        start = self._starts[column] + self._filled[column] * self._dtypes[column].itemsize
        self._filled[column] += len(values)
        write_all(self._file.fileno(), np.ascontiguousarray(values).view(np.uint8).data, start)

    def rows(self, step: int) -> Iterator[list[npt.NDArray[Any]]]:
        """Yield the columns of `step` rows at a time, when all have come."""
        if set(self._filled) != {self._n}:
            raise ValueError(f"columns of {self._n} numbers end after {min(self._filled)}")
        for start in range(0, self._n, step):
            yield [self._piece(column, start, min(step, self._n - start)) for column in range(len(self._dtypes))]

    def _piece(self, column: int, start: int, n: int) -> npt.NDArray[Any]:
        dtype = self._dtypes[column]
        piece = np.empty(n, dtype)
        read_at(self._file.fileno(), piece.view(np.uint8).data, self._starts[column] + start * dtype.itemsize)
        return piece

    def __enter__(self) -> Transposed:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
