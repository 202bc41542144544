"""Files that are there whole or not at all, also after a power cut: written beside their place, then renamed."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

NOT_SUPPORTED = {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK}
"""What file systems say that lack a call: of locks, of claiming room, of folders' names."""


@contextlib.contextmanager
def replaced(path: Path, beside: Path) -> Iterator[None]:
    """Put the file `beside`, which the block writes and closes, on the disk and in the place of `path`.

    Whoever has the old file open or mapped keeps it. If anything fails the old file stays, and `beside` goes: it
    would fill a full disk.
    """
    try:
        yield
        with beside.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(beside, path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    sync_folder(path.absolute().parent)


def sync_folder(folder: Path) -> None:
    """Put the names in a folder on the disk, where the system does that by itself only later and lets us ask for it.

    Some network file systems sync no folders, and a folder that may be written but not read cannot be opened.
    """
    if os.name != "posix":
        return
    try:
        file = os.open(folder, os.O_RDONLY)
    except PermissionError:
        return
    try:
        os.fsync(file)
    except OSError as error:
        if error.errno not in NOT_SUPPORTED:
            raise
    finally:
        os.close(file)
