"""`.arrow`, `.feather`: record batches, as a file or as the stream that Hugging Face writes. Decoded once to disk.

Columns mean what they mean in `.parquet`. Record batches of any size are read piece by piece. Needs pyarrow, of the
extra `files`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from janelia_core.extras import import_extra
from janelia_core.files.errors import VectorFileError
from janelia_core.files.formats.arrow.messages import BIG_ENDIAN, Batch, Column, of_big_endian, of_file, of_stream
from janelia_core.files.formats.arrow.numbers import Numbers
from janelia_core.files.formats.arrow.table import Columns, coordinates, exactly, plain, too_large, written_batches
from janelia_core.files.formats.arrow.transposed import Transposed
from janelia_core.files.formats.contract import OPENING, Arrays, Format, VectorFile
from janelia_core.files.formats.spool import spooled

_HELD = 8  # times its numbers that a piece of rows takes: unpacked, as array, joined
_LEAST = 8 << 20  # bytes that a row, and the metadata of a message, may take at least
_MAGIC = b"ARROW1"
_OFFSETS = 1 << 16  # of lists, checked at a time


def open_arrow(path: Path, name: str | None, preferred: tuple[str, ...], *, memory: int = OPENING) -> VectorFile:
    """Open the list column `name` (or the only one), or all columns of a table that has numeric ones only."""
    arrow = import_extra("pyarrow", "files")
    import_extra("pyarrow.ipc", "files")
    longest = max(_LEAST, memory)
    try:
        with path.open("rb") as file:
            magic = file.read(8)
            if magic[:4] == b"FEA1":
                raise VectorFileError(path, "is Feather of version 1, given up in 2020; write it in version 2")
            if magic[:6] == _MAGIC:
                footer = _footer(path, file, longest)
                schema = arrow.ipc.open_file(arrow.PythonFile(file, "r")).schema
                stored = functools.partial(of_file, file, footer, schema, longest)
            else:
                schema = _schema(path, arrow, file, longest)
                stored = functools.partial(of_stream, file, schema, longest)
            table = _Table(path, file, stored, schema, coordinates(path, schema, name, preferred), memory)
            dtype = table.columns.dtype
            return spooled(path, table.d, dtype, table.rows(), table.n * table.d * dtype.itemsize)
    except (VectorFileError, FileNotFoundError):
        raise
    except Exception as error:  # ArrowException, what struct and a damaged schema raise: there is no common class
        raise VectorFileError(path, f"is no sound Arrow file: {error}") from error


def _footer(path: Path, file: BinaryIO, memory: int) -> bytes:
    """Return the end of a file, which says what belongs to it: what stands before need not be a stream."""
    size = file.seek(0, 2)
    file.seek(max(0, size - 10))
    end = file.read(10)
    length = int.from_bytes(end[:4], "little", signed=True)
    if end[4:] != _MAGIC or not 0 < length <= size - 18:
        raise VectorFileError(path, "is no sound Arrow file: its end is missing; it was cut short, or never finished")
    if length > memory:
        raise too_large(path, "its footer", length, memory)
    file.seek(size - 10 - length)
    footer = file.read(length)
    if of_big_endian(footer):
        raise ValueError(BIG_ENDIAN)
    return footer


def _schema(path: Path, arrow: Any, file: BinaryIO, memory: int) -> Any:
    """Return what a stream begins with."""
    file.seek(0)
    prefix = file.read(8)
    continued = prefix[:4] == b"\xff\xff\xff\xff"
    length = int.from_bytes(prefix[4:] if continued else prefix[:4], "little")
    if length > memory:
        raise too_large(path, "its schema", length, memory)
    file.seek(0)
    return arrow.ipc.read_schema(arrow.py_buffer(file.read(length + (8 if continued else 4))))


class _Table:
    """An open file, of which some columns are read."""

    def __init__(
        self,
        path: Path,
        file: BinaryIO,
        batches: Callable[[], Iterator[Batch]],
        schema: Any,
        columns: Columns,
        memory: int,
    ) -> None:
        self.columns = columns
        self._path, self._file, self._batches = path, file, batches
        longest = max(_LEAST, memory)
        self._kind = plain(schema.field(columns.places[0]).type)
        self.n = 0
        widths: set[int] = set() if columns.length is None else {columns.length}
        for batch in self._batches():
            if batch.n and columns.lists:
                widths.add(self._width(batch))
            if len(widths) > 1:
                rows = f"rows {self.n} to {self.n + batch.n - 1}"
                raise VectorFileError(path, f"{rows} hold lists of different lengths than those before")
            self.n += batch.n
        self.d: int = next(iter(widths), 0) if columns.lists else len(columns.names)
        if self.n < 1 or self.d < 1:
            raise VectorFileError(path, "has no rows, or rows without columns")
        row = self.d * columns.dtype.itemsize
        if row * _HELD > longest:
            raise too_large(path, f"a row of {self.d} numbers", row * _HELD, longest)
        self._step = max(1, memory // (row * _HELD))

    def rows(self) -> Iterator[npt.NDArray[Any]]:
        """Yield all rows, a few at a time."""
        start = 0
        for batch in self._batches():
            columns = [batch.columns[place] for place in self.columns.places]
            if any(column.missing for column in columns + columns[0].within):
                raise VectorFileError(self._path, f"misses values in rows {start} to {start + batch.n - 1}")
            if self.columns.lists:
                yield from self._lists(columns[0], start)
            else:
                yield from self._together([self._numbers(one, at) for at, one in enumerate(columns)], batch.n)
            start += batch.n

    def _numbers(self, column: Column, at: int) -> Numbers:
        return Numbers(self._file, column.buffers[1], np.dtype(self.columns.types[at].to_pandas_dtype()))

    def _offsets(self, column: Column) -> Numbers:
        wide = str(self._kind).startswith("large")
        return Numbers(self._file, column.buffers[1], np.dtype("<i8" if wide else "<i4"))

    def _width(self, batch: Batch) -> int:
        if self.columns.length is not None:
            return self.columns.length
        first, second = self._offsets(batch.columns[self.columns.places[0]]).next(2).tolist()
        return int(second - first)

    def _lists(self, column: Column, start: int) -> Iterator[npt.NDArray[Any]]:
        numbers, skip = self._numbers(column.within[0], 0), 0
        if self.columns.length is None and column.n:
            offsets = self._offsets(column)
            skip = before = int(offsets.next(1)[0])
            for at in range(0, column.n, _OFFSETS):
                some = offsets.next(min(_OFFSETS, column.n - at))
                if (some != before + self.d * np.arange(1, len(some) + 1)).any():
                    rows = f"rows {start + at} to {start + at + len(some) - 1}"
                    raise VectorFileError(self._path, f"{rows} hold lists of different lengths")
                before = int(some[-1])
        if skip < 0 or skip + column.n * self.d > column.within[0].n:
            raise ValueError("lists reach beyond their numbers")
        numbers.skip(skip)
        for at in range(0, column.n, self._step):
            n = min(self._step, column.n - at)
            yield numbers.next(n * self.d).reshape(n, self.d)

    def _together(self, columns: list[Numbers], n: int) -> Iterator[npt.NDArray[Any]]:
        """Yield the rows of n numbers of each column; packed ones are unpacked one after the other."""
        pieces = [min(self._step, n - at) for at in range(0, n, self._step)]
        if not any(column.packed for column in columns):
            for rows in pieces:
                yield self._joined([column.next(rows) for column in columns])
            return
        each = max(1, self._step * self.d)
        with Transposed(n, [column.dtype for column in columns]) as transposed:
            for at, column in enumerate(columns):
                for start in range(0, n, each):
                    transposed.append(at, column.next(min(each, n - start)))
                column.close()
            yield from map(self._joined, transposed.rows(self._step))

    def _joined(self, columns: list[npt.NDArray[Any]]) -> npt.NDArray[Any]:
        return np.stack([exactly(self._path, column, self.columns.dtype) for column in columns], axis=1)


def write_arrow(path: Path, arrays: Arrays) -> None:
    """Write every array as a column of lists of fixed length."""
    ipc = import_extra("pyarrow.ipc", "files")
    schema, written = written_batches(arrays)
    with path.open("wb") as file, ipc.new_file(file, schema) as writer:
        for batch in written:
            writer.write_batch(batch)


ARROW = Format(open_arrow, write_arrow, several=True, writer="pyarrow.ipc", options=("memory",))
