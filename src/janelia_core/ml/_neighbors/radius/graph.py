"""radius_graph(): all pairs within a radius as the edges of a graph."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from janelia_core.ml._neighbors.radius.call import radius
from janelia_core.ml._neighbors.spelling import explained

Flow = Literal["source_to_target", "target_to_source"]
_FLOWS = get_args(Flow)


@explained
def radius_graph(
    x: Tensor,
    r: float | Tensor,
    batch: Tensor | None = None,
    *,
    max_neighbors: int | None = None,
    loop: bool = False,
    flow: Flow = "source_to_target",
    metric: str = "euclidean",
    max_memory: int | None = None,
) -> Tensor:
    """Return the graph that joins each row of x to all other rows of its batch within the distance r.

    Args:
        x: (n, d) points.
        r: The radius: one number, or (n,) one for each row.
        batch: (n,) integers, ascending: the batch of each row; None: one batch.
        max_neighbors: The nearest so many at most of each row; None: all.
        loop: Whether rows are joined to themselves.
        flow: "source_to_target": edges run from the neighbour to the row, as PyTorch Geometric's do; or the other way.
        metric: As for `knn`.
        max_memory: Bytes of workspace, as for `knn`.

    Returns:
        (2, p) int64 edges, row by row and nearest first: sources, which with "source_to_target" are the
        neighbours, and targets.

    Raises:
        TypeError, ValueError: As `radius`.

    Example:
        >>> import torch
        >>> radius_graph(torch.tensor([[0.0], [1.0], [3.0]]), r=2.0)
        tensor([[1, 0, 2, 1],
                [0, 1, 1, 2]])
    """
    if flow not in _FLOWS:
        raise ValueError(f"flow must be one of {', '.join(map(repr, _FLOWS))}, got {flow!r}")
    if isinstance(x, Tensor) and x.ndim != 2:
        raise ValueError(f"a graph has nodes numbered in one row: x must have shape (n, d), got {tuple(x.shape)}")
    found = radius(
        x, r=r, metric=metric, max_neighbors=max_neighbors, max_memory=max_memory, include_self=loop, x_batch=batch
    )
    ends = (found.indices, found.rows) if flow == "source_to_target" else (found.rows, found.indices)
    return torch.stack(ends)
