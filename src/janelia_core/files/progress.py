"""How far a search of files is, for whoever asks while it runs: in another thread, within a step, before it begins.

The search says what it is at, and never calls anybody; who follows it looks as often as he likes:

    with follow_files() as followed:
        threading.Thread(target=...)    followed.now() is a `Progress` at any time
        search_files(...)
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from contextvars import ContextVar
from typing import NamedTuple

from janelia_core.ml._knn.report import Report, follow_knn
from janelia_core.ml._runtime.loading import is_compiling

COMPILING = "compiling kernels"


class Progress(NamedTuple):
    """How far a search is.

    Attributes:
        done: Pairs of a query and a centre compared, those before a resumption included.
        total: Of how many; 1 until that is known.
        begun: How many were compared before this run.
        seconds: Since this run began.
        stage: What it is at: "searching", "reading", "compiling kernels", "writing the answer", "decoding a.csv", ...
        rows: Queries in total; 0 until that is known.
    """

    done: int
    total: int
    begun: int
    seconds: float
    stage: str = "searching"
    rows: int = 0


class _Step(NamedTuple):
    """Where a search is: pairs done before a step, those of the step, its rows, and the reports of its searches."""

    done: int = 0
    pairs: int = 0
    rows: int = 1
    reports: tuple[list[Report], ...] = ()


class Followed:
    """What a search is at. The thread that searches writes, any other reads."""

    def __init__(self, *, looked_at: bool) -> None:
        self._looked_at = looked_at
        self.stage = "opening the files"
        self._began = time.perf_counter()
        self._size = (1, 0, 0)  # pairs, those before this run, rows
        self._at, self._most = _Step(), 0

    def begin(self, total: int, begun: int, rows: int) -> None:
        """Say how many pairs and queries there are, and how many pairs were compared before."""
        self._began, self._most = time.perf_counter(), begun
        self._size, self._at, self.stage = (total, begun, rows), _Step(begun), "searching"

    @contextlib.contextmanager
    def step(self, done: int, pairs: int, rows: int) -> Iterator[None]:
        """Search so many rows, `pairs` pairs, inside the block, where `done` pairs were done before."""
        if not self._looked_at:
            yield
            return
        with follow_knn() as reports:
            self._at = _Step(done, pairs, rows, (reports,))
            yield
            self._at = _Step(done + pairs)

    @contextlib.contextmanager
    def at(self, stage: str) -> Iterator[None]:
        """Say what is done inside the block."""
        before, self.stage = self.stage, stage
        try:
            yield
        finally:
            self.stage = before

    def now(self) -> Progress:
        """Return how far the search is, which never goes back."""
        (total, begun, rows), at = self._size, self._at
        share = min(1.0, sum(report.n_done for reports in at.reports for report in list(reports)) / max(1, at.rows))
        self._most = max(self._most, min(total, at.done + int(max(0.0, share) * at.pairs)))
        stage = COMPILING if is_compiling() else self.stage
        return Progress(self._most, total, begun, time.perf_counter() - self._began, stage, rows)


_followed: ContextVar[Followed | None] = ContextVar("_followed", default=None)


@contextlib.contextmanager
def follow_files() -> Iterator[Followed]:
    """Follow the searches of files that the current thread makes inside the block; `now` says how far the last is.

    Example:
        >>> with follow_files() as followed:
        ...     pass  # a search, and a thread that shows followed.now() now and then
        >>> followed.now().done, followed.now().stage
        (0, 'opening the files')
    """
    followed = Followed(looked_at=True)
    token = _followed.set(followed)
    try:
        yield followed
    finally:
        _followed.reset(token)


def followed() -> Followed:
    """Return where the current thread's search says what it is at: where nobody follows, that is lost."""
    return _followed.get() or Followed(looked_at=False)
