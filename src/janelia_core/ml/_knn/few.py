"""A few rows among many centres, briefly: from the call to two kernels, without report, places for answers, a ladder.

A pass over some megabytes of centres takes a tenth of a millisecond, and all that stands around it in `search` several
times that. So plain tensors whose plan is such a pass (the direct screen) are answered here, unless float64 distances
leave a single row in doubt or somebody watches: then the general way takes them.
"""

from __future__ import annotations

import functools

import numpy as np
import torch
from torch import Tensor

from janelia_core.ml._knn.choose import make_plan
from janelia_core.ml._knn.data.points import as_array
from janelia_core.ml._knn.metrics.metric import DISTANCE, Bound
from janelia_core.ml._knn.metrics.registry import metric_named
from janelia_core.ml._knn.report import is_watched
from janelia_core.ml._runtime.arrays import F32
from janelia_core.ml._runtime.kernels import may_serve, optional_kernels
from janelia_core.ml._runtime.loading import are_ready
from janelia_core.ml._runtime.machine import flushes_subnormals, this_machine

_MOST = 64  # rows
_MOST_COORDINATES = 1 << 25  # of centres: a pass over more takes so long that nothing around it counts
_PER_THREAD = 3 << 18  # coordinates of centres, from which another thread is worth its start
_SCREEN = "direct"


@optional_kernels
def nearest_of_few(x: Tensor, ctrs: Tensor, k: int, m: int | None, metric: str, max_memory: int) -> Tensor | None:
    """Return the k nearest centres (n, k) of each row of x (n, d) among ctrs (n_ctrs, d), if this way serves.

    Args:
        x: Plain tensor.
        ctrs: Likewise.
        k: At least 1.
        m: Bounds how many scores are held at once; None: nothing does.
        metric: One of METRICS.
        max_memory: Bytes of workspace.
    """
    (n, d), n_ctrs = x.shape, ctrs.shape[0]
    if not (0 < n <= _MOST and 0 < n_ctrs * d <= _MOST_COORDINATES and _are_plain(x, ctrs) and may_serve()):
        return None
    by = metric_named(metric)
    if by.form != DISTANCE or flushes_subnormals() or is_watched():
        return None
    machine = this_machine(x.device)
    plan = make_plan(n, n_ctrs, d, k, n_ctrs if m is None else m, machine=machine, budget=max_memory, metric=metric)
    if plan.screen != _SCREEN or plan.own >= n_ctrs or not _are_ready(plan.variant):
        return None
    shares = max(1, min(machine.threads, n_ctrs * d // _PER_THREAD))
    with torch.inference_mode(False):  # what it makes, nobody else could write to
        return _answered(x.detach(), as_array(ctrs), k, by.bound(d), plan.own, shares)


def _are_plain(x: Tensor, ctrs: Tensor) -> bool:
    """Tell whether both are float32 in the memory of the CPU, and the centres in C order."""
    usual = x.is_cpu and ctrs.is_cpu and x.dtype == ctrs.dtype == torch.float32 and ctrs.is_contiguous()
    return usual and not (x.is_neg() or ctrs.is_neg())


def _are_ready(short: object) -> bool:
    """Tell whether the kernels are there; if not, they begin to load."""
    return are_ready(("few", short), functools.partial(_rehearse, bool(short)))


def _rehearse(short: bool) -> None:
    from janelia_core.ml._knn.screens.direct.kernels import SHORT

    ctrs = np.arange(4.0, dtype=np.float32)[:, None].repeat(1 if short else SHORT + 1, axis=1)
    bound = metric_named("euclidean").bound(ctrs.shape[1])
    _answered(torch.from_numpy(ctrs[:1].copy()), ctrs, 1, bound, 2, 2)  # two shares, whose lists are joined


def _answered(x: Tensor, ctrs: F32, k: int, within: Bound, width: int, shares: int) -> Tensor | None:
    """Return the answer (n, k), if no row is in doubt."""
    from janelia_core.ml._knn.metrics.gaps import WAYS
    from janelia_core.ml._knn.screens.direct.few import pass_over
    from janelia_core.ml._knn.verify.kernels import Lists, answer

    listed, excluded = pass_over(x, ctrs, width, shares)
    found, doubtful = np.empty((len(listed), k), np.int64), np.empty(len(listed), np.int64)
    lists = Lists(as_array(x), ctrs, listed, np.empty((0, 0)), WAYS[DISTANCE])
    if answer(lists, excluded, k, within, found, doubtful):
        return None
    return torch.from_numpy(found)
