"""Values as the kernels of this screen take them: float32, and what these lack; nothing is asked of the device."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from janelia_core.ml._knn.data.points import IN_FLOAT32, as_float64
from janelia_core.ml._knn.screens.boxes.bounds import MOST, ROW_REACH, SPREADS

_SAMPLE = 4096
_OUTSIDE = 512  # of a sample, one in so many lies left or right of the range that the curve fills most of


class Ground(NamedTuple):
    """Where centres lie, as a sample of them tells; all tensors are on the device.

    Attributes:
        middle: (d,) float64, one of the sample's values in each coordinate; None: float32 holds the values.
        low: (d,) float32, where the curve begins.
        spread: () float32, how far it reaches in each coordinate.
        reach: () float32: centres beyond stand at infinity.
        row_reach: () float32: rows beyond are in doubt.
        most: () float32: limits beyond prove nothing.
    """

    middle: Tensor | None
    low: Tensor
    spread: Tensor
    reach: Tensor
    row_reach: Tensor
    most: Tensor


class Placed(NamedTuple):
    """Points where kernels see them.

    Attributes:
        z: (n, d) float32, contiguous.
        lacks: (n,) float64, at least the distance between a point and its z; None: there is none.
    """

    z: Tensor
    lacks: Tensor | None


def ground_of(ctrs: Tensor) -> Ground:
    """Return where centres (n, d) lie."""
    sample = ctrs[:: max(1, len(ctrs) // _SAMPLE)][:_SAMPLE]
    stored = ctrs.dtype in IN_FLOAT32
    wide = as_float64(sample)
    ranked = torch.where(wide.isfinite(), wide, torch.inf).sort(dim=0).values
    many = (ranked < torch.inf).sum(dim=0)
    left = many // _OUTSIDE
    right = (many - 1 - left).clamp_(min=0)
    middle = ranked.gather(0, (many // 2)[None].clamp_(max=len(ranked) - 1))[0]
    middle = torch.where(middle.isfinite(), middle, 0.0)
    low, high = ranked.gather(0, torch.stack([left.clamp_(max=len(ranked) - 1), right])).unbind(0)
    centre, spread = (low + high) * 0.5, (high - low).amax().nan_to_num(0.0, 0.0, 0.0).clamp(1e-30, 1e37) * 1.5
    low = (centre - (0.0 if stored else middle)).nan_to_num(0.0, 0.0, 0.0) - 0.5 * spread
    unlimited = torch.full((), torch.inf, dtype=torch.float32, device=ctrs.device)
    reach = unlimited if stored else (spread * SPREADS).to(torch.float32)
    return Ground(
        middle=None if stored else middle,
        low=low.clamp(-3e38, 3e38).to(torch.float32),
        spread=spread.to(torch.float32),
        reach=reach,
        row_reach=(reach * 0.5).clamp(max=ROW_REACH),
        most=(reach * reach * 0.125).clamp(max=MOST),
    )


def placed(values: Tensor, middle: Tensor | None) -> Placed:
    """Return points (n, d) as kernels see them."""
    if middle is None and values.dtype in IN_FLOAT32:
        return Placed(values.to(torch.float32).contiguous(), None)
    wide = as_float64(values)
    u = wide if middle is None else wide - middle
    z = u.to(torch.float32).contiguous()
    lacks = (u - z).square_().sum(dim=1).sqrt_()
    # of the conversion of wide integers, and of u itself, of which a difference is
    lost = wide.abs().sum(dim=1) + (0.0 if middle is None else middle.abs().sum())
    return Placed(z, (lacks + lost * 2.0**-51) * (1.0 + 2.0**-20) + 2.0**-120)


def at_infinity(points: Placed, reach: Tensor) -> tuple[Tensor, Tensor | None]:
    """Return the z of centres, infinite where they are not within reach, and the most that the others lack ()."""
    within = (points.z.abs() <= reach).all(dim=1) & points.z.isfinite().all(dim=1)
    z = torch.where(within[:, None], points.z, torch.inf)
    return z, None if points.lacks is None else torch.where(within, points.lacks, 0.0).amax()


def bits_of_place(d: int) -> int:
    """Return how many bits of each coordinate the place on the curve holds."""
    return min(24, 63 // d)


def scale_of(ground: Ground, d: int) -> Tensor:
    """Return steps of the curve for a unit of length, () float32."""
    return math.ldexp(1.0, bits_of_place(d)) / ground.spread
