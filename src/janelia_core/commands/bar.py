"""A progress bar with rate and remaining time, on a terminal only."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from janelia_core.files import Progress

_WIDTH = 24
_EVERY = 0.1  # seconds


class Bar:
    """Shows progress for as long as a `with` block lasts.

    Args:
        stream: Where to; stderr if None. Quiet where that is no terminal.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = sys.stderr if stream is None else stream
        self._shown = 0.0
        self._open = False

    def __call__(self, progress: Progress) -> None:
        """Show how far the search is."""
        now = time.monotonic()
        if not self._stream.isatty() or (now - self._shown < _EVERY and progress.done < progress.total):
            return
        self._shown, self._open = now, True
        self._stream.write("\r" + line(progress))
        self._stream.flush()

    def __enter__(self) -> Bar:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._open:
            self._stream.write("\n")


def line(progress: Progress) -> str:
    """Return the bar as one line of at most 79 columns."""
    share = progress.done / progress.total
    full = int(_WIDTH * share)
    rate = (progress.done - progress.begun) / max(progress.seconds, 1e-9)
    left = _clock((progress.total - progress.done) / rate) if rate > 0 else "?"
    bar = "#" * full + "." * (_WIDTH - full)
    return f"[{bar}] {100 * share:5.1f}%  {rate / 1e6:8.1f}M pairs/s  {_clock(progress.seconds)} gone, {left} left "


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
