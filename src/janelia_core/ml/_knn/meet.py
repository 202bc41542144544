"""Which screen, by values: the first of a plan that serves them prepares the centres, and lets rows meet them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, replace

import torch

from janelia_core.ml._knn.choose import knows, screen_of
from janelia_core.ml._knn.data.frame import Place
from janelia_core.ml._knn.data.values import Reader
from janelia_core.ml._knn.metrics.registry import metric_named
from janelia_core.ml._knn.plan.plan import Plan
from janelia_core.ml._knn.screens.contract import Asked, Glance, Lister, Meeting, Near, Screen
from janelia_core.ml._knn.screens.keeping import Storing
from janelia_core.ml._knn.screens.portable.offer import PORTABLE
from janelia_core.ml._knn.screens.rungs import Rungs

_NOWHERE = Place(torch.empty(0, dtype=torch.float64, device="cpu"), 0)


@dataclass(frozen=True)
class Chosen:
    """What was chosen for a search.

    Attributes:
        plan: The plan that runs.
        meeting: Rows and centres, met by its screen; None: every centre is verified.
        fallback: Prepares the same by torch operations, for the rungs above it, when it is first called.
    """

    plan: Plan
    meeting: Meeting | None = None
    fallback: Callable[[], Meeting | None] = lambda: None

    @property
    def listers(self) -> Rungs[Lister] | None:
        """Who list candidates for the ladder: among all centres, so not who takes them part by part, or lists none."""
        whole = self.meeting is None or (self.meeting.parts == 1 and self.meeting.lists)
        chosen = self.meeting if whole else self.fallback()
        return None if chosen is None else chosen.listers

    @property
    def near(self) -> Near | None:
        """Who tells which centres may lie within a radius."""
        fallback = self.fallback()
        return None if fallback is None else fallback.near


def choose(asked: Asked) -> Chosen:
    """Prepare the centres for the first screen of a plan that serves these values, and let it meet the rows.

    Where none does, torch operations do, in the blocks of the plan that came last.
    """
    report, plan = asked.report, asked.plan
    _glance(asked)
    while True:
        screen = screen_of(plan)
        if screen is None or (screen.looks and _may_be_of_any_sign(asked)):
            return _without(asked, plan)
        step = replace(asked, plan=plan)
        why = screen.why_not_here(step) or ("" if asked.is_ready(plan) else "its kernels are being loaded")
        meeting = None if why else _met(screen, step)
        if meeting is not None:
            break
        if not screen.looks and _may_be_of_any_sign(asked):
            return _without(asked, plan)
        if plan.otherwise is None:
            break
        plan = report.plan = plan.otherwise
        report.screen = f"{plan.screen}: {why}" if why else ""
    # Of rows that a screen leaves in doubt, whatever it made of infinite centres, no list may exclude these.
    known = knows(PORTABLE, plan.problem.form)
    fallback = functools.cache(lambda: _met(PORTABLE, step) if known and not _may_be_of_any_sign(asked) else None)
    if meeting is None:
        meeting = fallback()
        report.screen = f"{PORTABLE.name if meeting else 'none'}: {why or report.look}"
    return Chosen(plan, meeting, fallback)


def _glance(asked: Asked) -> None:
    """Let a worker take the first looks of screens, one after the other, as long as they tell that none pays."""

    def look() -> None:
        for name, glance in _glances(asked):
            told = asked.glanced[name] = glance.look()
            if not glance.declines(told):
                break

    if not hasattr(screen_of(asked.plan), "glance"):
        return
    # Few values are seen by the same worker, others by all of them before.
    if (asked.few and not asked.centres.is_seen) or any(True for _ in _glances(asked)):
        asked.workers.once(look)


def _glances(asked: Asked) -> Iterator[tuple[str, Glance]]:
    plan: Plan | None = asked.plan
    while plan is not None and (screen := screen_of(plan)) is not None and screen.looks:
        step = replace(asked, plan=plan)
        if not screen.why_not_here(step):
            glance = screen.glance(step) if hasattr(screen, "glance") else None
            if glance is None:
                break
            yield screen.name, glance
        plan = plan.otherwise


def _without(asked: Asked, plan: Plan) -> Chosen:
    if _may_be_of_any_sign(asked):
        asked.report.screen = "none: inner products with infinite centres may be of any sign"
    return Chosen(plan)


def _may_be_of_any_sign(asked: Asked) -> bool:
    if not metric_named(asked.plan.metric).signed or asked.frame.ctrs_finite:
        return False
    return asked.centres.seen(Reader(asked.workers)).has_infinities(asked.workers)


def key_of(screen: Screen, place: Place, plan: Plan) -> Hashable:
    """Return what prepared centres are called among all that is made of them."""
    return screen.name, plan.problem.form, screen.key(place, plan)


def key_of_kept(screen: Storing, form: int) -> Hashable:
    """Return what is called so that was prepared of the centres and a form of metric alone."""
    return screen.name, form, None


def _met(screen: Screen, asked: Asked) -> Meeting | None:
    centres, plan, workers = asked.centres, asked.plan, asked.workers
    place = asked.frame.place if getattr(screen, "placed", False) else _NOWHERE
    key = key_of(screen, place, plan)
    kept = centres.holds(key)
    meeting = centres.made(key, lambda: screen.prepare(centres, place, plan, workers)).meet(asked)
    if meeting is None and not kept:  # the memory is another screen's now, unless other searches want it
        centres.forget(key)
    return meeting
