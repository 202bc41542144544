"""Pages of a `.parquet`, by their headers: what a column takes to decode, before anything is decoded.

The footer says how many values a column has; a page says it again, and how large it is unpacked. The decoder believes
the page. Source: github.com/apache/parquet-format, parquet.thrift (PageHeader), Thrift compact protocol.
"""

from __future__ import annotations

from typing import Any, BinaryIO, NamedTuple

_WINDOW = 1 << 12  # bytes of a header with the smallest and largest value of its page
_LARGEST_HEADER = 1 << 17
_DATA, _DICTIONARY, _DATA_V2 = 0, 2, 3
_TYPE, _UNPACKED, _PACKED = 1, 2, 3
_VALUES_IN = {_DATA: 5, _DICTIONARY: 7, _DATA_V2: 8}  # field of PageHeader whose field 1 is the number of values
_TRUE, _FALSE, _BYTE, _I16, _I32, _I64, _DOUBLE, _BINARY, _LIST, _SET, _MAP, _STRUCT = range(1, 13)


class ChunkPages(NamedTuple):
    """The pages of a column in a row group.

    Attributes:
        values: In them.
        decoding: Bytes that the largest page takes, packed, unpacked and its dictionary.
    """

    values: int
    decoding: int


def pages_of(file: BinaryIO, chunk: Any) -> ChunkPages:
    """Read the headers of all pages of a column chunk, whose metadata is one of pyarrow.

    Raises:
        ValueError: They are no headers, or reach beyond the chunk.
    """
    at = min(place for place in (chunk.dictionary_page_offset, chunk.data_page_offset) if place is not None)
    end = at + chunk.total_compressed_size
    values = largest = dictionary = 0
    while at < end and values < chunk.num_values:
        header, length = _header(file, at)
        kind, unpacked, packed = (int(header.get(field, -1)) for field in (_TYPE, _UNPACKED, _PACKED))
        at += length + packed
        if min(unpacked, packed) < 0 or at > end:
            raise ValueError(f"a page of {packed} bytes reaches beyond its column")
        within = header.get(_VALUES_IN.get(kind, -1), {})
        held = int(within.get(1, 0)) if isinstance(within, dict) else 0
        if kind == _DICTIONARY:
            dictionary = unpacked + 8 * held
        elif kind in _VALUES_IN:
            values += held
        largest = max(largest, unpacked + packed)
    if values > chunk.num_values:
        raise ValueError(f"pages of {values} values in a column of {chunk.num_values}")
    return ChunkPages(values, largest + dictionary)


def _header(file: BinaryIO, at: int) -> tuple[dict[int, Any], int]:
    window = _WINDOW
    while True:
        file.seek(at)
        data = file.read(window)
        try:
            return _struct(data, 0, 0)
        except IndexError:
            if len(data) < window or window >= _LARGEST_HEADER:
                raise ValueError(f"the header of a page at byte {at} does not end") from None
            window *= 8


def _struct(data: bytes, at: int, depth: int) -> tuple[dict[int, Any], int]:
    fields: dict[int, Any] = {}
    number = 0
    while data[at]:
        kind, step = data[at] & 15, data[at] >> 4
        at += 1
        if step == 0:
            number, at = _zigzag(data, at)
        else:
            number += step
        fields[number], at = _value(data, at, kind, depth)
    return fields, at + 1


def _value(data: bytes, at: int, kind: int, depth: int) -> tuple[Any, int]:
    if kind in {_TRUE, _FALSE}:
        return kind == _TRUE, at
    if kind in {_I16, _I32, _I64}:
        return _zigzag(data, at)
    if kind == _BINARY:
        length, at = _varint(data, at)
        return None, _reachable(data, at + length)
    if kind == _STRUCT and depth < 4:
        return _struct(data, at, depth + 1)
    if kind in {_BYTE, _DOUBLE}:
        return None, _reachable(data, at + (1 if kind == _BYTE else 8))
    raise ValueError("a page begins with what is no header")


def _reachable(data: bytes, at: int) -> int:
    data[at]  # an IndexError asks for more of the file
    return at


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while shift < 64:
        byte = data[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at
    raise ValueError("a page begins with what is no header")


def _zigzag(data: bytes, at: int) -> tuple[int, int]:
    value, at = _varint(data, at)
    return value >> 1 ^ -(value & 1), at
