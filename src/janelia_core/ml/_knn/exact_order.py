"""Candidates of a block of rows, in the exact order: verify, and settle what float64 cannot tell."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from janelia_core.ml._knn.contract import Ordered
from janelia_core.ml._knn.data.points import Points, plain_nan
from janelia_core.ml._knn.metrics.metric import Metric
from janelia_core.ml._knn.report import Report
from janelia_core.ml._knn.rows import Rows
from janelia_core.ml._knn.settle.settle import open_between, settle
from janelia_core.ml._knn.verify.verify import ordered


@dataclass(frozen=True)
class ExactOrder:
    """Puts listed centres into order.

    Attributes:
        ctrs: The centres.
        metric: What orders.
        k: How many are wanted.
        in_float64: Stored values are exact in float64 and of moderate magnitude.
        compiled: Numba kernels may verify.
        kernels: Numba kernels may settle.
        report: Counts what is settled.
    """

    ctrs: Points
    metric: Metric
    k: int
    in_float64: bool
    compiled: bool
    kernels: bool
    report: Report

    def ordered(self, rows: Rows, indices: Tensor, at_least: Tensor | None = None) -> Ordered:
        """Return indices (r, w) sorted by (order value, index), without those that at_least proves superfluous."""
        return ordered(rows.values, self.ctrs, indices, self.metric, self.compiled, self.k, at_least)

    def radius(self, found: Ordered) -> Tensor:
        """Return an upper bound (r,) of the k-th order value; NaN where there are fewer."""
        if found.value.shape[1] < self.k:
            return found.value.new_full((len(found.value),), torch.nan)
        if self.metric.uniform:
            return found.value[:, self.k - 1] + found.error[:, self.k - 1]
        return plain_nan(found.value + found.error).sort(dim=1).values[:, self.k - 1]

    def doubtful(self, found: Ordered) -> Tensor:
        """Tell in which rows (r,) float64 leaves the first k in doubt, or their order."""
        return open_between(found, self.metric)[:, : self.k].any(dim=1)

    def settled(self, rows: Rows, found: Ordered) -> Tensor:
        """Return the first k (r, at most k) in the exact order."""
        settled, counts = settle(
            rows.values, self.ctrs, found, self.k, self.metric, self.in_float64, kernels=self.kernels
        )
        self.report.add(settled=counts)
        return settled[:, : self.k]
