"""Thrift's compact protocol, in which `.parquet` says what it holds, read field by field.

Source: github.com/apache/thrift, the specification of its compact protocol.
"""

from __future__ import annotations

from collections.abc import Iterator

TRUE, FALSE, BYTE, I16, I32, I64, DOUBLE, BINARY, LIST, SET, MAP, STRUCT = range(1, 13)
_DEEPEST = 16


class Thrift:
    """A place in bytes that hold a struct. What goes beyond them is an IndexError, what is no struct a ValueError."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.at = 0

    def fields(self) -> Iterator[tuple[int, int]]:
        """Yield number and kind of each field of a struct; each has to be read or skipped before the next."""
        number = 0
        while head := self._byte():
            number = number + (head >> 4) if head >> 4 else self.integer()
            yield number, head & 15

    def items(self) -> Iterator[int]:
        """Yield the kind of each item of a list; each has to be read or skipped before the next."""
        head = self._byte()
        for _ in range(head >> 4 if head >> 4 < 15 else self._varint()):
            yield head & 15

    def integer(self) -> int:
        """Read an integer."""
        value = self._varint()
        return value >> 1 ^ -(value & 1)

    def number(self, kind: int) -> int:
        """Read a field that should hold an integer."""
        if kind not in {I16, I32, I64}:
            raise ValueError("metadata hold something else where a number should be")
        return self.integer()

    def skip(self, kind: int, depth: int = 0) -> None:
        """Leave out a value."""
        if depth > _DEEPEST:
            raise ValueError("metadata are nested too deeply")
        if kind in {I16, I32, I64}:
            self._varint()
        elif kind == BINARY:
            self._leave(self._varint())
        elif kind in {BYTE, DOUBLE}:
            self._leave(1 if kind == BYTE else 8)
        elif kind in {LIST, SET}:
            for item in self.items():
                self._leave(1) if item in {TRUE, FALSE} else self.skip(item, depth + 1)
        elif kind == STRUCT:
            for _, field in self.fields():
                self.skip(field, depth + 1)
        elif kind not in {TRUE, FALSE}:  # maps are not used
            raise ValueError("metadata hold what is no value")

    def _byte(self) -> int:
        self.at += 1
        return self._data[self.at - 1]

    def _leave(self, n: int) -> None:
        self.at += n
        if self.at > len(self._data):
            raise IndexError("metadata end too early")

    def _varint(self) -> int:
        value = 0
        for shift in range(0, 70, 7):
            byte = self._byte()
            value |= (byte & 127) << shift
            if byte < 128:
                return value
        raise ValueError("metadata hold what is no number")
