"""What was seen of rows and centres, joined: where screens take points, and whether float64 sums are exact."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from janelia_core.ml._knn.data.directions import directions, scaled_by
from janelia_core.ml._knn.data.points import Points, as_float64, is_wide
from janelia_core.ml._knn.data.seen import Seen, read_together
from janelia_core.ml._knn.data.values import Reader
from janelia_core.ml._runtime.lazily import lazily

_LEAST_LEVEL = -900  # where float64 still holds all bits of most rows
_NEAR = 20  # rows of inner products within 2^20 of the level stay as they are
_HEADROOM = 40  # |u| <= 2^41 keeps squares and sums inside float32, with the typical |u| near 1 wherever possible


class Place(NamedTuple):
    """Where screens take points: u = v * 2^-exponent - shift.

    The shift changes no difference and the power of two no order; they serve only the screens' accuracy.

    Attributes:
        shift: (d,) float64, a robust middle of the centres, on a coarse grid so that lattices stay lattices.
        exponent: typical |u| is near 1 and every finite |u| is at most 2^41.
        directed: u are the directions of v, for cosines.
    """

    shift: Tensor
    exponent: int
    directed: bool = False

    def apply(self, values: Tensor) -> Tensor:
        """Return u (r, d) float64 of stored values (r, d): relative rounding at most 2^-53 a coordinate.

        64-bit integers are rounded before the shift as well, by at most 2^-53 |v| 2^-exponent a coordinate.
        Directions: `direction_error`.
        """
        if self.directed:
            return directions(values)
        return scale(as_float64(values), -self.exponent).sub_(self.shift)


@dataclass(frozen=True)
class Frame:
    """What was seen of the rows and the centres of a search, joined.

    Attributes:
        verify_exponent: 0, or what keeps float64 squares of stored values from overflow and underflow.
        held: float64 holds all stored values: no wide integers.
        fits_float32: squares of stored values neither overflow nor vanish in float32.
        x_finite: whether all rows are finite.
        ctrs_finite: whether all centres are finite.
        level: Rows are searched times powers of two that bring their largest coordinates near 2^level (`levelled`), for
            inner products, whose order in a row that does not change; None: as they are.
        find_place: Looks for `place`, when that is first asked for.
        find_exact: Looks for `exact`, likewise.
    """

    verify_exponent: int
    held: bool
    fits_float32: bool
    x_finite: bool
    ctrs_finite: bool
    level: int | None
    find_place: Callable[[], Place]
    find_exact: Callable[[], bool]

    @lazily
    def place(self) -> Place:
        """Where screens take points. Of the rows only magnitudes far beyond those of the centres matter to it."""
        return self.find_place()

    @lazily
    def exact(self) -> bool:
        """Whether float64 evaluation of every squared distance is free of rounding."""
        return self.find_exact()

    @property
    def in_float64(self) -> bool:
        """Whether float64 holds all stored values and what screens and verification make of them, without scaling."""
        return self.held and self.verify_exponent == 0

    def of_directions(self) -> Frame:
        """Return the frame in which points are divided by their norms."""
        return replace(
            self, find_place=lambda: Place(torch.zeros_like(self.place.shift), 0, directed=True), verify_exponent=0
        )


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


def join(x: Seen, ctrs: Seen, reader: Reader, shifted: bool = True, levelling: bool = False) -> Frame:
    """Join what was seen of rows and of centres.

    Args:
        x: Of the rows.
        ctrs: Of the centres.
        reader: Who looks, where more must be seen.
        shifted: Differences are what counts, so that the origin may be shifted.
        levelling: Rows will be `levelled`.
    """
    ctrs.expect_middle(shifted, reader.workers)
    read_together([x, ctrs])
    largest = max(x.largest, ctrs.largest)
    reach = ctrs.largest if levelling else largest
    top, high = _ceil_log2(largest), _ceil_log2(reach)

    def place() -> Place:
        middle, spread = ctrs.middle(shifted, reader.workers)
        exponent = max(_ceil_log2(spread if spread > 0 else reach), high - _HEADROOM)
        return Place(scale(middle, -exponent), exponent)

    return Frame(
        verify_exponent=exponent_of_squares(reach),
        held=top <= 53 or not (is_wide(x.points.values) or is_wide(ctrs.points.values)),
        fits_float32=-40 <= top <= 50 or largest == 0,
        x_finite=x.finite,
        ctrs_finite=ctrs.finite,
        level=max(_LEAST_LEVEL, high) if levelling else None,
        find_place=place,
        find_exact=lambda: _is_exact(x, ctrs, largest, top, reader),
    )


def exponent_of_squares(reach: float) -> int:
    """Return `Frame.verify_exponent` of values up to reach."""
    high = _ceil_log2(reach)
    return 0 if -200 <= high <= 400 or reach == 0 else high


def survey(x: Points, ctrs: Points, shifted: bool = True) -> Frame:
    """Look at all stored values once, in bounded memory."""
    reader = Reader()
    return join(Seen(x, reader), Seen(ctrs, reader), reader, shifted)


def _ceil_log2(value: float) -> int:
    """Return the least e with value < 2^e (0 for 0)."""
    return math.frexp(value)[1]


def _is_exact(x: Seen, ctrs: Seen, largest: float, top: int, reader: Reader) -> bool:
    """Tell whether every value is a multiple of some 2^g with d (2 * largest / 2^g)^2 <= 2^53.

    Then differences, squares and sums are integers in units of 2^g or 4^g that float64 holds: nothing rounds.
    """
    if largest == 0:
        return True
    if not -400 < top < 400:
        return False
    bits = (51 - (max(1, x.points.d) - 1).bit_length()) // 2  # d <= 2^(...): largest < 2^top = 2^g 2^bits
    if not (x.points.values.is_floating_point() or ctrs.points.values.is_floating_point()):
        return top <= bits
    return all(seen.on_grid(top - bits, reader) for seen in (ctrs, x))
