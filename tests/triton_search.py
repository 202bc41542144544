"""Searches by the Triton screen without a GPU, on small tiles, for processes where kernels are interpreted.

Settings come from `cost`, then tiles are made so small that a few hundred centres fill many: else a small problem would
never meet the filter.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from janelia_core.ml._knn.answers import Answers
from janelia_core.ml._knn.choose import plan_with
from janelia_core.ml._knn.data.centres import Centres
from janelia_core.ml._knn.data.mask import Allowed
from janelia_core.ml._knn.data.points import Points
from janelia_core.ml._knn.plan.plan import Plan
from janelia_core.ml._knn.problem import Problem
from janelia_core.ml._knn.report import Report
from janelia_core.ml._knn.screens.portable.offer import PORTABLE
from janelia_core.ml._knn.screens.triton import cost
from janelia_core.ml._knn.screens.triton.cost import Settings
from janelia_core.ml._knn.screens.triton.screen import TritonMeeting
from janelia_core.ml._knn.search import search
from janelia_core.ml._runtime.gpu import Gpu
from janelia_core.ml._runtime.machine import Machine
from problems import PROBLEMS

GPU = Gpu(90, 4, inline=False, descriptors=False)
"""The interpreter runs no instructions of a chip."""
WHOLE: dict[str, Any] = {"whole": True, "parts": 1}
"""All centres are scored without a threshold."""
TURNS: dict[str, Any] = {"whole": False, "parts": 2}
"""A first part is scored, the others are filtered by two programs, which share them, in two turns."""


def settings(problem: Problem, *, first: int = 2, ctrs: int = 32, **changes: Any) -> Settings:
    """Return how small tiles go about a search; `first` tiles come before the others where not all are scored."""
    made = cost._settings(problem, GPU)._replace(**{**WHOLE, "biased": True, **changes})
    n_tiles = -(-problem.n_ctrs // ctrs)
    turns = [min(edge, n_tiles) for edge in (first, 2 * first, n_tiles)]
    edges = (n_tiles,) if made.whole else tuple(sorted(set(turns)))
    groups = min(made.groups, ctrs) if made.whole else 8
    return made._replace(tile=made.tile._replace(rows=16, ctrs=ctrs), edges=edges, groups=groups)


def plan_of(n: int, n_ctrs: int, d: int, k: int, metric: str = "euclidean", masked: bool = False, **how: Any) -> Plan:
    """Return a plan that names the Triton screen, whatever the sizes, and torch operations behind it."""
    problem = Problem(n, n_ctrs, d, k, n_ctrs, Machine(gpu=GPU), False, 1 << 28, metric, masked)
    plain = plan_with(problem, [PORTABLE])
    return replace(plain, screen="triton", sifts=True, own=settings(problem, **how), otherwise=plain)


class Outcome(NamedTuple):
    """What a search by the Triton screen ends with: indices (k, n), the rows it left in doubt, and the report."""

    indices: Tensor
    left: list[int]
    report: Report


def searched(
    x: Tensor,
    ctrs: Tensor,
    k: int,
    metric: str = "euclidean",
    *,
    allowed: Allowed | None = None,
    subset: Tensor | None = None,
    but_self: bool = False,
    **how: Any,
) -> Outcome:
    """Search by the Triton screen; `how`: settings that are changed."""
    points, more, left = Points(ctrs, subset), int(but_self), list(range(len(x)))
    plan = plan_of(len(x), len(points), x.shape[1], k + more, metric, allowed is not None, **how)
    report, out = Report(plan), torch.empty(k, len(x), dtype=torch.int64)
    sweep = TritonMeeting.sweep

    def watched(meeting: TritonMeeting, answers: Answers) -> Tensor:
        found = sweep(meeting, answers)
        left[:] = sorted(found.tolist())
        return found

    TritonMeeting.sweep = watched  # type: ignore[method-assign]
    try:
        search(Points(x), Centres(points), plan, allowed, Answers(out, but_self), report)
    finally:
        TritonMeeting.sweep = sweep  # type: ignore[method-assign]
    return Outcome(out, left, report)


def asked_of(name: str, rows: int = 2, k: int = 3) -> tuple[Tensor, Tensor, int]:
    """Return a few rows of a problem, its centres and a small k: kernels take long where they are interpreted."""
    x, ctrs, most, _ = PROBLEMS[name]()
    return x[:rows], ctrs, min(k, most)
