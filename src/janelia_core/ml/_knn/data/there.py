"""Looks at points on an accelerator: begun without waiting for it, and told together, in one transfer to the host.

They tell what `values` and `seen` tell of points on a CPU, to the bit. Nothing is picked by a bool index, for whose
size the host would have to wait: what does not count stands last in order, and is counted.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from janelia_core.ml._knn.data.points import IN_FLOAT32, Points, as_float64, is_finite, multiples

_WITH_AMINMAX = (torch.float64, torch.float32, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


def begin_ends(points: Points) -> Tensor:
    """Return (3,) float64: the least and the greatest finite value, 0 where there is none, and 1 if all are finite."""
    parts = [_ends(points.block(*part)) for part in points.chunks()]
    if len(parts) == 1:
        return parts[0]
    found = torch.stack(parts)
    return torch.stack([found[:, 0].amin(), found[:, 1].amax(), found[:, 2].amin()])


def begin_middle(sample: Tensor, shifted: bool) -> tuple[Tensor, Tensor]:
    """Return a median (d,) of the finite ones of some points (s, d) float64, else 0, and two distances from it (2,).

    shifted: Else it is the origin. The distances are the lower median, and the largest; 0 where no point is finite.
    """
    finite = is_finite(sample).all(dim=1)
    at = (finite.sum().clamp(min=1) - 1) // 2
    middle = torch.zeros_like(sample[0])
    if shifted:
        middle = torch.where(finite[:, None], sample, torch.inf).sort(dim=0).values.index_select(0, at[None])[0]
        middle = torch.where(finite.any(), middle, 0.0)
    offsets = (sample - middle).abs_().amax(dim=1)
    median = torch.where(finite, offsets, torch.inf).sort().values.index_select(0, at[None])
    spread = torch.cat([median, torch.where(finite, offsets, 0.0).amax()[None]])
    return middle, torch.where(finite.any(), spread, 0.0)


def all_multiples(points: Points, step: float, first: int) -> bool:
    """Tell whether all finite values are multiples of a power of two; of many, the first rows are asked first."""
    parts = list(points.chunks())
    if len(parts) > 1 and not bool(multiples(as_float64(points.block(0, first)), step)):
        return False
    return bool(torch.stack([multiples(as_float64(points.block(*part)), step) for part in parts]).all())


def told(looks: Sequence[Tensor]) -> list[list[float]]:
    """Return what several looks tell, for which the device is waited for once."""
    numbers = torch.cat(list(looks)).tolist()
    cut = iter(numbers)
    return [[next(cut) for _ in range(len(look))] for look in looks]


def _ends(block: Tensor) -> Tensor:
    # aminmax does not know narrow floats and unsigned integers on every device.
    wide = block if block.dtype in _WITH_AMINMAX else block.float() if block.dtype in IN_FLOAT32 else as_float64(block)
    finite = torch.nan_to_num(wide, 0.0, 0.0, 0.0)
    low, high = torch.aminmax(finite)
    return as_float64(torch.stack([low, high, (finite == wide).all().to(low.dtype)]))
