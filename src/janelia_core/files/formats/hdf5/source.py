"""Bytes that the HDF5 library reads: counted, so that a header cannot make it take more than it may."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

_LEAST = 1 << 10  # bytes that a read of fewer counts for: it takes as long


class TooMuchError(ValueError):
    """The library asks for more bytes than it may have."""


class Source(io.FileIO):
    """A file that the library reads through: so many bytes until it is open, then as many at a time.

    What HDF5 takes into memory is what its file says that a group, a heap or a tree has, gigabytes if the file says
    so; all of it comes through here first. Nor does it lock a file that it reads so: on some file systems it cannot.
    """

    def __init__(self, path: Path, memory: int) -> None:
        super().__init__(path, "rb")
        self.most = memory
        self.left: int | None = memory
        self._heap, self._end = b"", 0

    def opened(self) -> None:
        """Count no longer all bytes together, only those that are read at a time."""
        self.left = None

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer, or as much of it as there is of the file."""
        target, at = memoryview(buffer).cast("B"), self.tell()
        if len(target) > self.most or (self.left is not None and len(target) > self.left):
            raise TooMuchError(f"more than {self.most} bytes of its structure would have to be read")
        done = 0
        while done < len(target):
            got = super().readinto(target[done:])
            if not got:
                break
            done += got
        if self.left is not None:
            self.left -= max(done, _LEAST)
            self._check_heap(at, bytes(target[:done]))
        return done

    def _check_heap(self, at: int, data: bytes) -> None:
        """Refuse a heap of texts that has free space of no size: HDF5 (2.0 and before) goes over it for ever."""
        if data[:4] == b"GCOL":
            self._heap = data
        elif self._heap and at == self._end:  # the library reads 4096 bytes, then the rest
            self._heap += data
        else:
            return
        self._end = at + len(data)
        place = 16
        while place + 16 <= len(self._heap):
            index = int.from_bytes(self._heap[place : place + 2], "little")
            size = int.from_bytes(self._heap[place + 8 : place + 16], "little")
            if index == 0 and size & 0xFFFFFFFF == 0:  # where the file says so, sizes are of 4 bytes
                raise ValueError(f"its heap at byte {self._end - len(self._heap)} is damaged")
            place += 16 + -(-size // 8) * 8 if index else size
