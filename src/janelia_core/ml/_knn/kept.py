"""Centres that are kept between searches, with what these prepared: as soon as it pays, as long as it fits.

Rent or buy. A search among centres that nothing was prepared for costs a pass over them; preparing them for a screen
costs more, and makes every later search cheaper. What a search would have cost less, had they been prepared, is noted
as paid towards it, and once that covers the preparing, the next search prepares (`Problem.unpaid`). So whatever comes,
what was spent is at most twice what the best choice in hindsight would have taken: as much on passes as on preparing,
and preparing once (A. Karlin et al., "Competitive snoopy caching", Algorithmica 3, 1988).
"""

from __future__ import annotations

import contextlib
import copy
import itertools
import math
from collections.abc import Mapping

from torch import Tensor

from janelia_core.ml._knn.choose import SCREENS, building, knows, rows_alone, screen_of, why_not
from janelia_core.ml._knn.data.centres import Centres
from janelia_core.ml._knn.data.points import Points
from janelia_core.ml._knn.meet import key_of_kept
from janelia_core.ml._knn.metrics.mapped import points_of
from janelia_core.ml._knn.metrics.metric import ALL_FORMS
from janelia_core.ml._knn.metrics.registry import metric_named
from janelia_core.ml._knn.plan.plan import Plan
from janelia_core.ml._knn.problem import Paid
from janelia_core.ml._knn.report import Report
from janelia_core.ml._knn.screens.contract import Screen
from janelia_core.ml._knn.screens.keeping import ByFew, Few, Stored, Storing, UnsuitedError
from janelia_core.ml._runtime.locks import ForkSafeLock


class Kept:
    """Centres, what was prepared of them, and what is paid towards more. Any number of threads may search them.

    Args:
        ctrs: (n_ctrs, d), whose values nobody changes.
        max_memory: Bytes that may be kept beside them.
        subset: Ascending int64 row numbers of those that are searched; None: all.
    """

    def __init__(self, ctrs: Tensor, max_memory: int, subset: Tensor | None = None) -> None:
        self.centres, self.max_memory = Centres(Points(ctrs.detach().resolve_neg(), subset)), max_memory
        self._credits: dict[tuple[str, int], float] = {}  # by screen and form of the metric
        self._few: tuple[tuple[int, int, bool], Few | None] | None = None  # as asked last
        self.mapped: dict[str, Kept] = {}  # what is kept of points, by the metric that maps the centres to them
        self._lock = ForkSafeLock()

    @property
    def nbytes(self) -> int:
        """Bytes kept."""
        mapped = self.mapped.values()
        return self.centres.nbytes + sum(kept.centres.points.values.nbytes + kept.nbytes for kept in mapped)

    def of_points(self, metric: str) -> Kept:
        """Return what is kept of the points that a metric maps the centres to; points that do not fit are made anew."""
        found = self.mapped.get(metric)
        if found is None:
            own = self.centres.points
            points = points_of(metric, own.values)
            found = Kept(points, max(0, self.max_memory - points.nbytes), own.subset)
            if points.nbytes <= self.max_memory:
                found = self.mapped.setdefault(metric, found)  # another thread may have been first
        return found

    def within(self, max_memory: int) -> Kept:
        """Return the same centres with what is kept of them, of which other bytes may be kept from now on."""
        if max_memory == self.max_memory:
            return self
        other = copy.copy(self)
        other.max_memory, other._credits, other._lock = max_memory, dict(self._credits), ForkSafeLock()
        other.mapped = {}
        other.centres.trim(max_memory)
        return other

    def stored(self) -> dict[str, Stored]:
        """Return what stands, as arrays and facts by name, for `restore`."""
        pieces: dict[str, Stored] = {}
        for screen, form in _storing():
            for prepared in self.centres.prepared(screen.name, form)[:1]:
                for i, piece in enumerate(screen.stored(prepared)):
                    pieces[f"{screen.name}/{form}/{i}"] = piece
        return pieces

    def restore(self, pieces: Mapping[str, Stored]) -> None:
        """Keep what `stored` returned of the same centres; what is of no use here is made again when it pays.

        Raises:
            ValueError: The pieces are not of these centres, or damaged.
        """
        for screen, form in _storing():
            names = sorted(name for name in pieces if name.rpartition("/")[0] == f"{screen.name}/{form}")
            if names:
                with contextlib.suppress(UnsuitedError):
                    prepared = screen.restored(self.centres, form, [pieces[name] for name in names])
                    self.centres.put(key_of_kept(screen, form), prepared)

    def terms(self, metric: str) -> tuple[Paid, int]:
        """Return what searches by a metric have paid of preparing the centres, and what may be kept: see `Problem`."""
        form = metric_named(metric).form
        paid = ((screen.name, self._paid(screen.name, form)) for screen in SCREENS)
        return tuple((name, work) for name, work in paid if work), self.max_memory

    def _paid(self, screen: str, form: int) -> float:
        return math.inf if self.centres.prepared(screen, form) else self._credits.get((screen, form), 0.0)

    def standing(self) -> list[tuple[str, int]]:
        """Return for which screens and forms of metrics the centres stand prepared."""
        every = itertools.product((screen.name for screen in SCREENS), ALL_FORMS)
        return [of for of in every if self.centres.prepared(*of)]

    def few(self, k: int, form: int, wide: bool = False) -> Few | None:
        """Return who answers a few plain rows at once, in the calling thread; None where nobody does."""
        known, asked = self._few, (k, form, wide)
        if known is None or known[0] != asked:
            made = (one for screen in SCREENS for one in self.centres.prepared(screen.name, form))
            able = (one.few(k, wide) for one in made if isinstance(one, ByFew))
            self._few = known = (asked, next((one for one in able if one is not None), None))
        return known[1]

    def pay(self, plan: Plan) -> None:
        """Count what a plan would prepare as paid for: the next search prepares it."""
        screen = screen_of(plan)
        if screen is not None:
            self._credit(screen.name, plan.problem.form, 1.0 + 2.0 * building(screen, plan.problem))

    def note(self, planned: Plan, report: Report) -> None:
        """Note what a search ran and what it would have saved, had more been prepared; keep what fits."""
        ran, form = report.plan, report.plan.problem.form
        self.centres.trim(self.max_memory)
        self._few = None
        for screen in SCREENS:
            name = screen.name
            if self.centres.prepared(name, form) or name == ran.screen or (name == planned.screen and report.look):
                self._spend(name, form)  # it stands, or does not fit, or was looked at and left
            else:
                self._credit(name, form, self._saved(screen, ran))

    def failed(self, planned: Plan) -> None:
        """Note that a search failed: what it may have wanted to prepare has to be paid anew."""
        self._spend(planned.screen, planned.problem.form)

    def _credit(self, screen: str, form: int, work: float) -> None:
        with self._lock:
            self._credits[screen, form] = self._credits.get((screen, form), 0.0) + work

    def _spend(self, screen: str, form: int) -> None:
        with self._lock:
            self._credits.pop((screen, form), None)

    def _saved(self, screen: Screen, ran: Plan) -> float:
        """Return how much longer a search took than with centres that stand prepared for a screen."""
        problem, form = ran.problem._replace(paid=()), ran.problem.form
        if why_not(screen, problem, ran.crew.workers) or not building(screen, problem):
            return 0.0
        # A look at all distances at once is a pass, too.
        who = screen_of(ran)
        passes = [who] if who else [one for one in SCREENS if knows(one, form) and not building(one, problem)]
        took = min((rows_alone(one, problem) for one in passes), default=math.inf)
        return max(0.0, took - rows_alone(screen, problem)) if took < math.inf else 0.0


def _storing() -> list[tuple[Storing, int]]:
    return [(screen, form) for screen in SCREENS if isinstance(screen, Storing) for form in ALL_FORMS]
