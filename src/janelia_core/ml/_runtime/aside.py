"""Warnings of a thread beside the calls: nobody listens to it, so the next call says what it has to say."""

from __future__ import annotations

import threading
import warnings

_here = threading.local()
_unsaid: list[str] = []


def keep_warnings() -> None:
    """Keep what the calling thread warns of from now on, until `say` is called in another."""
    _here.kept = True


def warn(message: str, stacklevel: int) -> None:
    """Warn of something that slows calls down, as `warnings.warn` does."""
    if getattr(_here, "kept", False):
        _unsaid.append(message)
    else:
        warnings.warn(message, RuntimeWarning, stacklevel + 1)


def say(stacklevel: int = 2) -> None:
    """Warn of all that was kept, unless this is such a thread."""
    while _unsaid and not getattr(_here, "kept", False):
        warn(_unsaid.pop(0), stacklevel + 1)
