"""What the kernel of lanes is told of a metric, a number of coordinates and a dtype: how far its numbers can be off."""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np
import torch

from janelia_core.ml._knn.arithmetic.bounds import UNIT32, UNIT64, gamma
from janelia_core.ml._knn.metrics.metric import DISTANCE, FORMS, Bound
from janelia_core.ml._knn.metrics.registry import metric_named

NO_MASK = np.empty((0, 0), np.bool_)
"""For the kernel of lanes: all centres are allowed."""
MODULE = "janelia_core.ml._knn.small.lanes"  # by its name alone: whoever imports it loads Numba
_FEW_COLUMNS = 16  # up to which gaps cost less than products with their norms and errors


class Terms(NamedTuple):
    """See `lanes`.

    Attributes:
        form: `Metric.form`.
        root: `Metric.root`.
        by_product: Whether keys are products, else squared gaps.
        slack: How far keys can be off: g, and a or what is tiny.
        within: `Metric.bound`.
    """

    form: int
    root: bool
    by_product: bool
    slack: Bound
    within: Bound


@functools.lru_cache(maxsize=256)
def terms(metric: str, d: int, dtype: torch.dtype) -> Terms | None:
    """Return the terms of a metric for points of d coordinates, float32 or float64; None: kernels don't know it."""
    known = metric_named(metric)
    if known.form not in FORMS:
        return None
    single = dtype == torch.float32
    unit, least = (UNIT32, 2.0**-126) if single else (UNIT64, 2.0**-1022)
    by_product = known.form != DISTANCE or d > _FEW_COLUMNS
    slack = (gamma(d + 8, unit), (d + 4) * 2.0**-70) if by_product else (gamma(d + 2, unit), (d + 2) * least)
    return Terms(known.form, known.root, by_product, slack, known.bound(d))
