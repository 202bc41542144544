"""A look at the data: which rows are finite, how large values are, and whether float64 sums are exact."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from janelia_core.ml._knn.data.directions import directions, scaled_by
from janelia_core.ml._knn.data.points import Points, as_float64, float64_device, is_wide
from janelia_core.ml._knn.data.values import Reader

_SAMPLE = 512  # centres sampled for the common point
_LEAST_LEVEL = -900  # where float64 still holds all bits of most rows
_NEAR = 20  # rows of inner products within 2^20 of the level stay as they are
_HEADROOM = 40  # |u| <= 2^41 keeps squares and sums inside float32, with the typical |u| near 1 wherever possible


@dataclass(frozen=True)
class Frame:
    """Coordinates u = v * 2^-exponent - shift in which screens work, and what the survey of the data found.

    The shift changes no difference and the power of two no order; they serve only the screens' accuracy.

    Attributes:
        shift: (d,) float64, a robust middle of the centres, on a coarse grid so that lattices stay lattices.
        exponent: typical |u| is near 1 and every finite |u| is at most 2^41.
        verify_exponent: 0, or what keeps float64 squares of stored values from overflow and underflow.
        exact: float64 evaluation of every squared distance is free of rounding.
        held: float64 holds all stored values: no wide integers.
        fits_float32: squares of stored values neither overflow nor vanish in float32.
        x_finite: whether all rows are finite.
        ctrs_finite: whether all centres are finite.
        directed: u are the directions of v, for cosines.
        level: Rows are searched times powers of two that bring their largest coordinates near 2^level (`levelled`), for
            inner products, whose order in a row that does not change; None: as they are.
    """

    shift: Tensor
    exponent: int
    verify_exponent: int
    exact: bool
    held: bool
    fits_float32: bool
    x_finite: bool
    ctrs_finite: bool
    directed: bool = False
    level: int | None = None

    @property
    def in_float64(self) -> bool:
        """Whether float64 holds all stored values and what screens and verification make of them, without scaling."""
        return self.held and self.verify_exponent == 0

    def of_directions(self) -> Frame:
        """Return the frame in which points are divided by their norms."""
        return replace(self, shift=torch.zeros_like(self.shift), exponent=0, verify_exponent=0, directed=True)

    def apply(self, values: Tensor) -> Tensor:
        """Return u (r, d) float64 of stored values (r, d): relative rounding at most 2^-53 a coordinate.

        64-bit integers are rounded before the shift as well, by at most 2^-53 |v| 2^-exponent a coordinate.
        Directions: `direction_error`.
        """
        if self.directed:
            return directions(values)
        return scale(as_float64(values), -self.exponent).sub_(self.shift)


def scale(values: Tensor, exponent: int) -> Tensor:
    """Return values * 2^exponent as a new tensor, without an intermediate overflow or underflow."""
    half = exponent // 2
    return values.mul(2.0**half).mul_(2.0 ** (exponent - half))


def levelled(values: Tensor, level: int) -> tuple[Tensor, Tensor]:
    """Return stored rows (r, d), each times a power of two where its largest coordinate is far from 2^level.

    Returns:
        Rows, as stored if none is far, else float64; and which (r,) are near now. A row that float64 does not hold at
        that level stays as it is, and so do zero vectors and what is not finite.
    """
    v = as_float64(values)
    largest = v.abs().amax(dim=1, keepdim=True)
    off = level - torch.frexp(largest).exponent
    far = (off.abs() > _NEAR) & (largest > 0) & torch.isfinite(largest)
    near = ~far[:, 0]
    if bool(near.all()):
        return values, near
    moved = scaled_by(v, off)
    held = far & (scaled_by(moved, -off) == v).all(dim=1, keepdim=True)
    return torch.where(held, moved, v), near | held[:, 0]


def survey(
    x: Points, ctrs: Points, shifted: bool = True, reader: Reader | None = None, levelling: bool = False
) -> Frame:
    """Look at all stored values once, in bounded memory; the shift is 0 where differences are not what counts.

    levelling: Rows will be `levelled`.
    """
    reader = reader or Reader()
    *x_ends, x_finite = reader.ends(x)
    *ctr_ends, ctrs_finite = reader.ends(ctrs)
    largest = max(abs(end) for end in (*x_ends, *ctr_ends))
    reach = max(abs(end) for end in ctr_ends) if levelling else largest
    top, high = _ceil_log2(largest), _ceil_log2(reach)
    middle, spread = reader.workers.once(lambda: _middle(ctrs, shifted))
    exponent = max(_ceil_log2(spread if spread > 0 else reach), high - _HEADROOM)
    return Frame(
        shift=scale(middle, -exponent),
        exponent=exponent,
        verify_exponent=0 if -200 <= high <= 400 or reach == 0 else high,
        exact=_is_exact(x, ctrs, largest, top, reader),
        held=top <= 53 or not (is_wide(x.values) or is_wide(ctrs.values)),
        fits_float32=-40 <= top <= 50 or largest == 0,
        x_finite=x_finite,
        ctrs_finite=ctrs_finite,
        level=max(_LEAST_LEVEL, high) if levelling else None,
    )


def _ceil_log2(value: float) -> int:
    """Return the least e with value < 2^e (0 for 0)."""
    return math.frexp(value)[1]


def _middle(ctrs: Points, shifted: bool) -> tuple[Tensor, float]:
    """Return a common point (d,) float64 near the middle of the finite centres, and their typical distance from it.

    Medians, so that a few wild centres move neither. The point is rounded to a quarter of the spread: lattice
    data stays lattice data, and a cloud about the origin is not shifted at all.
    """
    size = max(8, min(_SAMPLE, ctrs.chunk // max(1, ctrs.d)))
    stride = max(1, len(ctrs) // size)
    sample = as_float64(ctrs.block(0, size * stride, stride))
    sample = sample[torch.isfinite(sample).all(dim=1)]
    if sample.numel() == 0:
        return torch.zeros(ctrs.d, dtype=torch.float64, device=float64_device(ctrs.device)), 0.0
    middle = sample.median(dim=0).values if shifted else torch.zeros_like(sample[0])
    offsets = (sample - middle).abs_().amax(dim=1)
    spread = float(offsets.median()) or float(offsets.max())
    quantum = math.ldexp(1.0, max(-1021, _ceil_log2(spread) - 2)) if spread > 0 else 0.0
    if not ctrs.values.is_floating_point():
        quantum = max(quantum, 1.0)
    if quantum > 0 and math.isfinite(quantum):
        middle = (middle / quantum).round_().mul_(quantum)
    return torch.where(torch.isfinite(middle), middle, 0.0), spread if math.isfinite(spread) else 0.0


def _is_exact(x: Points, ctrs: Points, largest: float, top: int, reader: Reader) -> bool:
    """Tell whether every value is a multiple of some 2^g with d (2 * largest / 2^g)^2 <= 2^53.

    Then differences, squares and sums are integers in units of 2^g or 4^g that float64 holds: nothing rounds.
    """
    if largest == 0:
        return True
    if not -400 < top < 400:
        return False
    bits = (51 - (max(1, x.d) - 1).bit_length()) // 2  # d <= 2^(...): largest < 2^top = 2^g 2^bits
    if not (x.values.is_floating_point() or ctrs.values.is_floating_point()):
        return top <= bits
    grid = top - bits
    return all(_on_grid(points, grid, reader) for points in (ctrs, x))


def _on_grid(points: Points, grid: int, reader: Reader) -> bool:
    """Tell whether all finite values are multiples of 2^grid."""
    if is_wide(points.values) or not points.values.is_floating_point():
        return grid <= 0
    return reader.all_multiples(points, 2.0**grid)
