"""Which screen, by sizes, before a tensor is touched: `make_plan`. By values `meet` chooses.

The one file that names the screens. One more is one more folder, and one more name in SCREENS.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import replace

from janelia_core.ml._knn.arithmetic.bounds import UNIT32, gamma
from janelia_core.ml._knn.metrics.metric import FORMS, UNKNOWN
from janelia_core.ml._knn.plan.demand import Cost, Demand
from janelia_core.ml._knn.plan.memory import crew, room, share_out
from janelia_core.ml._knn.plan.plan import Crew, Plan
from janelia_core.ml._knn.problem import DEFAULT_MEMORY, FEWEST_CTRS, Paid, Problem
from janelia_core.ml._knn.screens.boxes.offer import BOXES
from janelia_core.ml._knn.screens.codebook.offer import CODEBOOK
from janelia_core.ml._knn.screens.contract import Screen
from janelia_core.ml._knn.screens.dense.cells.offer import CELLS
from janelia_core.ml._knn.screens.dense.offer import DENSE
from janelia_core.ml._knn.screens.dense.sieve.offer import SIEVE
from janelia_core.ml._knn.screens.differences.offer import DIFFERENCES
from janelia_core.ml._knn.screens.direct.offer import DIRECT
from janelia_core.ml._knn.screens.line.offer import LINE
from janelia_core.ml._knn.screens.portable import cost as portable
from janelia_core.ml._knn.screens.portable.offer import PORTABLE
from janelia_core.ml._knn.screens.sorted.offer import SORTED
from janelia_core.ml._knn.screens.tree.leading.offer import LEADING
from janelia_core.ml._knn.screens.tree.offer import TREE
from janelia_core.ml._knn.screens.triton.offer import TRITON
from janelia_core.ml._knn.small import cost as small
from janelia_core.ml._runtime.machine import Machine

SCREENS: tuple[Screen, ...] = (
    LINE,
    TREE,
    DIFFERENCES,
    CODEBOOK,
    DIRECT,
    SORTED,
    LEADING,
    CELLS,
    SIEVE,
    DENSE,
    BOXES,
    TRITON,
    PORTABLE,
)
"""In the order of preference; the last serves whatever the others do not."""

PLAIN = Machine()
_MOST_BY_LOOKS = 1 << 16  # n_smps * n_ctrs * d up to which nothing beats a look at all distances
_PER_LOOK, _PER_SORTED = 0.5, 10.0  # nanoseconds of a pair at a look, and of a neighbour
_PER_COORDINATE = 1.5  # of a pair, for its float64 order value by torch operations
_ROUNDING = 1e-12  # of sums of costs


@functools.lru_cache(maxsize=256)
def make_plan(
    n_smps: int,
    n_ctrs: int,
    d: int,
    k: int,
    m: int,
    *,
    machine: Machine = PLAIN,
    float32: bool = True,
    budget: int = DEFAULT_MEMORY,
    metric: str = "euclidean",
    masked: bool = False,
    paid: Paid = (),
    keeps: int = 0,
) -> Plan:
    """Plan a search of n_ctrs centres within `budget` bytes where that is possible at all.

    The arguments are those of `Problem`. m is at least 64, and as many centres as make no more scores than one row has
    with all of them: these take little, and fewer would only cost time.
    """
    m = max(m, FEWEST_CTRS, n_ctrs // max(1, n_smps))
    problem = Problem(n_smps, n_ctrs, d, k, m, machine, float32, budget, metric, masked, paid, keeps)
    width = portable.width(problem)
    few = machine.on_cpu and n_ctrs <= 4 * width  # elsewhere float64 takes longer, and a launch for each coordinate
    at_once = small.pays(problem, few) and not _is_prepared(problem)
    if at_once or few:
        why = f"{n_ctrs} centres are few for {width} candidates a row: each is verified"
        screen, without = _of_few(problem, few), plan_without(problem, why)
        if screen is not None:
            return _plan_alone(problem, screen, without)
        return _plan_at_once(problem) if at_once else without
    if problem.form == UNKNOWN:
        return plan_without(problem, f"no screen knows the metric {metric}")
    if gamma(portable.n_columns(d), UNIT32) > portable.WORST_GAMMA:
        return plan_without(problem, f"float32 sums over {d} coordinates exclude nothing")
    return plan_with(problem, SCREENS)


def _is_prepared(problem: Problem) -> bool:
    """Tell whether the centres stand prepared for a screen, or what that takes is paid, and that beats a small look."""
    if not problem.paid or problem.work <= small.MOST_BESIDE:
        return False
    paid = [screen for screen in SCREENS if screen.name in dict(problem.paid)]
    return any(not why_not(screen, problem, 1) and building(screen, problem) == 0 for screen in paid)


def knows(screen: Screen, form: int) -> bool:
    """Tell whether a screen knows the form of a metric."""
    return form in getattr(screen, "forms", FORMS)


def why_not(screen: Screen, problem: Problem, workers: int) -> str:
    """Return why a screen does not serve a problem of these sizes, or nothing."""
    if not knows(screen, problem.form):
        return f"the {screen.name} screen does not know the metric {problem.metric}"
    return screen.why_not(problem, workers)


def screen_of(plan: Plan) -> Screen | None:
    """Return the screen that a plan names; None: every centre is verified."""
    return next((screen for screen in SCREENS if screen.name == plan.screen), None)


def building(screen: Screen, problem: Problem) -> float:
    """Return what is unpaid of the work of preparing centres for a screen; 0 where there is nothing to prepare."""
    alone = rows_alone(screen, problem)
    left = screen.cost(problem).work - alone if alone < math.inf else 0.0
    return left if left > _ROUNDING * alone else 0.0


def rows_alone(screen: Screen, problem: Problem) -> float:
    """Return the work of the rows of a search among centres that stand prepared for a screen."""
    return screen.cost(problem._replace(paid=((screen.name, math.inf),))).work


def plan_with(problem: Problem, screens: Sequence[Screen]) -> Plan:
    """Plan with the first screen that serves; it gives way to the next, where values speak against it."""
    *preferred, last = (screen for screen in screens if not (problem.machine.on_cpu and getattr(screen, "gpu", False)))
    most = crew(problem, parallel=True, pooled=True).workers
    refused = {screen: why_not(screen, problem, most) for screen in preferred}
    serve = [screen for screen in preferred if not refused[screen]]
    parallel = bool(serve) and serve[0].parallel
    expected = serve[0].cost(problem).work if serve else math.inf
    workers = crew(problem, parallel, pooled=parallel, work=expected)  # whoever of them runs
    plan, rival = None, last.cost(problem)
    if reason := why_not(last, problem, workers.workers):  # beside screens, only float64 order values of all pairs
        plan, rival = plan_without(problem, reason), Cost(problem.work * _PER_COORDINATE)
    for screen in reversed(serve):
        demand = screen.demand(problem, room(problem, workers), workers.workers, rival)
        if isinstance(demand, str):
            plan = plan and replace(plan, reason="; ".join(part for part in (plan.reason, demand) if part))
            refused[screen] = "" if problem.machine.on_cpu else demand
            continue
        shared = _shared_out(problem, workers, screen.name, demand)
        if not problem.machine.on_cpu and shared.workspace_bytes > problem.budget:
            refused[screen] = f"beside what it holds, {problem.budget} bytes leave too little for a row in doubt"
            continue
        plan, rival = _preferred(shared, plan), screen.cost(problem)
    if plan is None:
        # Threads of torch's own wait for each other at each of some dozen operations on a block of rows.
        alone = crew(problem, parallel=last.parallel or problem.machine.on_cpu, pooled=False)
        demand = last.demand(problem, room(problem, alone), alone.workers, rival)
        assert not isinstance(demand, str)
        reasons = [demand.reason, *(refused[screen] for screen in preferred[-1:])]
        plan = _shared_out(problem, alone, last.name, demand._replace(reason=": ".join(filter(None, reasons))))
    return plan


def _of_few(problem: Problem, few: bool) -> Screen | None:
    """Return the screen that takes less than a look at all pairs of a small problem, or of few centres, if any does."""
    if problem.form == UNKNOWN:
        return None
    looks = problem.n_smps * (problem.n_ctrs * _PER_LOOK + problem.k * _PER_SORTED)
    on_line = problem.work > _MOST_BY_LOOKS and not why_not(LINE, problem, 1) and LINE.cost(problem).work < looks
    serve: list[Screen] = [LINE] if on_line else []
    if not why_not(CODEBOOK, problem, 1):
        serve.append(CODEBOOK)
    elif few and problem.work > small.MOST_WORK and not why_not(DIFFERENCES, problem, 1):
        serve.append(DIFFERENCES)
    elif few and problem.work > small.MOST_WORK and not why_not(SORTED, problem, 1):
        serve.append(SORTED)
    return min(serve, key=lambda screen: screen.cost(problem).work, default=None)


def _plan_alone(problem: Problem, screen: Screen, otherwise: Plan) -> Plan:
    """Plan with one screen, where it fits; the other plan takes longer."""
    who = crew(problem, screen.parallel, pooled=screen.parallel, work=screen.cost(problem).work)
    demand = screen.demand(problem, room(problem, who), who.workers, Cost(math.inf))
    if isinstance(demand, str):
        return otherwise
    return _preferred(_shared_out(problem, who, screen.name, demand), otherwise)


def _shared_out(problem: Problem, who: Crew, screen: str, demand: Demand) -> Plan:
    return share_out(problem, who, screen, demand, portable.fallback)


def _preferred(plan: Plan, otherwise: Plan | None) -> Plan:
    """Return a plan that promises the memory of whichever of both needs more."""
    most = max(plan.workspace_bytes, 0 if otherwise is None else otherwise.workspace_bytes)
    return replace(plan, workspace_bytes=most, otherwise=_promising(most, otherwise))


def _promising(most: int, plan: Plan | None) -> Plan | None:
    return plan and replace(plan, workspace_bytes=most, otherwise=_promising(most, plan.otherwise))


def plan_without(problem: Problem, reason: str, shared: bool = False) -> Plan:
    """Plan a search that verifies every centre."""
    who = crew(problem, parallel=shared, pooled=False)
    demand = portable.demand(problem, room(problem, who), who.workers, portable.cost(problem), keep=False)
    return _shared_out(problem, who, "none", demand._replace(reason=reason))


def _plan_at_once(problem: Problem) -> Plan:
    plan = plan_without(problem, "small enough for one look at all distances", small.is_shared(problem))
    rows = small.rows_at_once(problem, plan.crew.workers)
    held = small.held(problem, plan.crew.workers, rows)
    return replace(plan, at_once_rows=rows, workspace_bytes=max(plan.workspace_bytes, held))
