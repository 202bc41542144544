"""Kernels compiled before anybody waits for them: for images of containers, for CI, for a service that starts."""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch

from janelia_core.ml._knn.choose import make_plan
from janelia_core.ml._knn.meanwhile import rehearse, use_of
from janelia_core.ml._knn.plan.plan import Plan
from janelia_core.ml._log_cosh.function import log_cosh
from janelia_core.ml._neighbors.call import knn
from janelia_core.ml._runtime.kernels import may_serve
from janelia_core.ml._runtime.loading import waiting
from janelia_core.ml._runtime.machine import this_machine
from janelia_core.ml._runtime.marks import mark
from janelia_core.ml.index import CenterIndex

__all__ = ["Warmed", "warm"]

_PLANS = (  # rows, centres, coordinates, neighbours: of each screen and variant, in the midst of its range
    (100_000, 100_000, 1, 5),
    (100_000, 100_000, 3, 10),
    (20_000, 20_000, 16, 10),
    (10_000, 16_384, 64, 10),
    (10_000, 20_000, 768, 10),
    (100_000, 100, 8, 1),
    (10, 200_000, 8, 10),
    (10, 200_000, 128, 10),
    (500, 3000, 16, 3000),
    (500, 3000, 16, 1500),
    (2000, 10_000, 64, 1000),
)
_FEW_PLANS = ((100_000, 100_000, 3, 10), (10_000, 16_384, 64, 10))  # a tree, and differences of all pairs
_SHAPES = ((300, 200, 3), (300, 200, 64))  # rows, centres, coordinates: small problems
_NEIGHBORS = (5, 40)  # by lanes, and by others
_FORMS = ("euclidean", "dot", "cosine")
_OF_GAPS = ("manhattan", "chebyshev")  # which few screens serve
_LARGE = 1 << 17  # elements of log_cosh


class Warmed(NamedTuple):
    """What `warm` did.

    Attributes:
        screens: Which screens have been brought to run.
        seconds: How long that took.
        folders: Where compiled kernels are kept; empty where kernels cannot be used or kept.
    """

    screens: frozenset[str]
    seconds: float
    folders: frozenset[Path]


def warm(dtypes: tuple[torch.dtype, ...] = (torch.float32,)) -> Warmed:
    """Load the kernels that searches on a CPU use; compile those that are not on disk yet, which takes a minute.

    Later processes of the same user, machine and versions load them in tenths of a second. The random numbers of torch
    are left alone.

    Args:
        dtypes: Of the points that will be searched.

    Example:
        >>> import torch
        >>> sorted(warm(dtypes=()).screens)
        []
    """
    begun, screens = time.perf_counter(), set[str]()
    with waiting():
        for dtype in dtypes:
            screens |= set(_searches(dtype))
            many = torch.zeros(_LARGE, dtype=dtype, device="cpu", requires_grad=True)
            torch.autograd.grad(log_cosh(many).sum(), many)
    folders = frozenset[Path]()
    if may_serve() and "janelia_core.ml._runtime.kernel_cache" in sys.modules:
        from janelia_core.ml._runtime.kernel_cache import folders as of_cache

        folders = of_cache()
    return Warmed(frozenset(screens), time.perf_counter() - begun, folders)


def _searches(dtype: torch.dtype) -> Iterator[str]:
    """Rehearse large searches by all screens and metrics, and do small ones, with gradients; yield the screens."""
    machine = this_machine(torch.device("cpu"))
    of_forms = itertools.product(_PLANS, _FORMS), itertools.product(_FEW_PLANS, _OF_GAPS)
    for (n, n_ctrs, d, k), metric in itertools.chain(*of_forms) if machine.kernels else ():
        if d == 1 and metric != _FORMS[0]:
            continue  # cosines of numbers are all alike, which takes long
        single = dtype == torch.float32
        plan: Plan | None = make_plan(n, n_ctrs, d, k, n_ctrs, machine=machine, float32=single, metric=metric)
        while plan is not None:
            if not plan.at_once_rows:
                rehearse(plan, dtype, dtype)
                mark(use_of(plan, dtype, dtype))
                yield plan.screen
            plan = plan.otherwise
    source = torch.Generator("cpu").manual_seed(0)
    for (n, n_ctrs, d), metric, k in itertools.product(_SHAPES, _FORMS, _NEIGHBORS):
        x, ctrs = (torch.rand(rows, d, generator=source, dtype=dtype, device="cpu") for rows in (n, n_ctrs))
        allowed = torch.ones(n, n_ctrs, dtype=torch.bool, device="cpu")
        for mask in (None, allowed, allowed[0]):
            distances = knn(x.requires_grad_(), ctrs, k, metric=metric, mask=mask).distances
            torch.autograd.grad(distances.sum(), x)
    ctrs = torch.rand(20_000, 3, generator=source, dtype=dtype, device="cpu")
    CenterIndex(ctrs).prepare(10**6, 5).knn(ctrs[:2], 5)
