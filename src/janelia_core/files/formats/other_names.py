"""Files that are read under another name than their own: unpacked ones, and names that libraries cannot take.

Some libraries take names as UTF-8 only, while the system takes any bytes. An open file has a second name, /dev/fd/N,
under which it can be opened once more; a nameless one, which vanishes with the process, has that name only.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from torch import Tensor

from janelia_core.files.errors import VectorFileError
from janelia_core.files.formats.contract import Arrays, VectorFile

_NAMES_OF_OPEN_FILES = Path("/dev/fd")


def is_utf8(path: Path) -> bool:
    """Tell whether a name can be handed to libraries that take UTF-8."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True


def name_of(file: int) -> Path:
    """Return a name for an open file, good as long as it is open."""
    return _NAMES_OF_OPEN_FILES / str(file)


@contextlib.contextmanager
def said_of(path: Path, place: Path) -> Iterator[None]:
    """Let errors that name `place` name the file `path`."""
    try:
        yield
    except VectorFileError as error:
        raise VectorFileError(path, error.reason.replace(str(place), str(path)), error.offset) from error


class OtherName(VectorFile):
    """A file opened under another name, whose errors name it.

    Args:
        path: Its own name.
        file: What is open under the other name.
        place: The other name.
        keep: An open file that the other name is good for; it is closed with this one.
        decoded: As for `VectorFile`.
    """

    def __init__(self, path: Path, file: VectorFile, place: Path, keep: int, decoded: bool) -> None:
        super().__init__(path, file.n, file.d, file.dtype)
        self._file, self._place, self._keep = file, place, keep
        self.metric, self.decoded, self.spooled_bytes = file.metric, decoded, file.spooled_bytes
        if keep >= 0:
            self.spooled_bytes += os.fstat(keep).st_size

    @property
    def row_bytes(self) -> int:
        """Bytes that a row takes in the file."""
        return self._file.row_bytes

    def _fill(self, start: int, out: Tensor) -> None:
        with said_of(self.path, self._place):
            self._file.read(start, start + len(out), out=out)

    def _pick(self, numbers: Tensor, out: Tensor) -> int:
        """Put the rows with ascending numbers into out, and return how many were read."""
        with said_of(self.path, self._place):
            return self._file._pick(numbers, out)

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()
        if self._keep >= 0:
            os.close(self._keep)
            self._keep = -1


def opened_otherwise(path: Path, packed: str | None, memory: int, opener: Callable[[Path], VectorFile]) -> VectorFile:
    """Open a file by `opener`, unpacked first where it is packed, under a name that every library takes."""
    if packed is not None and not _NAMES_OF_OPEN_FILES.is_dir():
        raise VectorFileError(path, f"is packed, which needs {_NAMES_OF_OPEN_FILES} to be read; unpack it first")
    if packed is not None:
        from janelia_core.files.formats.packed import unpacked

        keep = unpacked(path, packed, memory)
    elif path.is_dir() or is_utf8(path):
        return opener(path)
    else:
        keep = os.open(path, os.O_RDONLY)
    place = name_of(keep)
    try:
        os.lseek(keep, 0, os.SEEK_SET)  # the place of all that open it by this name, where the system has it so
        with said_of(path, place):
            file = opener(place)
        return OtherName(path, file, place, keep, packed is not None or file.decoded)
    except BaseException:
        os.close(keep)
        raise


def written_otherwise(writer: Callable[[Path, Arrays], None], path: Path, arrays: Arrays) -> None:
    """Write a file by `writer`, under a name that every library takes."""
    if is_utf8(path):
        writer(path, arrays)
        return
    keep = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o666)
    try:
        with said_of(path, name_of(keep)):
            writer(name_of(keep), arrays)
    finally:
        os.close(keep)
