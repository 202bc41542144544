"""A search tried on a few of its rows, by the plan of all: which screen runs, and how long the others will take.

Screens look at values before they are taken. So what will run is told by meeting some rows with the centres, under the
plan of the true sizes, as the search itself does; and what runs tells its time. Centres may be a sample as well: then
looks see a sparser cloud, and what a row takes is extrapolated from two samples of them.
"""

from __future__ import annotations

import math
import time
from dataclasses import replace
from typing import NamedTuple

from torch import Tensor

from janelia_core.ml._knn.choose import rows_alone, screen_of
from janelia_core.ml._knn.data.centres import Centres
from janelia_core.ml._knn.data.points import Points
from janelia_core.ml._knn.find import planned
from janelia_core.ml._knn.meanwhile import asker, rehearse
from janelia_core.ml._knn.metrics.mapped import both_points, searched_by
from janelia_core.ml._knn.plan.plan import Plan
from janelia_core.ml._knn.report import Report
from janelia_core.ml._knn.search import search
from janelia_core.ml._runtime.kernels import optional_kernels
from janelia_core.ml._runtime.loading import must_wait, waiting

_ENOUGH = 0.15  # seconds of a measurement, from which noise is small
_AT_FIRST = 0.05  # seconds that the first rows may take, as far as costs tell
_FEWEST, _GROWTH = 256, 4  # rows of it, and how many times as many come next
_LONG, _MOST = 0.4, 1.0  # seconds that few rows may take, and more of them
_DOUBT = 0.3  # of what a single row takes: less tells nothing of others
_PER_COORDINATE = 1.5  # nanoseconds of a pair, where every centre is verified
_PATIENCE = 5.0  # seconds for kernels that are on disk
_SPARSER = 4  # times fewer centres in a second sample


class Trial(NamedTuple):
    """What some rows told.

    Attributes:
        report: Of their search: `Report.ran` is what runs, and `Report.plan` the plan that did.
        found: (k, r) their neighbours.
        rows: (r, d) the rows, on the CPU or where they were searched.
        fixed: Seconds that a search takes whatever its rows: it prepares the centres.
        per_row: Seconds that each row takes.
    """

    report: Report
    found: Tensor
    rows: Tensor
    fixed: float
    per_row: float

    def step(self, rows: int) -> float:
        """Return how many seconds a search of so many rows takes."""
        return self.fixed + rows * self.per_row


class Tried:
    """Tries a search of n_smps x n_ctrs points on a sample of them.

    Args:
        x: (r, d) some of the rows, in the order of the file; where they are to be searched.
        ctrs: (c, d) the centres, or some of them, at least k.
        sizes: (n_smps, n_ctrs).
        k: As for `find`; and so is what follows.
    """

    def __init__(
        self,
        x: Tensor,
        ctrs: Tensor,
        sizes: tuple[int, int],
        k: int,
        *,
        m: int | None,
        max_memory: int,
        metric: str,
    ) -> None:
        (self._x, self._ctrs), metric = both_points(metric, x, ctrs), searched_by(metric)
        self._stored, self._is_ready = x, asker(self._x, self._ctrs)
        self.plan = planned(self._x, self._ctrs, sizes, k, m=m, max_memory=max_memory, metric=metric)

    @property
    def names(self) -> tuple[str, ...]:
        """Which screens may run, the first of the plan first."""
        return tuple(plan.screen for plan in self.plan.ways)

    def await_kernels(self) -> None:
        """Wait until the kernels of all that may run are loaded, unless some have to be compiled first."""
        if not self.plan.at_once_rows:
            for plan in self.plan.ways:
                self._is_ready(plan, _PATIENCE)

    @optional_kernels
    def rehearse(self) -> None:
        """Load the kernels of all that may run, compiled if need be, so that later processes find them on disk."""
        if must_wait() or self.plan.at_once_rows:
            return  # whoever wants kernels loads them then
        with waiting():
            for plan in self.plan.ways:
                if plan.kernels and plan.screen != "none":
                    rehearse(plan, self._x.dtype, self._ctrs.dtype)

    def ran(self) -> Report:
        """Search some rows, and return what happened."""
        return self._run(self._affordable(), self._centres())[1]

    def timed(self) -> Trial:
        """Search some rows, and tell what a row takes."""
        few = self._affordable()
        trial = self._measured(self._centres(), few)
        n_ctrs, some = self.plan.problem.n_ctrs, len(self._ctrs)
        if some == n_ctrs:
            return trial
        step = self._ctrs[::_SPARSER]
        power = 1.0
        if len(step) >= self.plan.k:
            sparse = self._measured(Centres(Points(step, chunk=self.plan.crew.chunk)), few)
            if sparse.report.ran == trial.report.ran and 0.0 < sparse.per_row < trial.per_row:
                power = min(1.0, math.log(trial.per_row / sparse.per_row) / math.log(len(self._ctrs) / len(step)))
            elif sparse.report.ran == trial.report.ran:
                power = 0.0
        times = n_ctrs / some
        return trial._replace(fixed=trial.fixed * times, per_row=trial.per_row * times**power)

    def _centres(self) -> Centres:
        return Centres(Points(self._ctrs, chunk=self.plan.crew.chunk))

    def _modelled(self) -> float:
        """Return the seconds of a row by what screens say that they cost."""
        problem, screen = self.plan.problem, screen_of(self.plan)
        if screen is not None and rows_alone(screen, problem) < math.inf:
            return rows_alone(screen, problem) / problem.n_smps * 1e-9
        return problem.n_ctrs * max(1, problem.d) * _PER_COORDINATE * 1e-9

    def _affordable(self) -> int:
        """Return how many rows are tried at first: as many as take little, by their cost and by trying fewer.

        Kernels are loaded by that. A search takes some time whatever its rows, which says nothing of these.
        """
        enough = min(len(self._x), max(_FEWEST, int(_AT_FIRST / self._modelled())))
        centres, rows = self._centres(), 1
        self._run(rows, centres)
        single = self._clocked(rows, centres)[0]
        for more in (2, 64, 1024, enough):
            took = self._clocked(rows, centres)[0] if rows > 1 else single
            told = rows > 1 and took > single * (1.0 + _DOUBT)
            each = (took - single) / (rows - 1) if told else 0.0
            if each * more > _LONG or rows >= enough:
                break
            rows = min(more, enough)
        self._run(rows, self._centres())
        return rows

    def _measured(self, centres: Centres, few: int) -> Trial:
        """Time rows among centres that nothing was made of yet: once with all that is made of them, then without."""
        whole, (found, report) = self._clocked(few, centres)
        single = min(self._clocked(1, centres)[0] for _ in range(2))
        rows, (alone, _) = few, self._clocked(few, centres)
        begun = (few, alone) if few >= _FEWEST else (1, single)  # looks at fewer rows take less
        while (alone - begun[1] < _ENOUGH or rows == begun[0]) and alone < _MOST and rows < len(self._x):
            rows = min(len(self._x), rows * _GROWTH)
            alone, (found, report) = self._clocked(rows, centres)
        per_row = alone / rows
        if rows == begun[0]:
            begun = (1, single)
        if rows > 1:
            per_row = (alone - begun[1]) / (rows - begun[0]) if alone > begun[1] else min(per_row, self._modelled())
        return Trial(report, found, self._stored[:rows], max(0.0, whole - few * per_row), per_row)

    def _clocked(self, rows: int, centres: Centres) -> tuple[float, tuple[Tensor, Report]]:
        start = time.perf_counter()
        found = self._run(rows, centres)
        return time.perf_counter() - start, found

    @optional_kernels
    def _run(self, rows: int, centres: Centres) -> tuple[Tensor, Report]:
        """Search the first rows, kernels being waited for."""
        plan = _shared_out(self.plan, rows)
        report = Report(plan)
        x = Points(self._x[:rows], chunk=plan.crew.chunk)
        with waiting():
            found = search(x, centres, plan, None, None, report, self._is_ready)
        return found, report


def _shared_out(plan: Plan, rows: int) -> Plan:
    """Return the plan for rows that are fewer, of which each worker has a share all the same."""
    share = -(-rows // plan.crew.workers)
    return replace(
        plan,
        blocks=plan.blocks._replace(rows=min(plan.blocks.rows, share)),
        at_once_rows=min(plan.at_once_rows, share),
        otherwise=None if plan.otherwise is None else _shared_out(plan.otherwise, rows),
    )
