"""The order of long lists of centres, by torch's stable sorts: what `kernels/ranking` does for short ones."""

from __future__ import annotations

import torch
from torch import Tensor

from janelia_core.ml._knn.data.points import plain_nan
from janelia_core.ml._knn.screens.rerank.doubt import CLOSE, FEW


def sorted_values(
    centres: Tensor, counts: Tensor, values: tuple[Tensor, Tensor, Tensor], doubt: Tensor, k: int, masked: bool
) -> tuple[Tensor, Tensor]:
    """Return the centres in order (n, keep) int32, and which are too close to the next to tell (n, keep) int8."""
    n, keep = centres.shape
    empty = torch.arange(keep, device=centres.device)[None, :] >= counts[:, None]
    high, low = (plain_nan(part.masked_fill(empty, fill)) for part, fill in zip(values, (torch.inf, 0.0), strict=False))
    error = values[2].masked_fill(empty, 0.0)
    order = centres.masked_fill(empty, torch.iinfo(torch.int32).max).argsort(dim=1, stable=True)
    for key in (low, high):
        order = order.gather(1, key.gather(1, order).argsort(dim=1, stable=True))
    out = centres.masked_fill(empty, -1).gather(1, order)
    high, low = high.gather(1, order), low.gather(1, order)
    reach = 2.0 * error.amax(dim=1, keepdim=True)
    near = torch.zeros(n, keep, dtype=torch.int8, device=out.device)
    apart = (high[:, 1:] - high[:, :-1]) + (low[:, 1:] - low[:, :-1])
    slack = 2.0**-50 * (low[:, 1:].abs() + low[:, :-1].abs() + apart.abs())
    follows = torch.arange(1, keep, device=out.device)[None, :] < counts[:, None]
    near[:, :-1] = follows & ~(apart > reach + slack) & (reach > 0)
    doubt.bitwise_or_(near[:, :k].amax(dim=1).to(torch.int32) * CLOSE)
    if not masked:
        doubt.bitwise_or_((counts < k).to(torch.int32) * FEW)
    return out, near
