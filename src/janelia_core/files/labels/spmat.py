"""`.spmat`: a sparse matrix in rows (CSR), little-endian: a row's labels are its columns that hold a number.

Three int64: rows, columns, numbers; int64 where each row's numbers begin, and the end (rows + 1); int32 column of each
number; float32 numbers.

Source: read_sparse_matrix in benchmark/dataset_io.py of https://github.com/harsha-simhadri/big-ann-benchmarks, whose
filtered track keeps its labels so (base.metadata.10M.spmat).
"""

from __future__ import annotations

import struct
from pathlib import Path

from janelia_core.files.errors import VectorFileError
from janelia_core.files.formats.raw import RawVectors
from janelia_core.files.labels.compressed import CompressedLabels

_HEAD = struct.Struct("<qqq")


def open_spmat(path: Path) -> CompressedLabels:
    """Open the columns of a sparse matrix."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(_HEAD.size)
    if len(head) < _HEAD.size:
        raise VectorFileError(path, f"ends within its header of {_HEAD.size} bytes", 0)
    n, columns, pairs = _HEAD.unpack(head)
    if min(n, columns, pairs) < 0 or columns > 2**31:
        raise VectorFileError(path, f"says that it has {n} rows, {columns} columns and {pairs} numbers", 0)
    at = _HEAD.size + 8 * (n + 1)
    if size != at + 8 * pairs:
        expected = at + 8 * pairs
        raise VectorFileError(path, f"should have {expected} bytes for {n} rows of {pairs} labels, but has {size}", 0)
    ends = RawVectors(path, _HEAD.size, n + 1, 1, "<i8")
    return CompressedLabels(path, ends, RawVectors(path, at, pairs, 1, "<i4"), columns, at=_HEAD.size)
