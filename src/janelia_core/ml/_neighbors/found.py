"""Neighbors: what knn hands back, and values gathered at the neighbours found."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Neighbors(NamedTuple):
    """Distances and indices of nearest neighbours, nearest first.

    Attributes:
        distances: (..., n_smps, k), inf where there is no neighbour.
        indices: (..., n_smps, k) int64, -1 where there is no neighbour.
    """

    distances: Tensor
    indices: Tensor

    def gather(self, values: Tensor, fill: float = 0.0, dim: int | None = None) -> Tensor:
        """Return the neighbours' rows of values, and `fill` where there is no neighbour; differentiable in values.

        Args:
            values: (..., n_ctrs, features ...) of the centres that were searched, any dtype, on their device; the
                leading dimensions are those of `indices` (..., n_smps, k), or 1.
            fill: What stands for a missing neighbour: no row -1 is ever read.
            dim: Which dimension of values counts the centres, if it has fewer leading dimensions than `indices`: 0
                for values (n_ctrs, features ...) of centres that all batches share.

        Returns:
            (..., n_smps, k, features ...), of the dtype of values.

        Raises:
            TypeError: values isn't a tensor.
            ValueError: Its shape or device does not fit, or its dtype does not hold `fill`.
            IndexError: An index is beyond the rows of values.

        Example:
            >>> import torch
            >>> from janelia_core.ml import knn
            >>> found = knn(torch.tensor([[0.0], [4.0]]), torch.tensor([[1.0], [3.0]]), k=3)
            >>> found.gather(torch.tensor([10.0, 30.0]), fill=torch.nan)
            tensor([[10., 30., nan],
                    [30., 10., nan]])
        """
        leading = self.indices.shape[:-2]
        dim = len(leading) if dim is None else dim
        _check(values, fill, dim, self.indices)
        there = self.indices >= 0
        features = values.shape[dim + 1 :]
        shape = (*self.indices.shape, *features)
        if values.shape[dim] == 0:
            return values.new_full(shape, fill)
        at = [
            torch.arange(size if size != 1 else 1, device=values.device).view(-1, *[1] * (dim + 1 - axis))
            for axis, size in enumerate(values.shape[:dim])
        ]
        rows = values[(*at, self.indices.clamp(min=0))]
        return torch.where(there.view(*there.shape, *[1] * len(features)), rows, rows.new_full((), fill))


# Or torch.export could not save a program that returns it; torch has no public name for this.
torch.utils._pytree._register_namedtuple(Neighbors, serialized_type_name="janelia_core.ml.neighbors.Neighbors")


def _check(values: object, fill: float, dim: int, indices: Tensor) -> None:
    if not isinstance(values, Tensor):
        raise TypeError(f"values must be a torch.Tensor (..., n_ctrs, *features), got {type(values).__name__}")
    if isinstance(dim, bool) or not isinstance(dim, int):
        raise TypeError(f"dim must be an int or None, got {type(dim).__name__}: {dim!r}")
    leading = indices.shape[:-2]
    if not 0 <= dim <= len(leading):
        raise ValueError(f"dim must be between 0 and {len(leading)}, the leading dimensions of indices, got {dim}")
    batches = leading[len(leading) - dim :]
    fits = values.ndim > dim and all(a in (1, b) for a, b in zip(values.shape, batches, strict=False))
    if not fits:
        raise ValueError(
            f"values must have shape (..., n_ctrs, *features) with leading dimensions {tuple(batches)} or 1 for "
            f"indices {tuple(indices.shape)}, got {tuple(values.shape)}; for centres that all batches share give dim=0"
        )
    if values.device != indices.device:
        raise ValueError(f"values must be on the device of indices, {indices.device}, got {values.device}")
    whole = not (values.is_floating_point() or values.is_complex())
    limits = torch.iinfo(values.dtype) if whole and values.dtype != torch.bool else None
    if whole and (fill != fill or fill not in (0, 1) if limits is None else not _holds(limits, fill)):
        raise ValueError(f"fill = {fill} is no number of values' dtype {values.dtype}; give another, or convert values")


def _holds(limits: torch.iinfo, fill: float) -> bool:
    return limits.min <= fill <= limits.max and fill == int(fill)
