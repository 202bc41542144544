"""Arguments of a call on one process, checked."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from janelia_core.ml._knn.face import checked_count, checked_memory, checked_points
from janelia_core.ml._knn.metrics.mapped import check_columns
from janelia_core.ml._neighbors.spelling import check_metric
from janelia_core.ml.index import CenterIndex

RowsAre = Literal["replicated", "sharded"]


class Asked(NamedTuple):
    """Checked arguments of this process.

    Attributes:
        x: (n, d) rows.
        ctrs: Its centres, or an index of them.
        values: (m, d) the centres.
        k: How many to find.
        metric: Its name.
        sharded: Whether x is another one on each process.
        memory: Bytes of workspace.
    """

    x: Tensor
    ctrs: Tensor | CenterIndex
    values: Tensor
    k: int
    metric: str
    sharded: bool
    memory: int

    @property
    def of_x(self) -> bool:
        """Whether gradients of x are wanted."""
        return torch.is_grad_enabled() and self.x.requires_grad

    @property
    def of_ctrs(self) -> bool:
        """Whether gradients of centres are wanted."""
        return torch.is_grad_enabled() and self.values.requires_grad


def checked(
    x: Tensor, ctrs: Tensor | CenterIndex, k: int, rows: str, metric: str | None, max_memory: int | None
) -> Asked:
    """Return the arguments, if they are any."""
    values = ctrs.ctrs if isinstance(ctrs, CenterIndex) else ctrs
    checked_points(x, values)
    name = (ctrs.metric if isinstance(ctrs, CenterIndex) else "euclidean") if metric is None else metric
    check_metric(name)
    check_columns(name, x.shape[1], "x")
    if rows not in ("replicated", "sharded"):
        raise ValueError(f"rows must be 'replicated' or 'sharded', got {rows!r}")
    count, memory = checked_count("k", k), checked_memory(max_memory, x.device)
    return Asked(x, ctrs, values, count, name, rows == "sharded", memory)
