"""Where the file of an index is written: beside its place, under a name of its own, and renamed when it is whole.

A process that is killed leaves such a file behind. The next one that saves at the same place removes it: a lock,
which ends with the process, tells that nobody writes it any longer.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final

from janelia_core.durable import replaced

try:
    import fcntl
except ImportError:  # Windows, where nobody can tell, and nothing is removed
    fcntl = None  # type: ignore[assignment]

_TAIL: Final = ".unfinished~"
_NAME: Final = 50  # characters of a name that are repeated: all names have an end, at 255 bytes mostly


@contextlib.contextmanager
def written(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open what will be the file at a place when the block ends well, and not before.

    Raises:
        OSError: The place is no place for a file, or there is no room; the old file is as it was.
    """
    target = Path(os.path.realpath(path))  # what a link leads to, so that the link stays
    if target.is_dir():
        raise IsADirectoryError(f"{path}: is a folder; give the name of a file")
    if target.exists() and not target.is_file():
        raise FileExistsError(f"{path}: is no regular file, and would be replaced by one")
    _remove_abandoned(target)
    beside, lock = _begin(target)
    try:
        with replaced(target, beside), beside.open("wb") as file:
            yield file
    finally:
        if lock is not None:
            os.close(lock)


def _begin(target: Path) -> tuple[Path, int | None]:
    """Make an empty file beside a place; return it and, where there are locks, a locked descriptor of it."""
    while True:
        beside = target.with_name(f"{target.name[:_NAME]}.{secrets.token_hex(4)}{_TAIL}")
        file = os.open(beside, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        if fcntl is None:
            os.close(file)
            return beside, None
        with contextlib.suppress(OSError):  # file systems without locks
            fcntl.flock(file, fcntl.LOCK_EX)
        if os.fstat(file).st_nlink:
            return beside, file
        os.close(file)  # someone took it for abandoned before it was locked


def _remove_abandoned(target: Path) -> None:
    """Remove files that processes now dead began to write for the same place."""
    if fcntl is None:
        return
    pattern = re.compile(re.escape(target.name[:_NAME]) + r"\.[0-9a-f]{8}" + re.escape(_TAIL))
    for entry in [entry for entry in os.scandir(target.parent) if pattern.fullmatch(entry.name)]:
        with contextlib.suppress(OSError):  # in use, gone, or not ours
            file = os.open(entry.path, os.O_RDWR)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                os.unlink(entry.path)
            finally:
                os.close(file)
