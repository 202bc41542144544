"""How far a search of files is, on stderr: as a bar, as lines of a log, or as lines of JSON.

A thread looks at what the search says it is at, so that a step of an hour moves too, and the search waits for nobody.
"""

from __future__ import annotations

import importlib.util
import json
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from types import TracebackType
from typing import Any, TextIO

from janelia_core.files.progress import COMPILING, Progress, follow_files

_MINUTE, _SOON = 60.0, 2.0  # seconds between two lines of a log; and until a stage beside searching is said


class Shown:
    """Shows progress for as long as a `with` block lasts.

    Args:
        mode: "bar", "log", "json", "none", or "auto": a bar on a terminal, else a log.
        stream: Where to; stderr if None.
    """

    def __init__(self, mode: str = "auto", stream: TextIO | None = None) -> None:
        self._stream = sys.stderr if stream is None else stream
        if mode == "auto":
            mode = "bar" if self._stream.isatty() else "log"
        if mode == "bar" and importlib.util.find_spec("tqdm") is None:
            mode = "log"
        self._mode, self._over, self._stack = mode, threading.Event(), ExitStack()

    def __enter__(self) -> Shown:
        if self._mode == "none":
            return self
        look = self._stack.enter_context(follow_files()).now
        kinds: dict[str, type[Bar] | type[Log] | type[JsonLines]] = {"bar": Bar, "log": Log, "json": JsonLines}
        shown = kinds[self._mode](self._stream)
        self._stack.callback(shown.close)
        self._thread = threading.Thread(target=self._follow, args=(look, shown), name="progress", daemon=True)
        self._thread.start()
        self._stack.callback(self._end)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def _end(self) -> None:
        self._over.set()
        self._thread.join()

    def _follow(self, look: Callable[[], Progress], shown: Bar | Log | JsonLines) -> None:
        with suppress(OSError, ValueError):  # whoever read it is gone, which is no reason to stop the search
            while not self._over.wait(shown.every):
                shown.show(look())
            shown.end(look())


class Bar:
    """A bar by tqdm, of queries."""

    every = 0.1

    def __init__(self, stream: TextIO) -> None:
        from tqdm import tqdm

        # tqdm's own thread would only wait for a lock of ours.
        self._bar = tqdm(total=None, unit="row", unit_scale=True, file=stream, dynamic_ncols=True, delay=0)
        self._begun = False

    def close(self) -> None:
        """Leave the bar where it is, and go to the next line."""
        self._bar.close()

    def show(self, now: Progress) -> None:
        """Show how far the search is."""
        bar = self._bar
        bar.set_description_str(now.stage, refresh=False)
        if now.rows:
            if not self._begun:  # from here on, or what came before would count as speed
                self._begun, bar.total, bar.initial = True, now.rows, rows(now, now.begun)
                bar.n = bar.last_print_n = bar.initial
                bar.start_t = bar.last_print_t = time.time() - now.seconds
            bar.n = rows(now)
        bar.refresh()

    end = show


class Log:
    """A line a minute, and one where the compiler or a decoder takes its time."""

    every = 0.2

    def __init__(self, stream: TextIO) -> None:
        self._stream, self._last = stream, time.monotonic()
        self._since: dict[str, float] = {}  # when a stage was first seen
        self._told: set[str] = set()

    def close(self) -> None:
        """Leave the stream as it is."""

    def show(self, now: Progress) -> None:
        """Write a line if it is time for one."""
        clock = time.monotonic()
        long = clock - self._since.setdefault(now.stage, clock) >= _SOON
        odd = now.stage == COMPILING or now.stage.startswith("decoding")
        if clock - self._last >= _MINUTE or (odd and long and now.stage not in self._told):
            self._told.add(now.stage)
            self._last = clock
            self._stream.write(line(now) + "\n")
            self._stream.flush()

    def end(self, now: Progress) -> None:
        """Write nothing: what was done is reported."""


class JsonLines:
    """A line of JSON a second, and one for every stage."""

    every = 0.2

    def __init__(self, stream: TextIO) -> None:
        self._stream, self._stage, self._last = stream, "", 0.0

    def close(self) -> None:
        """Leave the stream as it is."""

    def show(self, now: Progress) -> None:
        """Write a line if it is time for one."""
        clock = time.monotonic()
        if now.stage != self._stage or clock - self._last >= 1.0:
            self._stage, self._last = now.stage, clock
            self.end(now)

    def end(self, now: Progress) -> None:
        """Write a line."""
        self._stream.write(json.dumps(facts(now)) + "\n")
        self._stream.flush()


def rows(now: Progress, pairs: int | None = None) -> int:
    """Return how many queries' worth of pairs are done."""
    return now.rows * (now.done if pairs is None else pairs) // now.total


def facts(now: Progress) -> dict[str, Any]:
    """Return what a line says: rows, rows a second and seconds left, None where nobody can know."""
    done = now.done - now.begun
    rate = rows(now, done) / now.seconds if done and now.seconds > 0 else None
    left = (now.total - now.done) * now.seconds / done if done else None
    return {
        "stage": now.stage,
        "rows": rows(now),
        "of": now.rows,
        "rate": rate,
        "seconds": round(now.seconds, 3),
        "left": None if left is None else round(left, 1),
    }


def line(now: Progress) -> str:
    """Return progress as a line of a log."""
    told = facts(now)
    if not now.rows:
        return f"{now.stage}, {_clock(now.seconds)} gone"
    rate = "" if told["rate"] is None else f", {told['rate']:.3g} rows/s"
    left = "" if told["left"] is None else f", {_clock(told['left'])} left"
    share = 100 * now.done / now.total
    return f"{now.stage}: {told['rows']} of {now.rows} rows, {share:.1f}%{rate}, {_clock(now.seconds)} gone{left}"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
