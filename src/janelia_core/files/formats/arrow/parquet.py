"""`.parquet`: one column of lists of equal length, or numeric columns of one table. Decoded once to disk.

What is decoded at a time follows from what the file's metadata and pages say, checked before. Needs pyarrow, of the
extra `files`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from janelia_core.extras import import_extra
from janelia_core.files.errors import VectorFileError
from janelia_core.files.formats.arrow.parquet_pages import Chunk, decoding, row_groups
from janelia_core.files.formats.arrow.table import Columns, coordinates, exactly, too_large, written_batches
from janelia_core.files.formats.arrow.transposed import Transposed
from janelia_core.files.formats.contract import OPENING, Arrays, Format, VectorFile
from janelia_core.files.formats.spool import spooled

_BUFFER = 1 << 16
_ROWS = 4096
_HELD = 8  # times its numbers that a batch takes: levels of lists, pyarrow's growth, a copy as array
_PAGES = 8 << 20  # bytes that pages may take at least: writers make them of 1 MiB, with a dictionary as large
_FOOTER = 4  # times the memory that a footer may have: its objects are freed before rows are read


def open_parquet(path: Path, name: str | None, preferred: tuple[str, ...], *, memory: int = OPENING) -> VectorFile:
    """Open the list column `name` (or the only one), or all columns of a table that has numeric ones only."""
    arrow = import_extra("pyarrow", "files")
    parquet = import_extra("pyarrow.parquet", "files")
    try:
        footer = _footer(path, memory)
        # a file that is open, as pyarrow knows no names that are not UTF-8
        with (
            path.open("rb", buffering=0) as opened,
            parquet.ParquetFile(opened, pre_buffer=False, buffer_size=_BUFFER) as file,
        ):
            return _Table(path, file, coordinates(path, file.schema_arrow, name, preferred), footer, memory).spooled()
    except (VectorFileError, FileNotFoundError):
        raise
    except Exception as error:  # ArrowException and the OSError, ValueError, ... that pyarrow mixes with it
        raise VectorFileError(path, f"is no sound parquet file: {error}") from error
    finally:
        arrow.default_memory_pool().release_unused()


def _footer(path: Path, memory: int) -> bytes:
    with path.open("rb") as file:
        size = file.seek(0, 2)
        if size < 12:
            raise VectorFileError(path, f"is no sound parquet file: it has {size} bytes")
        file.seek(size - 8)
        length = int.from_bytes(file.read(4), "little")
        if length > max(_PAGES, _FOOTER * memory):
            raise too_large(path, "its footer", length, memory)
        if length > size - 12:
            raise VectorFileError(path, f"is no sound parquet file: its footer of {length} bytes is longer than itself")
        file.seek(size - 8 - length)
        return file.read(length)


class _Table:
    """An open file, of which some columns are read."""

    def __init__(self, path: Path, file: Any, columns: Columns, footer: bytes, memory: int) -> None:
        self._path, self._file, self._columns = path, file, columns
        self._pages = max(_PAGES, 4 * memory)
        self._groups = row_groups(footer, _chunk_numbers(file.schema_arrow, columns))
        self.n = sum(group.n for group in self._groups)
        self.d = self._width() if columns.lists else len(columns.names)
        row = self.d * columns.dtype.itemsize
        if row * _HELD > max(memory, self._pages):
            raise too_large(path, f"a row of {self.d} numbers", row * _HELD, max(memory, self._pages))
        self._step = max(1, min(_ROWS, memory // (row * _HELD)))

    def _width(self) -> int:
        """Return the length of the lists, by the number of values in each row group."""
        widths: set[float] = set() if self._columns.length is None else {self._columns.length}
        for at, group in enumerate(self._groups):
            if group.n:
                widths.add(group.chunks[0].values / group.n)
            if len(widths) > 1 or any(width % 1 for width in widths):
                first = sum(before.n for before in self._groups[:at])
                rows = f"rows {first} to {first + group.n - 1}"
                raise VectorFileError(self._path, f"{rows} hold lists of different lengths, or misses values")
        return int(widths.pop()) if widths else 0

    def spooled(self) -> VectorFile:
        """Decode all rows to disk."""
        if self.n < 1 or self.d < 1:
            raise VectorFileError(self._path, "has no rows, or rows without columns")
        dtype = self._columns.dtype
        return spooled(self._path, self.d, dtype, self._rows(), self.n * self.d * dtype.itemsize)

    def _rows(self) -> Iterator[npt.NDArray[Any]]:
        with self._path.open("rb") as file:
            held = [[self._held(file, chunk) for chunk in group.chunks] for group in self._groups]
        start = 0
        for at, (group, sizes) in enumerate(zip(self._groups, held, strict=True)):
            strips = _strips(sizes, self._pages)
            if len(strips) <= 1:
                for columns in self._batches(at, start, self._columns.names):
                    yield self._joined(columns)
            else:
                dtypes = [np.dtype(kind.to_pandas_dtype()) for kind in self._columns.types]
                with Transposed(group.n, dtypes) as transposed:
                    for strip in strips:
                        for columns in self._batches(at, start, [self._columns.names[column] for column in strip]):
                            for column, values in zip(strip, columns, strict=True):
                                transposed.append(column, values)
                    yield from map(self._joined, transposed.rows(self._step))
            start += group.n

    def _held(self, file: BinaryIO, chunk: Chunk) -> int:
        """Return what decoding a column of a row group takes, beside its batches."""
        size = decoding(file, chunk)
        if size > self._pages:
            raise too_large(self._path, f"a page of the column at byte {chunk.at}", size, self._pages)
        return size + _BUFFER

    def _batches(self, group: int, start: int, names: list[str]) -> Iterator[list[npt.NDArray[Any]]]:
        """Yield columns of a row group, a few rows at a time."""
        at = start
        for batch in self._file.iter_batches(self._step, row_groups=[group], columns=names, use_threads=False):
            rows = f"rows {at} to {at + len(batch) - 1}"
            columns = [batch.column(batch.schema.get_field_index(name)) for name in names]
            columns = [getattr(column, "storage", column) for column in columns]
            if any(column.null_count for column in columns):
                raise VectorFileError(self._path, f"misses values in {rows}")
            if self._columns.lists:
                lengths = columns[0].value_lengths().to_numpy(zero_copy_only=False)
                if (lengths != self.d).any():
                    raise VectorFileError(self._path, f"{rows} hold lists of different lengths")
                columns = [columns[0].flatten()]
                if columns[0].null_count:
                    raise VectorFileError(self._path, f"misses values in {rows}")
            yield [column.to_numpy(zero_copy_only=False) for column in columns]
            at += len(batch)
        if at - start != self._groups[group].n:
            raise VectorFileError(self._path, f"row group {group} has {at - start} rows, not {self._groups[group].n}")

    def _joined(self, columns: list[npt.NDArray[Any]]) -> npt.NDArray[Any]:
        if self._columns.lists:
            return columns[0].reshape(-1, self.d)
        return np.stack([exactly(self._path, column, self._columns.dtype) for column in columns], axis=1)


def _chunk_numbers(schema: Any, columns: Columns) -> list[int]:
    """Return the numbers of the columns among those that are stored, of which a struct has several."""

    def leaves(kind: Any) -> int:
        kind = getattr(kind, "storage_type", kind)
        return sum(leaves(kind.field(at).type) for at in range(kind.num_fields)) if kind.num_fields else 1

    before = np.cumsum([0] + [leaves(field.type) for field in schema]).tolist()
    return [before[place] for place in columns.places]


def _strips(sizes: list[int], most: int) -> list[list[int]]:
    """Return which columns are decoded together, so that their pages take at most so many bytes."""
    strips: list[list[int]] = []
    taken = most
    for column, size in enumerate(sizes):
        if not strips or taken + size > most:
            strips.append([])
            taken = 0
        strips[-1].append(column)
        taken += size
    return strips


def write_parquet(path: Path, arrays: Arrays) -> None:
    """Write every array as a column of lists of fixed length."""
    arrow = import_extra("pyarrow", "files")
    parquet = import_extra("pyarrow.parquet", "files")
    schema, batches = written_batches(arrays)
    # a dictionary takes ten times the room of the numbers, of which few are equal
    with path.open("wb") as file, parquet.ParquetWriter(file, schema, use_dictionary=False) as writer:
        for batch in batches:
            writer.write_table(arrow.Table.from_batches([batch]))  # write_batch would keep them
    arrow.default_memory_pool().release_unused()


PARQUET = Format(open_parquet, write_parquet, several=True, writer="pyarrow.parquet", options=("memory",))
