"""Distances of pairs on other devices: by a kernel in one launch, or by torch operations in few large blocks."""

from __future__ import annotations

import torch
from torch import Tensor

from janelia_core.ml._knn.distances.triton import pairs as device_pairs
from janelia_core.ml._knn.distances.work import Centres, Work
from janelia_core.ml._knn.metrics.metric import Metric
from janelia_core.ml._runtime.device_kernels import launched


def off_cpu(
    x: Tensor,
    ctrs: Tensor,
    indices: Tensor,
    metric: Metric,
    dtype: torch.dtype,
    max_memory: int,
    centres: Centres | None,
) -> Tensor:
    """Do as `distances` for tensors of another device, which is waited for once or twice, whatever their size."""
    with torch.inference_mode(False):
        out = torch.empty(indices.shape, dtype=dtype, device=x.device)
        left = None
        if device_pairs.fits(x, ctrs, metric):
            left = launched(lambda: device_pairs.rounded_pairs(metric, x, ctrs, indices, centres, max_memory, out))
        work = Work(x, ctrs, metric, dtype, max_memory)
        work.decide(x, work.rounded(x, indices, centres, out) if left is None else left, out)
    return out
