"""`.spmat`: a sparse matrix in rows (CSR), little-endian: a row's labels are its columns that hold a number.

Three int64: rows, columns, numbers; int64 where each row's numbers begin, and the end (rows + 1); int32 column of each
number; float32 numbers.

Source: read_sparse_matrix in benchmark/dataset_io.py of https://github.com/harsha-simhadri/big-ann-benchmarks, whose
filtered track keeps its labels so (base.metadata.10M.spmat).
"""

from __future__ import annotations

import os
import struct
from pathlib import Path

import numpy as np
import torch

from janelia_core.files.errors import VectorFileError
from janelia_core.files.labels.lists import LabelFile, Lists, of_rows
from janelia_core.positioned import read_at

_HEAD = struct.Struct("<qqq")


class SparseLabels(LabelFile):
    """The columns of a sparse matrix, read where they stand."""

    def __init__(self, path: Path) -> None:
        size = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(_HEAD.size)
        if len(head) < _HEAD.size:
            raise VectorFileError(path, f"ends within its header of {_HEAD.size} bytes", 0)
        n, columns, pairs = _HEAD.unpack(head)
        if min(n, columns, pairs) < 0 or columns > 2**31:
            raise VectorFileError(path, f"says that it has {n} rows, {columns} columns and {pairs} numbers", 0)
        self._ends = _HEAD.size
        self._columns = self._ends + 8 * (n + 1)
        if size != self._columns + 8 * pairs:
            expected = self._columns + 8 * pairs
            raise VectorFileError(
                path, f"should have {expected} bytes for {n} rows of {pairs} labels, but has {size}", 0
            )
        super().__init__(path, n, pairs)
        self._n_columns = columns
        self._fd = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))

    def read(self, start: int, stop: int) -> Lists:
        """Return the labels of rows start .. stop - 1, counted from start."""
        ends = self._read(self._ends + 8 * start, stop - start + 1, "<i8")
        sound = bool((np.diff(ends) >= 0).all()) and ends[0] >= 0 and ends[-1] <= self.n_pairs
        if not sound:
            raise VectorFileError(
                self.path, f"rows {start} to {stop - 1} begin where no row can", self._ends + 8 * start
            )
        first, last = int(ends[0]), int(ends[-1])
        labels = self._read(self._columns + 4 * first, last - first, "<i4")
        if len(labels) and not (labels.min() >= 0 and labels.max() < self._n_columns):
            raise VectorFileError(
                self.path, f"rows {start} to {stop - 1} have columns outside of 0 to {self._n_columns - 1}"
            )
        return of_rows(torch.from_numpy(ends - first), torch.from_numpy(labels))

    def _read(self, at: int, count: int, dtype: str) -> np.ndarray:
        values = np.empty(count, dtype=dtype)
        if read_at(self._fd, values.view(np.uint8).data, at) < values.nbytes:
            raise VectorFileError(self.path, "has become shorter while it was read", at)
        return values.astype(np.int64)

    def close(self) -> None:
        """Let go of the file."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
