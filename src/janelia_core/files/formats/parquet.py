"""`.parquet`: one column of lists of equal length, or numeric columns of one table. Decoded once to disk.

Needs pyarrow, of the extra `files`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from janelia_core.extras import import_extra
from janelia_core.files.errors import VectorFileError
from janelia_core.files.formats.contract import Arrays, Format, VectorFile, as_numpy, first, numpy_dtype
from janelia_core.files.formats.named import choose
from janelia_core.files.formats.raw import torch_dtype
from janelia_core.files.formats.spool import spooled

_ROWS = 4096


def open_parquet(path: Path, name: str | None, preferred: tuple[str, ...]) -> VectorFile:
    """Open the list column `name` (or the only one), or all columns of a table that has numeric ones only."""
    arrow = import_extra("pyarrow", "files")
    parquet = import_extra("pyarrow.parquet", "files")
    try:
        with parquet.ParquetFile(path, memory_map=False, pre_buffer=False, buffer_size=1 << 20) as file:
            return _decoded(arrow, path, file, name, preferred)
    except (VectorFileError, FileNotFoundError):
        raise
    except Exception as error:  # ArrowException and the OSError, ValueError, ... that pyarrow mixes with it
        raise VectorFileError(path, f"is no sound parquet file: {error}") from error


def _decoded(arrow: Any, path: Path, file: Any, name: str | None, preferred: tuple[str, ...]) -> VectorFile:
    schema = file.schema_arrow
    lists = [field.name for field in schema if _is_list(arrow, field.type)]
    if lists or name is not None:
        columns = [choose(path, lists, name, preferred)]
        dtype = _dtype(arrow, schema.field(columns[0]).type.value_type)
    else:
        columns = schema.names
        dtype = np.result_type(*[_dtype(arrow, field.type) for field in schema] or [np.dtype("O")])
    torch_dtype(path, dtype)
    batches = file.iter_batches(_ROWS, columns=columns, use_threads=False)
    arrays = _arrays(path, batches, dtype, bool(lists))
    head = next(arrays, None)
    if head is None or head.shape[1] < 1:
        raise VectorFileError(path, "has no rows, or rows without columns")
    d = head.shape[1]
    expected = file.metadata.num_rows * d * dtype.itemsize
    return spooled(path, d, dtype, _of_width(path, d, head, arrays), expected)


def _dtype(arrow: Any, kind: Any) -> np.dtype[Any]:
    """Return what NumPy makes of a column; older pyarrow wants pandas for `to_pandas_dtype`."""
    dtype: np.dtype[Any] = arrow.array([], kind).to_numpy(zero_copy_only=False).dtype
    return dtype


def _is_list(arrow: Any, kind: Any) -> bool:
    return bool(arrow.types.is_list(kind) or arrow.types.is_large_list(kind) or arrow.types.is_fixed_size_list(kind))


def _arrays(path: Path, batches: Any, dtype: Any, lists: bool) -> Iterator[npt.NDArray[Any]]:
    at = 0
    for batch in batches:
        if any(column.null_count for column in batch.columns):
            raise VectorFileError(path, f"misses values in rows {at} to {at + len(batch) - 1}")
        if lists:
            flat = batch.column(0).flatten()
            if flat.null_count or (len(batch) and len(flat) % len(batch)) or not _even(batch.column(0), flat):
                raise VectorFileError(path, f"rows {at} to {at + len(batch) - 1} hold lists of different lengths")
            yield _exactly(path, flat, dtype).reshape(len(batch), -1)
        else:
            yield np.stack([_exactly(path, column, dtype) for column in batch.columns], axis=1)
        at += len(batch)


def _exactly(path: Path, column: Any, dtype: Any) -> npt.NDArray[Any]:
    """Return a column in the dtype common to all of them, which must not round its integers."""
    stored = column.to_numpy(zero_copy_only=False)
    values: npt.NDArray[Any] = stored.astype(dtype)
    if values.dtype.kind != stored.dtype.kind and not (values.astype(stored.dtype) == stored).all():
        raise VectorFileError(path, f"mixes floats with {stored.dtype} values that {dtype} cannot hold")
    return values


def _even(column: Any, flat: Any) -> bool:
    """Tell whether all lists of a column have the same length."""
    lengths = column.value_lengths().to_numpy(zero_copy_only=False)
    return len(lengths) == 0 or bool((lengths == len(flat) // len(lengths)).all())


def _of_width(
    path: Path, d: int, head: npt.NDArray[Any], others: Iterator[npt.NDArray[Any]]
) -> Iterator[npt.NDArray[Any]]:
    yield head
    for array in others:
        if array.shape[1] != d:
            raise VectorFileError(path, f"holds lists of {d} and of {array.shape[1]} numbers")
        yield array


def write_parquet(path: Path, arrays: Arrays) -> None:
    """Write every array as a column of lists of fixed length."""
    arrow = import_extra("pyarrow", "files")
    parquet = import_extra("pyarrow.parquet", "files")
    types = {name: arrow.list_(arrow.from_numpy_dtype(numpy_dtype(rows)), rows.d) for name, rows in arrays.items()}
    schema = arrow.schema(list(types.items()))
    n = first(arrays).n
    with parquet.ParquetWriter(path, schema) as writer:
        for start in range(0, n, _ROWS):
            flat = [as_numpy(rows.read(start, min(start + _ROWS, n))).reshape(-1) for rows in arrays.values()]
            columns = [
                arrow.FixedSizeListArray.from_arrays(arrow.array(values), rows.d)
                for values, rows in zip(flat, arrays.values(), strict=True)
            ]
            writer.write_table(arrow.table(columns, schema=schema))


PARQUET = Format(open_parquet, write_parquet, several=True, writer="pyarrow.parquet")
