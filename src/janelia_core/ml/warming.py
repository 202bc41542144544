"""Kernels compiled before anybody waits for them: for images of containers, for CI, for a service that starts."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch

from janelia_core.ml._knn.report import watch_knn
from janelia_core.ml._log_cosh.function import log_cosh
from janelia_core.ml._neighbors.call import knn
from janelia_core.ml._runtime.kernels import may_serve
from janelia_core.ml._runtime.loading import waiting
from janelia_core.ml.index import CenterIndex

__all__ = ["Warmed", "warm"]

_SHAPES = (  # rows, centres, coordinates: one for each screen, and for each kernel of small problems
    (3000, 3000, 3),
    (600, 3000, 64),
    (4, 20_000, 16),
    (4, 20_000, 128),
    (300, 200, 3),
    (300, 200, 64),
)
_FORMS = ("euclidean", "dot", "cosine")
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
    """Search points of all shapes by all metrics, with gradients; yield which screen ran."""
    source = torch.Generator("cpu").manual_seed(0)
    for n, n_ctrs, d in _SHAPES:
        x, ctrs = (torch.rand(rows, d, generator=source, dtype=dtype, device="cpu") for rows in (n, n_ctrs))
        for metric in _FORMS:
            with watch_knn() as reports:
                distances = knn(x.requires_grad_(), ctrs, 5, metric=metric).distances
                torch.autograd.grad(distances.sum(), x)
            yield from (report.plan.screen for report in reports)
    index = CenterIndex(ctrs[:, :3].contiguous()).prepare(10**6, 5)
    index.knn(x[:2, :3].detach().contiguous(), 5)
