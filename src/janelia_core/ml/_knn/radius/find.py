"""The door to the search within radii: from checked tensors to answers, put block by block."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from janelia_core.ml._knn.asking import ask
from janelia_core.ml._knn.data.centres import Centres
from janelia_core.ml._knn.data.mask import Allowed
from janelia_core.ml._knn.data.points import Points, as_stored, lifted, without_subnormals
from janelia_core.ml._knn.exact_order import ExactOrder
from janelia_core.ml._knn.kept import Kept
from janelia_core.ml._knn.meanwhile import asker, made_up
from janelia_core.ml._knn.meet import Chosen, choose
from janelia_core.ml._knn.metrics.metric import Metric
from janelia_core.ml._knn.metrics.registry import metric_named
from janelia_core.ml._knn.plan.plan import Plan
from janelia_core.ml._knn.problem import FEWEST_CTRS, Paid, Problem
from janelia_core.ml._knn.radius.blocks import Put, Searcher, Settings, search_positions
from janelia_core.ml._knn.radius.compiled import Compiled, takes
from janelia_core.ml._knn.radius.look import expected_members
from janelia_core.ml._knn.radius.plan import most_pairs, plan_radius, verifies_all
from janelia_core.ml._knn.radius.ragged import Ragged, too_many
from janelia_core.ml._knn.radius.sources import Everyone, Given, Grouped, Listed, Source
from janelia_core.ml._knn.report import Report, publish
from janelia_core.ml._knn.rows import parts
from janelia_core.ml._knn.screens.contract import Asked
from janelia_core.ml._runtime.kernels import optional_kernels
from janelia_core.ml._runtime.loading import are_ready
from janelia_core.ml._runtime.machine import check_not_captured, flushes_subnormals, this_machine
from janelia_core.ml._runtime.workers import Workers

_MODEST = 2.0**450  # coordinates whose order values are far below the largest float64 number


class RadiusSearch(NamedTuple):
    """What is asked of a search within radii.

    Attributes:
        metric: A name of `metrics`.
        m: At most so many centres' scores at a time; None: as many as the memory allows.
        max_memory: Bytes of workspace.
        settings: What is asked of all rows.
        room: How many members there is room for; None: nobody knows. Where they may be more, they are counted first.
    """

    metric: str
    m: int | None
    max_memory: int
    settings: Settings
    room: int | None = None


Sources = Callable[[Asked, ExactOrder], tuple[Source, Source, Chosen | None]]
"""Who lists members, who takes any row, and what was chosen."""


def find_within(
    x: Tensor,
    ctrs: Tensor,
    r: Tensor,
    put: Put,
    asked: RadiusSearch,
    *,
    subset: Tensor | None = None,
    allowed: Allowed | None = None,
    kept: Kept | None = None,
) -> None:
    """Put all centres within the radius of each row of x, as row numbers of ctrs.

    Args:
        x: (n, d), as `face.checked_points` wants it.
        ctrs: (n_ctrs, d), likewise.
        r: (n,) float64, where float64 work for x's device is done; no NaN.
        put: Where answers go, in any order, from several threads.
        asked: What is asked.
        subset: Ascending int64 row numbers of the centres to search; None: all.
        allowed: See `find.find`.
        kept: What is kept of ctrs, all of them. Without subset.
    """
    _find(x, ctrs, r, put, asked, _by_screen, subset, allowed, kept)


def find_in_groups(x: Tensor, ctrs: Tensor, r: Tensor, groups: Tensor, put: Put, asked: RadiusSearch) -> None:
    """Put the same for rows of many small groups (g, 5), see groups.py, each among the centres of its own."""
    rows = torch.cat([torch.arange(first, last, device=x.device) for first, last in groups[:, :2].tolist()])

    def sources(asked: Asked, order: ExactOrder) -> tuple[Source, Source, None]:
        source = Grouped(groups.to(x.device), order.ctrs, order.metric)
        return source, source, None

    _find(x, ctrs, r, put, asked, sources, rows=rows)


def find_among(x: Tensor, ctrs: Tensor, r: Tensor, found: Ragged, put: Put, asked: RadiusSearch) -> None:
    """Put the same for rows each of which meets the centres alone that were found before."""

    def sources(asked: Asked, order: ExactOrder) -> tuple[Source, Source, None]:
        source = Given(found, order.ctrs, order.metric)
        return source, source, None

    _find(x, ctrs, r, put, asked, sources)


@optional_kernels
def _find(
    x: Tensor,
    ctrs: Tensor,
    r: Tensor,
    put: Put,
    asked: RadiusSearch,
    sources: Sources,
    subset: Tensor | None = None,
    allowed: Allowed | None = None,
    kept: Kept | None = None,
    rows: Tensor | None = None,
) -> None:
    """Plan and search; rows (r,): only those of x."""
    check_not_captured(x)
    if kept is not None:
        subset = kept.centres.points.subset
    if len(x) == 0 or len(ctrs if subset is None else subset) == 0:
        return  # nobody belongs
    same = x is ctrs
    x = as_stored(x)
    ctrs = x if same else as_stored(ctrs)
    metric = metric_named(asked.metric)
    if flushes_subnormals():
        stored, (x, ctrs) = ctrs, without_subnormals(x, ctrs)
        if ctrs is not stored and metric.limits(r[:0]) is not None:
            raise ValueError("places next to 0 have subnormal coordinates; call torch.set_flush_denormal(False) first")
        if ctrs is not stored:
            r, kept = _lifted(r, x, ctrs, 1 if metric.root else metric.degree), None
    # Workers could not write to what inference mode makes; it is a setting of the thread.
    with torch.inference_mode(False):
        terms = ((), 0) if kept is None else kept.terms(asked.metric)
        points = Points(x, rows), Points(ctrs, subset)
        plan, expected = _planned(*points, r, asked, metric, allowed is not None, *terms)
        chunk, report = plan.crew.chunk, Report(plan)
        centres = Centres(Points(ctrs, subset, chunk)) if kept is None else kept.centres.by(chunk)
        with Workers(plan.crew.workers, plan.crew.pooled, device=x.device) as workers:
            search = ask(Points(x, rows, chunk), centres, plan, report, workers, allowed, by_distance=True)
            search = replace(search, is_ready=asker(x, ctrs))
            if asked.room is not None and expected * len(points[0]) > asked.room:
                _search(search, r, _counted(asked.room), asked.settings._replace(count_only=True), sources)
            _search(search, r, put, asked.settings, sources)
    if kept is not None:
        kept.note(plan, report)
    publish(report)


def _lifted(r: Tensor, x: Tensor, ctrs: Tensor, degree: int) -> Tensor:
    """Return the radii of lifted rows and centres; what was finite stays so."""
    radii = r
    for _ in range(degree):
        radii = lifted(radii)
    beyond = torch.isinf(radii) & torch.isfinite(r)
    if bool(beyond.any()):
        if any(bool(((v.abs() > _MODEST) & torch.isfinite(v)).any()) for v in (x, ctrs)):
            raise ValueError(
                "r is too large for values of very different magnitudes while this thread flushes subnormals to zero; "
                "call torch.set_flush_denormal(False) first"
            )
        largest = torch.finfo(torch.float64).max  # than which no distance is larger, either
        radii = torch.where(beyond, torch.copysign(torch.full_like(radii, largest), radii), radii)
    return radii


def _counted(room: int) -> Put:
    """Return what counts members until there are more than there is room for."""
    total, rows, lock = 0, 0, threading.Lock()

    def put(numbers: Tensor, counts: Tensor, _: Tensor) -> None:
        nonlocal total, rows
        with lock:
            total, rows = total + int(counts.sum()), rows + len(numbers)
            if total > room:
                raise too_many(total, room, f"{rows} rows")

    return put


def _planned(
    x: Points, ctrs: Points, r: Tensor, asked: RadiusSearch, metric: Metric, masked: bool, paid: Paid, keeps: int
) -> tuple[Plan, float]:
    """Return the plan, and about how many members a row has, if anyone looked."""
    problem = Problem(
        n_smps=len(x),
        n_ctrs=len(ctrs),
        d=x.d,
        k=1,
        m=max(len(ctrs) if asked.m is None else asked.m, FEWEST_CTRS),
        machine=this_machine(x.device),
        float32=x.values.dtype == ctrs.values.dtype == torch.float32 and ctrs.subset is None,
        budget=asked.max_memory,
        metric=asked.metric,
        masked=masked,
        paid=paid,
        keeps=keeps,
    )
    if verifies_all(problem):
        return plan_radius(problem), 0.0
    expected = expected_members(x, ctrs, r, metric)
    return plan_radius(problem._replace(k=1 << math.ceil(math.log2(max(1.0, expected))))), expected


def _search(asked: Asked, r: Tensor, put: Put, settings: Settings, sources: Sources) -> None:
    plan, frame, x = asked.plan, asked.frame, asked.x
    order = ExactOrder(
        ctrs=asked.centres.points,
        metric=metric_named(plan.metric, frame.verify_exponent, frame.exact),
        k=1,
        in_float64=frame.in_float64,
        compiled=False,
        kernels=plan.kernels,
        report=asked.report,
    )
    source, everyone, chosen = sources(asked, order)
    listed = isinstance(source, Listed)
    compiled = source.compiled if isinstance(source, Listed) else None
    searcher = Searcher(source, everyone, order, settings, most_pairs(plan), frame.x_finite, compiled)
    step = (plan if chosen is None else chosen.plan).blocks.rows

    whole = True  # one turn takes all rows

    def work(positions: Tensor) -> None:
        search_positions(x, positions, r, searcher, put)
        if whole:
            asked.report.add(n_screened=len(positions))

    # Others than a screen that lists may take the rows part by part of the centres.
    turns = chosen.meeting.turns() if listed and chosen is not None and chosen.meeting is not None else [None]
    for turn in turns:
        whole = turn is None
        if turn is None:
            blocks = [torch.arange(p.start, min(p.stop, len(x)), device=x.device) for p in parts(len(x), step)]
        else:
            blocks = [turn[part] for part in parts(len(turn), step)]
        asked.workers.each(work, blocks)
    if not whole:
        asked.report.add(n_screened=len(x))


def _by_screen(asked: Asked, order: ExactOrder) -> tuple[Source, Source, Chosen | None]:
    plan, ctrs = asked.plan, order.ctrs
    if plan.screen == "none":
        everyone = Everyone(ctrs, order.metric, plan.blocks, asked.mask)
        return everyone, everyone, None
    chosen = choose(asked)
    everyone = Everyone(ctrs, order.metric, chosen.plan.blocks, asked.mask)
    within = None if chosen.meeting is None else chosen.meeting.within
    dtypes = asked.x.values.dtype, ctrs.values.dtype
    use = "radius", chosen.plan.screen, chosen.plan.variant, order.metric.form, *dtypes
    if within is not None and are_ready(use, partial(_rehearse, plan, *dtypes)):
        compiled = Compiled(within, ctrs, order.metric) if takes(asked.x.values, ctrs, order.metric) else None
        return Listed(within, ctrs, order.metric, everyone, compiled), everyone, chosen
    return replace(everyone, near=chosen.near), everyone, chosen


def _rehearse(plan: Plan, rows: torch.dtype, ctrs: torch.dtype) -> None:
    """Search a few points made up for that, so that kernels are loaded."""
    x, centres, small = made_up(plan, rows, ctrs)
    asked = ask(x, centres, small, Report(small), Workers(1, pool=False), None, by_distance=True)
    r = torch.zeros(len(x), dtype=torch.float64, device="cpu")
    _search(asked, r, lambda *_: None, Settings(), _by_screen)
