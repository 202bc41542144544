"""What a search of an index would run, what is paid towards more, and which centres a call draws."""

from __future__ import annotations

import torch
from torch import Tensor

from janelia_core.ml._knn.among import Among
from janelia_core.ml._knn.choose import make_plan, screen_of
from janelia_core.ml._knn.data.points import as_float64
from janelia_core.ml._knn.face import checked_count, checked_memory
from janelia_core.ml._knn.kept import Kept
from janelia_core.ml._knn.metrics.mapped import searched_by
from janelia_core.ml._knn.plan.plan import Plan
from janelia_core.ml._knn.screens.keeping import Storing
from janelia_core.ml._neighbors.draw import drawn
from janelia_core.ml._neighbors.indices import Settings, search
from janelia_core.ml._neighbors.spelling import check_metric
from janelia_core.ml._runtime.loading import waiting
from janelia_core.ml._runtime.machine import this_machine

_LOOKING = 32  # rows that show a screen what to expect, where none have been asked for


def planned(among: Among, n_smps: int, k: int, metric: str, max_memory: int | None) -> Plan:
    """Return what a search of float32 rows would run now among the largest part of the centres."""
    check_metric(metric)
    n_smps, max_memory = checked_count("n_smps", n_smps), checked_memory(max_memory, among.values.device)
    k = checked_count("k", k, len(among), "n_ctrs")
    among, metric = among.of_points(metric), searched_by(metric)
    largest = max(among.parts, key=len)
    return _plan(largest.kept, n_smps, min(k, len(largest)), metric, max_memory)


def prepare(ctrs: Tensor, among: Among, n_smps: int, k: int, metric: str) -> None:
    """Make what a search of n_smps rows among the centres (n_ctrs, d) would prepare: count it as paid, and search."""
    check_metric(metric)
    memory = checked_memory(None, ctrs.device)
    n_smps, k = checked_count("n_smps", n_smps), checked_count("k", k, len(among), "n_ctrs")
    for part in among.of_points(metric).parts:
        if len(part):
            _pay(part.kept, _plan(part.kept, n_smps, min(k, len(part)), searched_by(metric), memory))
    some = ctrs[:: -(-len(ctrs) // _LOOKING)].contiguous()
    finite = torch.isfinite(as_float64(some)).all(dim=1)  # others say nothing of rows to come
    some = some[finite] if bool(finite.any()) else some
    with waiting():  # for kernels: torch operations would leave nothing prepared
        search(some, ctrs, Settings(k, metric, None, memory, False), kept=among)


def _pay(kept: Kept, plan: Plan | None) -> None:
    """Pay for what is planned; and if only rows to come tell whether that pays, for what serves where it does not."""
    while plan is not None:
        kept.pay(plan)
        plan = None if isinstance(screen_of(plan), Storing) else plan.otherwise


def _plan(kept: Kept, n_smps: int, k: int, metric: str, max_memory: int) -> Plan:
    points, (paid, keeps) = kept.centres.points, kept.terms(metric)
    return make_plan(
        n_smps,
        len(points),
        points.d,
        k,
        len(points),
        machine=this_machine(points.device),
        float32=points.values.dtype == torch.float32 and points.subset is None,
        budget=max_memory,
        metric=metric,
        paid=paid,
        keeps=keeps,
    )


def drawn_of(
    among: Among, x: Tensor, ctrs: Tensor, sample: int | None, generator: torch.Generator | None
) -> Tensor | None:
    """Return the numbers of centres drawn from those that are left; None means all."""
    left = among.left
    if left is None:
        return drawn(x, ctrs, sample, generator)
    positions = drawn(x, left[:, None], sample, generator)
    return None if positions is None else left[positions]
