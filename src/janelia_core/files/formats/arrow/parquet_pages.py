"""What the columns of a `.parquet` take to decode, by its footer and its pages' headers, before anything is decoded.

The footer says how many values a column has; a page says it again, and how large it is unpacked, and the decoder
believes the page. pyarrow shows the footer as well, but ends the process where its statistics are damaged.
Source: github.com/apache/parquet-format, parquet.thrift (FileMetaData, PageHeader).
"""

from __future__ import annotations

from typing import BinaryIO, NamedTuple

from janelia_core.files.formats.arrow.thrift import LIST, STRUCT, Thrift

_WINDOW = 1 << 12  # bytes of a header with the smallest and largest value of its page
_LARGEST_HEADER = 1 << 17
_DICTIONARY = 2  # a type of page
_TYPE, _UNPACKED, _PACKED = 1, 2, 3
_VALUES_IN = {5, 7, 8}  # fields of PageHeader whose field 1 is the number of values
_ROW_GROUPS, _COLUMNS, _ROWS, _METADATA = 4, 1, 3, 3
_VALUES, _LENGTH, _PAGES, _DICTIONARY_PAGE = 5, 7, 9, 11  # of ColumnMetaData


class Chunk(NamedTuple):
    """A column in a row group: its values, the first byte of its pages and how many bytes they take in the file."""

    values: int
    at: int
    length: int


class RowGroup(NamedTuple):
    """Rows, and where their columns are."""

    n: int
    chunks: list[Chunk]


def row_groups(footer: bytes, wanted: list[int]) -> list[RowGroup]:
    """Return the row groups with those columns that are wanted, by number, in this order.

    Raises:
        ValueError, IndexError: It is no footer.
    """
    thrift = Thrift(footer)
    groups: list[RowGroup] = []
    for number, kind in thrift.fields():
        if (number, kind) == (_ROW_GROUPS, LIST):
            groups += [_row_group(thrift, wanted) for _ in thrift.items()]
        else:
            thrift.skip(kind)
    return groups


def _row_group(thrift: Thrift, wanted: list[int]) -> RowGroup:
    n, among = 0, set(wanted)
    chunks: dict[int, Chunk] = {}
    for number, kind in thrift.fields():
        if (number, kind) == (_COLUMNS, LIST):
            for at, item in enumerate(thrift.items()):
                if at in among:
                    chunks[at] = _chunk(thrift)
                else:
                    thrift.skip(item)
        elif number == _ROWS:
            n = thrift.number(kind)
        else:
            thrift.skip(kind)
    if n < 0 or not chunks.keys() >= among:
        raise ValueError(f"a row group has {n} rows and {len(chunks)} of {len(wanted)} columns")
    return RowGroup(n, [chunks[at] for at in wanted])


def _chunk(thrift: Thrift) -> Chunk:
    said: dict[int, int] = {}
    for number, kind in thrift.fields():
        if (number, kind) == (_METADATA, STRUCT):
            for field, of in thrift.fields():
                if field in {_VALUES, _LENGTH, _PAGES, _DICTIONARY_PAGE}:
                    said[field] = thrift.number(of)
                else:
                    thrift.skip(of)
        else:
            thrift.skip(kind)
    start = min(said[_PAGES], said.get(_DICTIONARY_PAGE) or said[_PAGES])
    if min(start, *said.values()) < 0:
        raise ValueError("a column has less than no values or bytes")
    return Chunk(said[_VALUES], start, said[_LENGTH])


def decoding(file: BinaryIO, chunk: Chunk) -> int:
    """Return the bytes that decoding takes: the largest page, packed and unpacked, and its dictionary.

    Raises:
        ValueError: The pages have no headers, reach beyond the chunk, or hold more values than the footer says.
    """
    at, end = chunk.at, chunk.at + chunk.length
    values = largest = dictionary = 0
    while at < end and values < chunk.values:
        page, held, length = _header(file, at)
        kind, unpacked, packed = (page.get(field, -1) for field in (_TYPE, _UNPACKED, _PACKED))
        at += length + packed
        if min(unpacked, packed, held) < 0 or at > end:
            raise ValueError(f"a page of {packed} bytes reaches beyond its column")
        if kind == _DICTIONARY:
            dictionary = unpacked + 8 * held
        else:
            values += held
        largest = max(largest, unpacked + packed)
    if values > chunk.values:
        raise ValueError(f"pages of {values} values in a column of {chunk.values}")
    return largest + dictionary


def _header(file: BinaryIO, at: int) -> tuple[dict[int, int], int, int]:
    """Return type and sizes of a page, its number of values, and the length of its header."""
    window = _WINDOW
    while True:
        file.seek(at)
        data = file.read(window)
        try:
            return _parsed(Thrift(data))
        except IndexError:
            if len(data) < window or window >= _LARGEST_HEADER:
                raise ValueError(f"the header of a page at byte {at} does not end") from None
            window *= 8


def _parsed(thrift: Thrift) -> tuple[dict[int, int], int, int]:
    page: dict[int, int] = {}
    held = 0
    for number, kind in thrift.fields():
        if number in {_TYPE, _UNPACKED, _PACKED}:
            page[number] = thrift.number(kind)
        elif number in _VALUES_IN and kind == STRUCT:
            for field, of in thrift.fields():
                if field == 1:
                    held = thrift.number(of)
                else:
                    thrift.skip(of)
        else:
            thrift.skip(kind)
    return page, held, thrift.at
