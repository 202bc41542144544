"""Torch operations search while the kernels of a plan are loaded, and hand over between two blocks of rows.

The answer is unique, so it does not matter who gives it. A plan whose kernels are not there yet is put off: another
runs that knows what comes `later`, for a machine without kernels, or by the screen that most data take while those of
a rare one are loaded. What both promise of the memory is what the larger needs; what the first prepared of the centres
goes when it hands over.

Kernels of a search are brought by searching points made up for that, by the same plan: every screen is rehearsed so,
and has to register nowhere.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import replace
from functools import partial
from typing import Protocol

import torch
from torch import Tensor

from janelia_core.ml._knn.choose import make_plan, screen_of
from janelia_core.ml._knn.data.centres import Centres
from janelia_core.ml._knn.data.points import Points
from janelia_core.ml._knn.data.values import Reader
from janelia_core.ml._knn.metrics.registry import metric_named
from janelia_core.ml._knn.plan.plan import Plan
from janelia_core.ml._knn.search import search
from janelia_core.ml._knn.verify.verify import rehearse as rehearse_verify
from janelia_core.ml._runtime.loading import QUIET, are_ready, enough

_ROWS, _CTRS = 1024, 2048  # of a rehearsal: so many that rows are put in order, and a tree is built by all workers
_NUMBERS = 1 << 21  # in its centres, at most
_COPIES = 16  # of its centres are there twice, so that near-ties are settled
_PER_PAIR, _PER_COORDINATE, _PER_NEIGHBOUR = 1.5e-9, 3e-11, 6e-7  # seconds of a core for torch operations; measured
_WORTH, _JOINS = 0.3, 0.1  # seconds of torch operations from which kernels are waited for; or if they load already
_LEAST_PATIENCE, _MOST_PATIENCE = 0.6, 1.5  # seconds; loading from disk takes 0.3 to 0.7
_SPARE = 16  # that part of the memory is left
_MOST = 100  # magnitude of integers


class _IsReady(Protocol):
    def __call__(self, plan: Plan, patience: float = 0.0, delay: float = 0.0) -> bool: ...


def asker(x: Tensor, ctrs: Tensor) -> _IsReady:
    """Return who tells whether the kernels that a plan wants for rows x among ctrs are there."""
    dtypes = x.dtype, ctrs.dtype

    def is_ready(plan: Plan, patience: float = 0.0, delay: float = 0.0) -> bool:
        if not plan.kernels:
            return True
        return are_ready(use_of(plan, *dtypes), partial(rehearse, plan, *dtypes), patience, delay)

    return is_ready


def now(plan: Plan, is_ready: _IsReady, keeps: bool = False) -> Plan:
    """Return what runs now: the plan if its kernels are there, else one of torch operations which it follows.

    Where only those of a rare screen are not there, the plan of most data runs, and hands over likewise, unless what
    it prepares of the centres is to be kept.

    Kernels on disk are waited for, if that may take less than torch operations would (some tenths of a second), or if
    they are being loaded already. Else none are loaded as long as torch operations may soon be done undisturbed.
    """
    if plan.at_once_rows:  # a look at all pairs asks by itself
        return plan
    usual = _usual(plan)
    if is_ready(usual, *_patience(usual)):
        if usual is plan or is_ready(plan, delay=QUIET):
            return plan
        return usual if keeps else replace(usual, later=plan)  # which promises what either needs
    if usual is not plan:
        is_ready(plan, delay=QUIET)
        is_ready(usual, delay=QUIET)  # wanted more: what was wanted last comes first
    plan, asked = usual, plan.problem
    terms = {name: getattr(asked, name) for name in ("float32", "metric", "masked", "paid", "keeps")}
    terms["budget"] = asked.budget - asked.budget // _SPARE  # what torch operations hold is not reckoned to the byte
    machine = replace(asked.machine, kernels=False)
    first = make_plan(asked.n_smps, asked.n_ctrs, asked.d, asked.k, asked.m, machine=machine, **terms)
    reason = f"torch operations, until the kernels for the {plan.screen} screen are loaded"
    most = max(first.workspace_bytes, plan.workspace_bytes)
    return replace(first, reason=reason, workspace_bytes=most, later=replace(plan, workspace_bytes=most))


def _usual(plan: Plan) -> Plan:
    """Return the plan that most data take: that of the first screen which is not rare."""
    while plan.otherwise is not None and getattr(screen_of(plan), "rare", False):
        plan = plan.otherwise
    return plan


def _patience(plan: Plan) -> tuple[float, float]:
    """Return how many seconds to wait for kernels that are on disk, and for how long not to begin with them.

    Where torch operations are soon done, none are loaded meanwhile, and only those waited for that are already.
    Who waits is told as soon as something turns out to need compiling.
    """
    asked = plan.problem
    per_row = asked.n_ctrs * (_PER_PAIR + _PER_COORDINATE * asked.d) + asked.k * _PER_NEIGHBOUR
    seconds = asked.n_smps * per_row / asked.machine.threads
    patience = min(max(2.0 * seconds, _LEAST_PATIENCE), _MOST_PATIENCE)
    return patience if seconds > _JOINS else 0.0, 0.0 if seconds > _WORTH else QUIET


def use_of(plan: Plan, rows: torch.dtype, ctrs: torch.dtype) -> Hashable:
    """Name the kernels of a plan.

    What the values decide (a finer format, say) is not named; a rehearsal brings what it meets of that.
    """
    return "search", plan.screen, plan.variant, plan.problem.form, plan.problem.masked, rows, ctrs


def rehearse(plan: Plan, rows: torch.dtype, ctrs: torch.dtype) -> None:
    """Search a few points made up for that, by a plan for larger ones, in the calling thread."""
    x, centres, small = made_up(plan, rows, ctrs)
    search(x, centres, small, _all_but_first if plan.problem.masked else None)
    enough(QUIET)  # for most data
    _look(centres.points.values)
    rehearse_verify(rows, ctrs, metric_named(plan.metric))


def made_up(plan: Plan, rows: torch.dtype, ctrs: torch.dtype) -> tuple[Points, Centres, Plan]:
    """Return a few points, some of them twice, and a plan for them that does as one for larger ones."""
    asked = plan.problem
    n_ctrs = max(2, min(_CTRS, asked.n_ctrs, _NUMBERS // max(1, asked.d)))
    n_smps, k = min(_ROWS, asked.n_smps), min(asked.k, n_ctrs // 2)
    machine = replace(asked.machine, threads=1)
    problem = asked._replace(n_smps=n_smps, n_ctrs=n_ctrs, k=k, m=min(asked.m, n_ctrs), machine=machine, paid=())
    small = replace(
        plan,
        problem=problem,
        crew=plan.crew._replace(workers=1, pooled=False),
        at_once_rows=0,
        otherwise=None,
        later=None,
    )
    source = torch.Generator("cpu").manual_seed(0)
    centres = _points(n_ctrs, asked.d, ctrs, source)
    centres[-_COPIES:] = centres[:_COPIES].clone()
    return Points(_points(n_smps, asked.d, rows, source)), Centres(Points(centres)), small


def _all_but_first(numbers: Tensor, start: int, stop: int) -> Tensor:
    return (torch.arange(start, stop, device="cpu") > 0).expand(len(numbers), -1)


def _look(centres: Tensor) -> None:
    """Look at values in all ways, of which sizes and values choose one."""
    reader, points = Reader(kernels=True), Points(centres)
    reader.ends(points)
    reader.column_ends(points)
    reader.all_multiples(Points(torch.zeros_like(centres)), 1.0)


def _points(n: int, d: int, dtype: torch.dtype, source: torch.Generator) -> Tensor:
    values = torch.rand(n, d, generator=source, device="cpu", dtype=torch.float64)
    return (values if dtype.is_floating_point else values * _MOST).to(dtype)
