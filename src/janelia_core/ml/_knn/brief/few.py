"""A few rows among many centres, briefly: two kernels, where the plan is a pass over the centres (the direct screen).

A pass over some megabytes of centres takes a tenth of a millisecond, and all that stands around it in `search` several
times that.
"""

from __future__ import annotations

import functools

import numpy as np
import torch

from janelia_core.ml._knn.brief.question import Brief, Question, Sizes
from janelia_core.ml._knn.choose import make_plan
from janelia_core.ml._knn.metrics.metric import DISTANCE, Bound
from janelia_core.ml._knn.metrics.registry import metric_named
from janelia_core.ml._knn.screens.direct.cost import SHORT
from janelia_core.ml._runtime.arrays import F32, I64
from janelia_core.ml._runtime.loading import are_ready
from janelia_core.ml._runtime.machine import this_machine

_MOST = 64  # rows
_MOST_COORDINATES = 1 << 25  # of centres: a pass over more takes so long that nothing around it counts
_PER_THREAD = 1 << 19  # coordinates of centres, for which another thread is worth waking
_SCREEN = "direct"
_CPU = torch.device("cpu")


def serves(sizes: Sizes) -> bool:
    """Tell whether it may be a pass; what plans are made of beside sizes, the plan itself tells."""
    few = sizes.n <= _MOST and sizes.n_ctrs * sizes.d <= _MOST_COORDINATES and not (sizes.but_self or sizes.masked)
    return few and sizes.dtype == torch.float32 and metric_named(sizes.metric).form == DISTANCE


def is_ready(sizes: Sizes) -> bool:
    """Tell whether the kernels of the pass are there; if not, they begin to load."""
    short = sizes.d <= SHORT
    return are_ready(("few", short), functools.partial(_rehearse, short))


def _rehearse(short: bool) -> None:
    ctrs = np.arange(4.0, dtype=np.float32)[:, None].repeat(1 if short else SHORT + 1, axis=1)
    bound = metric_named("euclidean").bound(ctrs.shape[1])
    nearest(ctrs[:1].copy(), ctrs, 1, bound, 2, 2)  # two shares, whose lists are joined


def answered(asked: Question) -> Brief | None:
    """Return the answer by a pass, if that is the plan and no row is in doubt."""
    (n, n_ctrs, d, _, k, m, metric, max_memory, *_), machine = asked.sizes, this_machine(_CPU)
    plan = make_plan(n, n_ctrs, d, k, n_ctrs if m is None else m, machine=machine, budget=max_memory, metric=metric)
    if plan.screen != _SCREEN or plan.own >= n_ctrs:
        return None
    shares = max(1, min(machine.threads, n_ctrs * d // _PER_THREAD))
    found = nearest(asked.x, asked.ctrs, k, metric_named(metric).bound(d), plan.own, shares)
    if found is None:
        return None
    return Brief(torch.from_numpy(found if asked.rounded else np.ascontiguousarray(found.T)), None)


def nearest(x: F32, ctrs: F32, k: int, within: Bound, width: int, shares: int) -> I64 | None:
    """Return the k nearest centres (n, k), if no row is in doubt; lists of `width` centres are verified."""
    from janelia_core.ml._knn.metrics.gaps import WAYS
    from janelia_core.ml._knn.screens.direct.few import pass_over
    from janelia_core.ml._knn.verify.kernels import Lists, answer

    listed, excluded = pass_over(torch.from_numpy(x), ctrs, width, shares)
    found, doubtful = np.empty((len(listed), k), np.int64), np.empty(len(listed), np.int64)
    lists = Lists(x, ctrs, listed, np.empty((0, 0)), WAYS[DISTANCE])
    return None if answer(lists, excluded, k, within, found, doubtful) else found
