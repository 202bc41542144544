"""What a look at all values of some points told; asked for more, it looks again, once."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from janelia_core.ml._knn.data.points import Points, as_float64, float64_device, has_infinities, is_finite, is_wide
from janelia_core.ml._knn.data.there import begin_ends, begin_middle, told
from janelia_core.ml._knn.data.values import Reader
from janelia_core.ml._runtime.locks import ForkSafeLock
from janelia_core.ml._runtime.workers import Workers

_reading = ForkSafeLock()
_SAMPLE = 512  # points sampled for the common point


class Steps:
    """Which powers of two divide all of some values, as far as anyone has asked."""

    def __init__(self) -> None:
        self._divides, self._not = -math.inf, math.inf

    def divides(self, exponent: int, look: Callable[[], bool]) -> bool:
        """Tell whether 2^exponent divides all values; look() tells, where it does not follow from what is known."""
        if self._divides < exponent < self._not:
            if look():
                self._divides = exponent
            else:
                self._not = exponent
        return exponent <= self._divides


class Seen:
    """What was seen of points.

    Args:
        points: The points.
        reader: Who looks.

    Attributes:
        columns: Each coordinate's least and greatest value (d,) float64, where the look told these too.
    """

    def __init__(self, points: Points, reader: Reader) -> None:
        if points.device.type != "cpu" and points.d and len(points):
            self._begin(points, there=reader.workers.once(lambda: begin_ends(points)))
            return
        columns = reader.column_ends(points) if reader.likes_columns(points) else None
        if columns is not None:
            low, high = float(columns[0].min()), float(columns[1].max())
            if math.isfinite(low) and math.isfinite(high):
                self._begin(points, (low, high, True), columns)
                return
        self._begin(points, reader.ends(points))

    @classmethod
    def told(cls, points: Points, largest: float) -> Seen:
        """Return what whoever passed over all values has seen: they are finite, and up to `largest` in magnitude."""
        seen = cls.__new__(cls)
        seen._begin(points, (-largest, largest, True))
        return seen

    def _begin(
        self,
        points: Points,
        ends: tuple[float, float, bool] | None = None,
        columns: tuple[Tensor, Tensor] | None = None,
        there: Tensor | None = None,
    ) -> None:
        self.points, self.columns, self._told = points, columns, ends
        self._ends_there = there  # a look on an accelerator that nobody has waited for
        self._middles_there: dict[bool, tuple[Tensor, Tensor]] = {}
        self._steps = Steps()
        self._middles: dict[bool, tuple[Tensor, float]] = {}
        self._infinite: bool | None = None

    @property
    def _ends(self) -> tuple[float, float, bool]:
        if self._told is None:
            read_together([self])
        assert self._told is not None
        return self._told

    @property
    def low(self) -> float:
        """The least finite value, or less; 0 where there is none."""
        return self._ends[0]

    @property
    def high(self) -> float:
        """The greatest, or more: the larger magnitude of both is that of a value."""
        return self._ends[1]

    @property
    def finite(self) -> bool:
        """All values are finite."""
        return self._ends[2]

    @property
    def largest(self) -> float:
        """The largest finite magnitude."""
        return max(abs(self.low), abs(self.high))

    def on_grid(self, exponent: int, reader: Reader) -> bool:
        """Tell whether all finite values are multiples of 2^exponent."""
        values = self.points.values
        if is_wide(values) or not values.is_floating_point():
            return exponent <= 0
        return self._steps.divides(exponent, lambda: reader.all_multiples(self.points, 2.0**exponent))

    def middle(self, shifted: bool, workers: Workers) -> tuple[Tensor, float]:
        """Return a common point (d,) float64 near the middle of the finite points, and their typical distance from it.

        shifted: Else the common point is the origin.
        """
        if shifted in self._middles_there:
            read_together([self])
        if shifted not in self._middles:
            self._middles[shifted] = workers.once(lambda: _middle(self.points, shifted))
        return self._middles[shifted]

    def expect_middle(self, shifted: bool, workers: Workers) -> None:
        """Begin to look for the middle, where what is seen is waited for: then both are told together."""
        if self._ends_there is None:
            return
        with _reading:
            if self._ends_there is not None and shifted not in self._middles_there:
                self._middles_there[shifted] = workers.once(lambda: begin_middle(_sample(self.points), shifted))

    def has_infinities(self, workers: Workers) -> bool:
        """Tell whether any value is infinite."""
        if self._infinite is None:
            self._infinite = not self.finite and workers.once(lambda: has_infinities(self.points))
        return self._infinite


def read_together(seen: Sequence[Seen]) -> None:
    """Wait for what was begun on an accelerator, of several points at once."""
    if all(one._ends_there is None for one in seen):
        return
    with _reading:  # kept centres are seen by several threads
        waiting = [(one, one._ends_there) for one in seen if one._ends_there is not None]
        looks: list[Tensor] = []
        for one, ends in waiting:
            looks += [ends, *(spread for _, spread in one._middles_there.values())]
        numbers = iter(told(looks) if looks else ())
        for one, _ in waiting:
            low, high, finite = next(numbers)
            for shifted, (middle, _) in one._middles_there.items():
                one._middles[shifted] = _on_coarse_grid(one.points, middle, *next(numbers))
            one._told, one._ends_there, one._middles_there = (low, high, bool(finite)), None, {}


def _sample(points: Points) -> Tensor:
    size = max(8, min(_SAMPLE, points.chunk // max(1, points.d)))
    stride = max(1, len(points) // size)
    return as_float64(points.block(0, size * stride, stride))


def _middle(points: Points, shifted: bool) -> tuple[Tensor, float]:
    """Look for a common point.

    Medians, so that a few wild points move neither. It is rounded to a quarter of the spread: lattice data stays
    lattice data, and a cloud about the origin is not shifted at all.
    """
    sample = _sample(points)
    if not sample.is_cpu and len(sample):
        middle, spread = begin_middle(sample, shifted)
        return _on_coarse_grid(points, middle, *told([spread])[0])
    sample = sample[torch.isfinite(sample).all(dim=1)]
    if sample.numel() == 0:
        return torch.zeros(points.d, dtype=torch.float64, device=float64_device(points.device)), 0.0
    middle = sample.median(dim=0).values if shifted else torch.zeros_like(sample[0])
    offsets = (sample - middle).abs_().amax(dim=1)
    return _on_coarse_grid(points, middle, float(offsets.median()), float(offsets.max()))


def _on_coarse_grid(points: Points, middle: Tensor, median: float, largest: float) -> tuple[Tensor, float]:
    spread = median or largest
    quantum = math.ldexp(1.0, max(-1021, math.frexp(spread)[1] - 2)) if spread > 0 else 0.0
    if not points.values.is_floating_point():
        quantum = max(quantum, 1.0)
    if quantum > 0 and math.isfinite(quantum):
        middle = (middle / quantum).round_().mul_(quantum)
    return torch.where(is_finite(middle), middle, 0.0), spread if math.isfinite(spread) else 0.0
