"""The angle between points of the unit sphere, given by latitude and longitude in radians.

Points are ordered by D = |P - Q|^2 of the float64 numbers nearest to them (`data.sphere`), so every search among these
serves (`mapped`). What is handed back is the angle over the chord, 2 asin(min(1, sqrt(D) / 2)), in the order of D:
norms of such points are within 2^-53 of 1, so that a chord may come out longer than 2 by as much.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

import torch
from torch import Tensor

from janelia_core.ml._knn.arithmetic.angles import chords_of_angles
from janelia_core.ml._knn.arithmetic.exact_sines import is_chord_within, nearest_angle, nearest_point, square_between
from janelia_core.ml._knn.arithmetic.integers import Format, Rational, Rationals
from janelia_core.ml._knn.data.sphere import points_of_the_sphere
from janelia_core.ml._knn.metrics.euclidean import SquaredEuclidean
from janelia_core.ml._knn.metrics.metric import Metric


class Chord(SquaredEuclidean):
    """D of points of the sphere, as they are searched: the distance is the angle over the chord, and so is a radius."""

    def is_within(self, x: Rationals, c: Rationals, r: Fraction) -> bool:
        """Tell whether the angle between two points is at most r."""
        return is_chord_within(self.key(x, c), r)

    def limits(self, r: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return 4 sin^2 (r / 2), its low part and its error: see `Metric`."""
        parts = chords_of_angles(r.cpu().numpy())
        high, low, error = (torch.from_numpy(part).to(r.device) for part in parts)
        return high, low, error


class Haversine(Metric):
    """Ordered by the chord; the distance handed back is the angle over it, in radians."""

    degree = 0
    mapped_to = "chord"
    mapped_bytes = 24
    columns = ("latitude", "longitude in radians")

    @staticmethod
    def mapped(values: Tensor) -> Tensor:
        """Return the points (n, 3) of latitudes and longitudes (n, 2)."""
        return points_of_the_sphere(values)

    def key(self, x: Rationals, c: Rationals) -> Rational:
        """Return D."""
        return square_between(nearest_point(*x), nearest_point(*c))

    def beyond(self, x: Sequence[float], c: Sequence[float]) -> float:
        """Return NaN: an angle that is not finite is no place."""
        return math.nan

    def pair_values(self, x: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """Return D and its error; see `Metric`."""
        points = (self.mapped(values.reshape(-1, 2)).reshape(*values.shape[:-1], 3) for values in (x, c))
        value, error = SquaredEuclidean().pair_values(*points)
        return value, torch.where(value.isnan(), value, error)

    def keys(self, x: Sequence[float], ctrs: Sequence[Sequence[float]]) -> list[Rational]:
        """Return D of each: no factor of an angle keeps an order."""
        return [self.key(x, c) for c in ctrs]  # type: ignore[arg-type]

    def is_within(self, x: Rationals, c: Rationals, r: Fraction) -> bool:
        """Tell whether the angle between two places is at most r."""
        return is_chord_within(self.key(x, c), r)

    def distance_bits(self, x: Sequence[int], c: Sequence[int], unit: int, fmt: Format) -> int:
        """Return the bits of the angle."""
        p, q = (nearest_point(*(Fraction(v, unit) for v in row)) for row in (x, c))
        return nearest_angle(square_between(p, q), fmt)
