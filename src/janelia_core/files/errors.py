"""The error of files that cannot be what their name says, and how any error is said in one line."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from os import PathLike, fsdecode

from janelia_core.files.shell import COMMAND
from janelia_core.printable import MOST, one_line, printable

_PATH = 100  # of them for the path, where the reason needs the others


def error_line(error: BaseException, most: int = MOST) -> str:
    """Return what an error says in one line: of the system's, the file and the reason without the number.

    A command to type, with which it may end, stays whole.
    """
    if not (isinstance(error, OSError) and error.strerror):
        said, file = str(error) or type(error).__name__, ""
    else:
        said, file = error.strerror, "" if error.filename is None else fsdecode(error.filename)
    reason, mark, command = said.partition(f": {COMMAND}")
    if not command.isprintable():  # no command of ours
        reason, mark, command = said, "", ""
    reason = one_line(reason, most)
    told = f"{printable(file, max(_PATH, most - len(reason) - 2))}: {reason}" if file else reason
    return (told if len(told) <= most else one_line(told, most)) + mark + command


class VectorFileError(ValueError):
    """A file is not what it should be: one line with the file, where in it, and why.

    Attributes:
        path: The file.
        reason: What is wrong.
        offset: Byte at which it is wrong, or None.
    """

    def __init__(self, path: str | PathLike[str], reason: str, offset: int | None = None) -> None:
        self.path, self.reason, self.offset = path, reason, offset
        where = "" if offset is None else f" at byte {offset}"
        said = one_line(reason)
        file = printable(fsdecode(path), max(_PATH, MOST - len(where) - 2 - len(said)))
        super().__init__(f"{file}{where}: {one_line(said, MOST - len(where) - 2 - len(file))}")

    def __reduce__(self) -> tuple[type[VectorFileError], tuple[str | PathLike[str], str, int | None]]:
        return type(self), (self.path, self.reason, self.offset)


@contextlib.contextmanager
def named(path: str | PathLike[str]) -> Iterator[None]:
    """Let errors of the system name the file that was read: a read that fails, as of a broken disk, names none."""
    try:
        yield
    except OSError as error:
        if error.errno is not None and error.filename is None:
            error.filename = fsdecode(path)
        raise
