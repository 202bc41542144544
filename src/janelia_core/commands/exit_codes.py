"""Exit codes of `janelia-knn`, and the signals that end it cleanly."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType

OK = 0
WRONG_ROWS = 1
BAD_INPUT = 2
CAN_RESUME = 3
INTERRUPTED = 128 + 2
BROKEN_PIPE = 128 + 13
TERMINATED = 128 + 15


class _Stop:
    """Turns SIGTERM into what Ctrl-C does, and knows afterwards which of them it was."""

    def __init__(self) -> None:
        self.terminated = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        self.terminated = True
        raise KeyboardInterrupt


_stop = _Stop()


@contextlib.contextmanager
def ended_by_sigterm() -> Iterator[None]:
    """Let SIGTERM, which batch systems send before they kill, end what runs inside the block as Ctrl-C does."""
    _stop.terminated = False
    if threading.current_thread() is not threading.main_thread():  # which alone may say what a signal does
        yield
        return
    before = signal.signal(signal.SIGTERM, _stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL if before is None else before)


def interrupted() -> tuple[int, str]:
    """Return the exit code and the word for a KeyboardInterrupt."""
    return (TERMINATED, "terminated") if _stop.terminated else (INTERRUPTED, "interrupted")


def pipe_is_gone() -> int:
    """Let Python's own last flush of stdout go nowhere, and return the exit code of who wrote to nobody."""
    with contextlib.suppress(OSError, ValueError):  # a stdout that is no file has no number
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
    return BROKEN_PIPE
