"""Who works on an unfinished search: one process, where the file system can tell."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

from janelia_core.durable import NOT_SUPPORTED


class UnlockedWarning(UserWarning):
    """The file system has no locks, so that nothing keeps a second process from the same search."""


def lock(file: int, folder: Path) -> None:
    """Keep a second process out, where the system has such locks; they end with the process.

    A lock that is a file of its own would outlive a kill, and keep out the very search that is to go on.

    Raises:
        ValueError: Another process has the lock.
    """
    if os.name != "posix":
        return
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise ValueError(f"{folder}: another process is at work on this search") from None
    except OSError as error:
        if error.errno not in NOT_SUPPORTED:
            raise
        told = f"{folder}: its file system has no locks ({error.strerror}); see to it that no second search works there"
        warnings.warn(told, UnlockedWarning, stacklevel=2)
