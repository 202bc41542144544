"""What is asked of a search, in sizes: all that a plan is made from."""

from __future__ import annotations

from typing import NamedTuple

from janelia_core.ml._knn.metrics.registry import metric_named
from janelia_core.ml._runtime.machine import Machine

MEBIBYTE = 1 << 20
DEFAULT_MEMORY = 256 * MEBIBYTE
LEAST_MEMORY = MEBIBYTE
PER_WORKER = 16 * MEBIBYTE  # below, no thread is started: each takes some MiB, whatever it does
FEWEST_CTRS = 64  # at a time, whatever m and the memory: their scores take no more than what is listed of a row
MOST_CTRS = 4096  # at a time

Paid = tuple[tuple[str, float], ...]


class Problem(NamedTuple):
    """The sizes of a search, and what it may use.

    Attributes:
        n_smps: Rows of x.
        n_ctrs: Centres searched (after dropout).
        d: Coordinates.
        k: Neighbours asked for.
        m: Centres whose scores may be held at a time.
        machine: What may be used.
        float32: Both inputs are float32 and all centres are used, so that nothing need be copied.
        budget: Bytes of workspace.
        metric: What centres are ordered by, see `metrics`.
        masked: Rows may be denied some centres.
        paid: What earlier searches among the same centres have paid of preparing them for a screen: its name, and
            nanoseconds of one core as in `Cost`; inf where the prepared centres stand.
        keeps: Bytes that prepared centres may take beyond the budget, since they are kept.
    """

    n_smps: int
    n_ctrs: int
    d: int
    k: int
    m: int
    machine: Machine = Machine()
    float32: bool = True
    budget: int = DEFAULT_MEMORY
    metric: str = "euclidean"
    masked: bool = False
    paid: Paid = ()
    keeps: int = 0

    @property
    def form(self) -> int:
        """The formula by which screens know the metric (`Metric.form`)."""
        return metric_named(self.metric).form

    @property
    def work(self) -> int:
        """Coordinates of all pairs: what a search without any screen would look at."""
        return self.n_smps * self.n_ctrs * self.d

    def unpaid(self, screen: str, work: float) -> float:
        """Return what of the work of preparing the centres for a screen this search has to pay for."""
        return max(0.0, work - dict(self.paid).get(screen, 0.0))


def clamp(value: int, most: int) -> int:
    """Return value, but at least 1 and at most `most`, or 1."""
    return max(1, min(value, most))
