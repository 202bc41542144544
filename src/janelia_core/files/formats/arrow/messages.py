"""Where the numbers of a column stand in an Arrow file: its record batches, found without reading them.

pyarrow reads a record batch as a whole, as large as its writer made it, and unpacks its buffers to any size that they
claim. Here only the messages' metadata are read. Source: arrow.apache.org/docs/format/Columnar.html (IPC),
Message.fbs, File.fbs; flatbuffers.dev/internals.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any, BinaryIO, NamedTuple

_SCHEMA, _RECORDS = 1, 3  # of MessageHeader
_LISTED = 3  # of Footer: where the record batches are
BIG_ENDIAN = "its numbers are big-endian"
CODECS = {None: None, 0: "lz4", 1: "zstd"}


class Buffer(NamedTuple):
    """Bytes of the file: where, how many, and the codec that they are packed by."""

    at: int
    length: int
    codec: str | None


class Column(NamedTuple):
    """A column of a record batch: rows, those that miss, buffers; of lists or structs, those within, in order."""

    n: int
    missing: int
    buffers: list[Buffer]
    within: list[Column]


class Batch(NamedTuple):
    """A record batch: its rows and columns."""

    n: int
    columns: list[Column]


def of_stream(file: BinaryIO, schema: Any, longest: int) -> Iterator[Batch]:
    """Yield the record batches of a stream, which begins with the message of the schema.

    Raises:
        ValueError, IndexError, struct.error: They are not what the schema says, or the stream has no end.
    """
    size, at = file.seek(0, 2), 0
    while at < size:
        message = _message(file, at, size, longest)
        if message is None:
            return
        at, batch = _read(file, message, schema, size)
        if batch is not None:
            yield batch
    raise ValueError("it ends without the mark that writers put at the end: it was cut short, or never finished")


def of_file(file: BinaryIO, footer: bytes, schema: Any, longest: int) -> Iterator[Batch]:
    """Yield the record batches that the footer of a file lists, and nothing else of the file.

    Raises:
        ValueError, IndexError, struct.error: They are not what the schema says, or reach beyond the file.
    """
    size = file.seek(0, 2)
    for at, _, _ in _Table.root(footer).structs(_LISTED, "<qi4xq"):
        message = _message(file, at, size, longest)
        batch = None if message is None else _read(file, message, schema, size)[1]
        if batch is None:
            raise ValueError(f"its footer says that a record batch is at byte {at}, where there is none")
        yield batch


def _message(file: BinaryIO, at: int, size: int, longest: int) -> tuple[int, int] | None:
    """Return where the metadata of a message begin and end; None at the end of a stream."""
    if not 0 <= at < size:
        raise ValueError(f"a message at byte {at} is beyond the file")
    file.seek(at)
    prefix = file.read(8)
    continued = prefix[:4] == b"\xff\xff\xff\xff"
    (length,) = struct.unpack_from("<i", prefix, 4 if continued else 0)
    at += 8 if continued else 4
    if length == 0:
        return None
    if not 0 < length <= longest:
        raise ValueError(f"a message at byte {at} says that its metadata take {length} bytes")
    return at, at + length


def _read(file: BinaryIO, message: tuple[int, int], schema: Any, size: int) -> tuple[int, Batch | None]:
    """Return the byte after a message, and its record batch if it is one."""
    start, body = message
    file.seek(start)
    metadata = _Table.root(file.read(body - start))
    kind, header, end = metadata.number(1, "B"), metadata.table(2), body + metadata.number(3, "q")
    if not body <= end <= size:
        raise ValueError(f"a message with {end - body} bytes at byte {body} reaches beyond the file")
    if kind == _SCHEMA and header is not None and header.number(0, "h"):
        raise ValueError(BIG_ENDIAN)
    return end, _batch(header, schema, body, end) if kind == _RECORDS and header is not None else None


def of_big_endian(footer: bytes) -> bool:
    """Tell whether the footer of a file says that its numbers are big-endian."""
    schema = _Table.root(footer).table(1)
    return schema is not None and schema.number(0, "h") != 0


def _batch(records: _Table, schema: Any, start: int, end: int) -> Batch:
    packed = records.table(3)
    codec = CODECS[None if packed is None else packed.number(0, "b")]
    nodes = iter(records.structs(1))
    places = iter([_buffer(at, length, codec, start, end) for at, length in records.structs(2)])
    views = iter([number for (number,) in records.structs(4, "<q")])

    def column(kind: Any) -> Column:
        kind = getattr(kind, "storage_type", kind)
        n, missing = next(nodes)
        buffers = [next(places) for _ in range(_buffers(kind, views))]
        dictionary = hasattr(kind, "index_type")
        within = [] if dictionary else [column(kind.field(at).type) for at in range(kind.num_fields)]
        return Column(n, missing, buffers, within)

    n = records.number(0, "q")
    try:
        columns = [column(field.type) for field in schema]
    except StopIteration:
        raise ValueError("a record batch has fewer columns than the schema") from None
    if n < 0 or any(one.n != n for one in columns):
        raise ValueError("the columns of a record batch have different lengths")
    return Batch(n, columns)


def _buffers(kind: Any, views: Iterator[int]) -> int:
    """Return how many buffers a column has beside those of the columns within it."""
    name = str(kind)
    if name.endswith("_view") and not name.startswith("list"):
        return 2 + next(views)
    if name.startswith(("large_list_view", "list_view")):
        return 3
    if name.startswith(("string", "large_string", "binary", "large_binary")):
        return 3
    if name.startswith(("fixed_size_list", "struct", "sparse_union")):
        return 1
    if name.startswith(("null", "run_end_encoded")):
        return 0
    return 2  # validity and numbers, offsets or, of a dense union, kinds


def _buffer(at: int, length: int, codec: str | None, start: int, end: int) -> Buffer:
    if at < 0 or length < 0 or start + at + length > end:
        raise ValueError(f"a buffer of {length} bytes reaches beyond its record batch")
    return Buffer(start + at, length, codec)


class _Table:
    """A table of a flatbuffer."""

    def __init__(self, data: bytes, at: int) -> None:
        self._data, self._at = data, at
        self._fields = at - _unpacked("<i", data, at)
        self._size = _unpacked("<H", data, self._fields)

    @classmethod
    def root(cls, data: bytes) -> _Table:
        return cls(data, _unpacked("<I", data, 0))

    def _place(self, field: int) -> int | None:
        slot = 4 + 2 * field
        step = _unpacked("<H", self._data, self._fields + slot) if slot + 2 <= self._size else 0
        return self._at + step if step else None

    def number(self, field: int, kind: str) -> int:
        """Return a number, 0 where it is left out."""
        place = self._place(field)
        return 0 if place is None else _unpacked("<" + kind, self._data, place)

    def table(self, field: int) -> _Table | None:
        """Return a table within, if it is there."""
        place = self._place(field)
        return None if place is None else _Table(self._data, place + _unpacked("<I", self._data, place))

    def structs(self, field: int, layout: str = "<qq") -> list[tuple[Any, ...]]:
        """Return a vector of pairs of numbers."""
        place = self._place(field)
        if place is None:
            return []
        start = place + _unpacked("<I", self._data, place)
        n, each = _unpacked("<I", self._data, start), struct.calcsize(layout)
        if start + 4 + n * each > len(self._data):
            raise ValueError("the metadata of a message end too early")
        return list(struct.iter_unpack(layout, self._data[start + 4 : start + 4 + n * each]))


def _unpacked(layout: str, data: bytes, at: int) -> int:
    if at < 0:
        raise ValueError("the metadata of a message point out of it")
    (value,) = struct.unpack_from(layout, data, at)
    return int(value)
