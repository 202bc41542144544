"""Who lists the centres within a radius, by sizes: as for k nearest, of those screens that can."""

from __future__ import annotations

import functools
import math
from dataclasses import replace

from janelia_core.ml._knn.arithmetic.bounds import UNIT32, gamma
from janelia_core.ml._knn.choose import SCREENS, building, plan_with, plan_without, why_not
from janelia_core.ml._knn.metrics.metric import UNKNOWN
from janelia_core.ml._knn.plan.plan import Plan
from janelia_core.ml._knn.problem import Problem
from janelia_core.ml._knn.screens.portable import cost as portable
from janelia_core.ml._knn.screens.portable.offer import PORTABLE

PER_PAIR = 320  # bytes of a pair while it is listed, verified and put in order
_FEW, _FEW_BESIDE = 1 << 21, 1 << 15  # coordinates of pairs: each is verified
_MANY = 1 << 10  # rows for which a screen that stands is taken
_MOST_EXPECTED = 64  # members a row that screens are asked for as if they were as many nearest


@functools.lru_cache(maxsize=256)
def plan_radius(problem: Problem) -> Plan:
    """Plan a search whose rows have about `problem.k` members each."""
    problem = problem._replace(k=max(1, min(problem.k, _MOST_EXPECTED, problem.n_ctrs)))
    if verifies_all(problem):
        return plan_without(problem, "so few pairs are verified one by one", shared=True)
    if problem.form == UNKNOWN:
        return plan_without(problem, f"no screen knows the metric {problem.metric}", shared=True)
    if gamma(portable.n_columns(problem.d), UNIT32) > portable.WORST_GAMMA:
        return plan_without(problem, f"float32 sums over {problem.d} coordinates exclude nothing", shared=True)
    screens = [one for one in SCREENS if one is PORTABLE or getattr(one, "radius", False)]
    if not _stands(problem):
        return plan_with(problem, screens)
    # What stands need not pay: few rows take it as many would.
    plan = plan_with(problem._replace(n_smps=max(problem.n_smps, _MANY)), screens)
    return replace(plan, problem=problem)


def verifies_all(problem: Problem) -> bool:
    """Tell whether pairs are so few that each is verified: fewer where centres stand prepared."""
    return problem.work <= (_FEW_BESIDE if _stands(problem) else _FEW)


def _stands(problem: Problem) -> bool:
    """Tell whether the centres stand prepared for a screen, or rows so far have paid for one that lists members."""
    paid = dict(problem.paid)
    able = (one for one in SCREENS if one.name in paid and getattr(one, "radius", False))
    return any(work == math.inf for work in paid.values()) or any(
        not why_not(one, problem, 1) and building(one, problem) == 0 for one in able
    )


def most_pairs(plan: Plan) -> int:
    """Return how many pairs each worker may hold at a time."""
    return max(1, plan.problem.budget // 2 // plan.crew.workers // PER_PAIR)
