"""The definition of the answer, in plain Python and exact arithmetic: any input, no speed."""

from __future__ import annotations

import torch
from torch import Tensor

from janelia_core.ml._knn.metrics.registry import metric_named


def nearest(x: Tensor, ctrs: Tensor, k: int, metric: str = "euclidean") -> Tensor:
    """Return the unique answer: (k, n_smps) int64, the first k centres of each row by (order value, index)."""
    centres = ctrs.tolist()
    value = metric_named(metric).true_value
    columns = []
    for row in x.tolist():
        order = sorted(range(len(centres)), key=lambda j: (value(row, centres[j]), j))
        columns.append(order[:k])
    return torch.tensor(columns, dtype=torch.int64).reshape(len(columns), k).T.contiguous()
