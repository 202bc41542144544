"""The error of files that cannot be what their name says."""

from __future__ import annotations

from os import PathLike


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
        super().__init__(f"{path}{where}: {' '.join(reason.split())}")
