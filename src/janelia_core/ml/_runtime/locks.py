"""A lock that a forked child finds open: whoever held it lives on in the parent alone."""

from __future__ import annotations

import os
import threading


class ForkSafeLock:
    """A lock for use by `with`, which its own thread may take again.

    What it guards must be whole at every moment, held or not: a child may begin in the middle.
    """

    def __init__(self) -> None:
        self._lock, self._process = threading.RLock(), os.getpid()

    def __enter__(self) -> None:
        if self._process != os.getpid():  # one thread alone, the one that forked, comes here first
            self._lock, self._process = threading.RLock(), os.getpid()
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()
