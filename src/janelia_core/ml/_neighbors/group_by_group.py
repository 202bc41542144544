"""Groups of a search: many small ones at one look each, the others one by one, or one by each worker."""

from __future__ import annotations

import contextvars
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from janelia_core.ml._knn.choose import make_plan
from janelia_core.ml._knn.clouds.at_once import Clouds, search_at_once
from janelia_core.ml._knn.clouds.cost import groups_at_once
from janelia_core.ml._knn.problem import PER_WORKER, clamp
from janelia_core.ml._knn.report import Report, is_watched, publish
from janelia_core.ml._runtime.machine import this_machine
from janelia_core.ml._runtime.workers import Workers

One = Callable[[list[int], int], None]
"""Searches a group with so many bytes of workspace."""

_FEWEST_WORK = (
    1 << 20
)  # coordinates of pairs of a group, in the mean, from which threads do not get into each other's way
_FEWEST_COLUMNS = 8  # where a pair of fewer takes no less


def search_groups(groups: Tensor, d: int, max_memory: int, one: One, clouds: Clouds | None, alone: bool) -> None:
    """Search all groups (n_groups, 5), see groups.py.

    Args:
        groups: On any device.
        d: Columns.
        max_memory: Bytes of workspace.
        one: Searches one of them, in any thread, unless `alone`.
        clouds: The search, where nothing but rows and centres matters to it.
        alone: In this thread only.
    """
    for some in torch.split(groups.cpu(), groups_at_once(max_memory)):
        left = some if clouds is None else _left_by_one_look(clouds, some.contiguous())
        workers = 1 if alone else _workers(left, d, max_memory, groups.device)
        if workers == 1:
            for group in left.tolist():
                one(group, max_memory)
        else:
            _share_out(left, workers, max_memory, one)


def _left_by_one_look(clouds: Clouds, groups: Tensor) -> Tensor:
    left, answered = search_at_once(clouds, groups)
    if answered and is_watched():
        sizes = answered, int((groups[:, 3] - groups[:, 2]).max())
        machine = this_machine(clouds.x.device)
        plan = make_plan(*sizes, clouds.x.shape[1], clouds.k, sizes[1], machine=machine, budget=clouds.budget)
        reason = f"{len(groups) - len(left)} clouds, each small enough for one look at all distances"
        report = Report(replace(plan, screen="none", reason=reason, otherwise=None))
        report.add(n_exhaustive=answered)
        publish(report)
    return left


def _workers(groups: Tensor, d: int, max_memory: int, device: torch.device) -> int:
    """Return how many groups to search at a time, each by one thread; 1: several threads search each."""
    most = clamp(min(len(groups), max_memory // PER_WORKER), this_machine(device).threads)
    if most < 2:
        return 1
    work = _pairs(groups) * max(d, _FEWEST_COLUMNS)
    total, largest = int(work.sum()), int(work.max())
    return most if total >= len(groups) * _FEWEST_WORK and largest * most <= total else 1


def _pairs(groups: Tensor) -> Tensor:
    return (groups[:, 1] - groups[:, 0]) * (groups[:, 3] - groups[:, 2])


def _share_out(groups: Tensor, workers: int, max_memory: int, one: One) -> None:
    """Search groups, the largest first, each in one thread that knows who watches this one."""
    context, ordered = contextvars.copy_context(), groups[_pairs(groups).argsort(descending=True, stable=True)]
    with Workers.if_several(workers) as team:
        team.each(lambda group: context.copy().run(one, group, max_memory // workers), ordered.tolist())
