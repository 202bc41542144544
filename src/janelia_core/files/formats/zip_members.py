"""Zip archives of strangers: a list of members that fits into memory, and where a member begins."""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from janelia_core.files.errors import VectorFileError

_LOCAL_HEADER = struct.Struct("<26xHH")  # of a zip member: lengths of its name and of its extra field
_OBJECT = 16  # bytes that Python takes for a byte of the directory: a ZipInfo for 46 of them and a name
_FURTHER = 1 << 17  # bytes from the end of the file, of which the end of the directory is one


class _Directory(io.FileIO):
    """A file of which no more than `most` bytes are read at once, until the directory is read."""

    most: int | None = None

    def read(self, size: int | None = -1, /) -> bytes:
        if self.most is not None and (size is None or size > max(self.most, _FURTHER)):
            raise VectorFileError(str(self.name), f"lists its members in {size} bytes; {self.most} are at hand")
        found: bytes = super().read(-1 if size is None else size)
        return found


@contextmanager
def zip_members(path: Path, memory: int) -> Iterator[zipfile.ZipFile]:
    """Open an archive whose list of members takes at most so many bytes."""
    with _Directory(path, "rb") as file:
        file.most = memory // _OBJECT
        with zipfile.ZipFile(file) as archive:
            file.most = None
            yield archive


def member_start(path: Path, info: zipfile.ZipInfo) -> int:
    """Return the byte at which the numbers of a stored member begin."""
    with path.open("rb") as plain:
        plain.seek(info.header_offset)
        lengths = _LOCAL_HEADER.unpack(plain.read(_LOCAL_HEADER.size))
    start: int = info.header_offset + _LOCAL_HEADER.size + sum(lengths)
    return start
