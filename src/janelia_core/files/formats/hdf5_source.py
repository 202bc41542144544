"""Bytes that the HDF5 library reads: counted, so that a header cannot make it take more than it may."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any


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

    def opened(self) -> None:
        """Count no longer all bytes together."""
        self.left = None

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer, or as much of it as there is of the file."""
        target = memoryview(buffer).cast("B")
        if len(target) > self.most or (self.left is not None and len(target) > self.left):
            raise TooMuchError(f"more than {self.most} bytes of its structure would have to be read")
        done = 0
        while done < len(target):
            got = super().readinto(target[done:])
            if not got:
                break
            done += got
        if self.left is not None:
            self.left -= done
        return done
