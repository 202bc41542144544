"""What a search did, for those who ask: `with watch_knn() as reports`."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field

from torch import Tensor

from janelia_core.ml._knn.contract import Counts
from janelia_core.ml._knn.plan.plan import Plan


@dataclass
class Report:
    """A plan and what happened when it ran.

    Attributes:
        plan: The plan.
        n_screened: Rows that went through the screen.
        n_climbed: Rows that the dense screen could not certify in one format, and searched again in the next.
        n_candidates: Candidates the screen left for them, in total; 0 on an accelerator where nobody watches.
        n_escalated: Rows the screen could not certify, searched again with a proven radius.
        n_exhaustive: Rows for which every centre was verified.
        n_meanwhile: Rows that others answered while kernels were being loaded.
        stood_in: Who that was.
        settled: Clusters of near-ties, by the stage that put them in order.
        screen: Another screen than planned and why, or empty.
        look: What a look at the data told about the planned screen, or empty.
    """

    plan: Plan
    n_screened: int = 0
    n_climbed: int = 0
    n_candidates: int = 0
    n_escalated: int = 0
    n_exhaustive: int = 0
    n_meanwhile: int = 0
    stood_in: str = "torch operations"
    settled: Counts = field(default_factory=Counts)
    screen: str = ""
    look: str = ""
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    def __post_init__(self) -> None:
        for reports in _followers.get():
            reports.append(self)

    @property
    def n_done(self) -> int:
        """Rows answered so far; one that climbed the ladder may be counted twice."""
        return min(self.plan.problem.n_smps, self.n_screened + self.n_exhaustive)

    def add(self, **numbers: int | Counts) -> None:
        """Add to the fields named, from any thread."""
        with self._lock:
            for name, number in numbers.items():
                setattr(self, name, getattr(self, name) + number)

    def add_listed(self, indices: Tensor) -> None:
        """Count rows screened and their candidates (r, w), -1 in empty slots: on an accelerator if anyone watches."""
        counted = indices.is_cpu or is_watched()
        self.add(n_screened=len(indices), n_candidates=int((indices >= 0).sum()) if counted else 0)

    @property
    def ran(self) -> str:
        """The screen that ran; with why, where torch operations stood in for the one planned."""
        return self.screen or self.plan.screen

    def __str__(self) -> str:
        meanwhile = f"until kernels were loaded: {self.n_meanwhile} rows, by {self.stood_in}"
        mean = self.n_candidates / self.n_screened if self.n_screened else 0.0
        return "\n".join(
            [
                str(self.plan),
                *([f"look at the data: {self.look}"] if self.look else []),
                *([f"ran instead: {self.screen}"] if self.screen else []),
                *([meanwhile] if self.n_meanwhile else []),
                f"screened: {self.n_screened} rows, {mean:.1f} candidates a row, "
                f"{self.n_climbed} rows searched again in a finer format, {self.n_escalated} rows escalated",
                f"exhaustive: {self.n_exhaustive} rows",
                f"near-ties settled: {self.settled.identical} as identical centres, "
                f"{self.settled.double_double} in double-double, {self.settled.integers} in integers",
            ]
        )


_followers: ContextVar[tuple[list[Report], ...]] = ContextVar("_followers", default=())
_watchers: ContextVar[tuple[list[Report], ...]] = ContextVar("_watchers", default=())


@contextlib.contextmanager
def watch_knn() -> Iterator[list[Report]]:
    """Collect a report of every search that the current thread makes inside the block.

    Yields:
        A list to which each finished search appends its `Report`; print one to read it.

    Example:
        >>> import torch
        >>> from janelia_core.ml.extra_torch_functions import knn_mc
        >>> with watch_knn() as reports:
        ...     _ = knn_mc(torch.rand(1000, 3), torch.rand(5000, 3), 5, 5000)
        >>> reports[0].plan.screen, reports[0].n_screened
        ('tree', 1000)
    """
    reports: list[Report] = []
    token = _watchers.set((*_watchers.get(), reports))
    try:
        yield reports
    finally:
        _watchers.reset(token)


@contextlib.contextmanager
def follow_knn() -> Iterator[list[Report]]:
    """Collect the reports of the current thread's searches inside the block as they begin: their numbers grow."""
    reports: list[Report] = []
    token = _followers.set((*_followers.get(), reports))
    try:
        yield reports
    finally:
        _followers.reset(token)


def is_watched() -> bool:
    """Tell whether anyone wants reports of the current thread's searches."""
    return bool(_watchers.get() or _followers.get())


def publish(report: Report) -> None:
    """Hand a finished report to all who watch."""
    for reports in _watchers.get():
        reports.append(report)
