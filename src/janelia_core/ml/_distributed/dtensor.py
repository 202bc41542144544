"""knn of DTensors: rows in shards stay where they are, centres in shards are searched where they are.

No centre is gathered. Loaded when the first DTensor comes: `import janelia_core.ml` knows nothing of torch.distributed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Partial, Placement, Replicate, Shard

from janelia_core.ml._distributed import call
from janelia_core.ml._neighbors.call import knn as knn_of_one
from janelia_core.ml._neighbors.found import Neighbors

_ALSO = ("metric", "m", "max_memory", "include_self")


class Spread(NamedTuple):
    """Rows and centres on the processes of a mesh.

    Attributes:
        x: (n, d) rows.
        ctrs: (m, d) centres.
        over: The dimension of the mesh over which centres are in shards; None: every process has all of them.
    """

    x: DTensor
    ctrs: DTensor
    over: int | None


def knn(x: Tensor, ctrs: Tensor | None, k: int, asked: dict[str, Any]) -> Neighbors:
    """Return what `janelia_core.ml.knn` does, as DTensors that are placed as x is.

    Args:
        x: (n, d), of any placements but those that split or sum up columns; a mesh has them for each of its dimensions.
        ctrs: (m, d) on the same mesh, in shards over one dimension of it at most; None: x itself.
        k: How many to find.
        asked: The other arguments of the call by name, those alone that are not left as they are.

    Raises:
        TypeError, ValueError: An argument does not go with DTensors.
    """
    more = [name for name in asked if name not in _ALSO]
    if more:
        raise ValueError(
            f"of DTensors knn takes k, {', '.join(_ALSO)}; got {more[0]}: "
            "janelia_core.ml.distributed.knn takes masks, for local tensors"
        )
    spread = _spread(x, x if ctrs is None else ctrs)
    but_self = ctrs is None and not asked.get("include_self", False)
    far, indices = _local(spread, k, ctrs is None, but_self, asked)
    mesh, placements = spread.x.device_mesh, spread.x.placements
    shape = torch.Size((spread.x.shape[0], far.shape[1]))

    def joined(part: Tensor) -> Tensor:
        return DTensor.from_local(part, mesh, placements, run_check=False, shape=shape, stride=(shape[1], 1))

    return Neighbors(joined(far), joined(indices))


def _local(spread: Spread, k: int, among: bool, but_self: bool, asked: dict[str, Any]) -> Neighbors:
    """Search for the rows of this process."""
    x, ctrs = spread.x.to_local(), _centres(spread)
    if spread.over is None:
        return knn_of_one(x, None if among else ctrs, k, **asked)
    sharded = spread.x.placements[spread.over].is_shard()
    return call.knn(
        x,
        ctrs,
        k,
        group=_group(spread.x.device_mesh, spread.over),
        rows="sharded" if sharded else "replicated",
        metric=asked.get("metric", "euclidean"),
        mask=_others if but_self else None,
        max_memory=asked.get("max_memory"),
    )


def _centres(spread: Spread) -> Tensor:
    """Return the centres of this process, whose gradients are parts of a sum where rows are in shards alone."""
    pairs = zip(spread.x.placements, spread.ctrs.placements, strict=True)
    of_grad = [Partial() if rows.is_shard() and centres.is_replicate() else centres for rows, centres in pairs]
    return spread.ctrs.to_local(grad_placements=of_grad)


def _others(rows: Tensor, first: int, last: int) -> Tensor:
    """Leave each row out among itself."""
    return rows[:, None] != torch.arange(first, last, device=rows.device)


def _spread(x: Tensor, ctrs: Tensor) -> Spread:
    for name, value in (("x", x), ("ctrs", ctrs)):
        if not isinstance(value, DTensor):
            raise TypeError(
                f"x and ctrs must both be DTensors, or both not; {name} is a {type(value).__name__}: "
                f"torch.distributed.tensor.distribute_tensor({name}, mesh) makes it one that all processes have"
            )
        if value.ndim != 2:
            raise ValueError(f"{name} must be of two dimensions if it is a DTensor, got shape {tuple(value.shape)}")
        for placement in value.placements:
            if not _is_fit(placement):
                raise ValueError(
                    f"{name} must be placed as Shard(0) or Replicate(), got {placement}; call {name}.redistribute()"
                )
    assert isinstance(x, DTensor)
    assert isinstance(ctrs, DTensor)
    if x.device_mesh != ctrs.device_mesh:
        raise ValueError(f"x and ctrs must be on one mesh, got {x.device_mesh} and {ctrs.device_mesh}")
    return Spread(x, ctrs, _over(ctrs.placements))


def _is_fit(placement: Placement) -> bool:
    return placement == Replicate() or (type(placement) is Shard and placement.dim == 0)


def _over(placements: Sequence[Placement]) -> int | None:
    over = [at for at, placement in enumerate(placements) if placement.is_shard()]
    if len(over) > 1:
        raise ValueError(f"ctrs must be in shards over one dimension of the mesh, got {tuple(placements)}")
    return over[0] if over else None


def _group(mesh: DeviceMesh, over: int) -> dist.ProcessGroup:
    """Return the processes of a dimension of the mesh, which must number them as the mesh does."""
    group, place = mesh.get_group(over), mesh.get_coordinate()
    along = mesh.mesh.movedim(over, -1)
    there = [at for dimension, at in enumerate(place or ()) if dimension != over]
    if dist.get_process_group_ranks(group) != along[tuple(there)].tolist():
        raise ValueError(f"a mesh of DTensors in shards must have its processes in ascending order, got {mesh}")
    return group
