"""A metric: what centres are ordered by, and all that the search asks of it.

Its order value is defined once, exactly, by `key` for finite rows and by `beyond` for others; all else are ways to
tell it, each with a proven error: float64 values of pairs and of blocks, double-doubles, the rounding of what is handed
back. What is optional has an answer here that is right for every metric, and slower.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar

import torch
from torch import Tensor

from janelia_core.ml._knn.arithmetic.double_double import Floats, Sum
from janelia_core.ml._knn.arithmetic.integers import Format, Rational, Rationals, common_integers, nearest_bits
from janelia_core.ml._knn.data.frame import scale
from janelia_core.ml._knn.data.points import as_float64, float64_device, halves, is_finite, is_wide
from janelia_core.ml._knn.rows import tiles

DISTANCE, DOT, COSINE, UNKNOWN, MANHATTAN, CHEBYSHEV = range(6)
"""Formulas that compiled kernels and screens know."""

FORMS = (DISTANCE, DOT, COSINE)
"""Those that all screens and kernels know, if they do not say otherwise."""
ALL_FORMS = (*FORMS, MANHATTAN, CHEBYSHEV)
OF_GAPS = (DISTANCE, MANHATTAN, CHEBYSHEV)
"""Those of metrics that gaps between coordinates make."""

Bound = tuple[float, float]
"""How far a float64 order value can be off: relative, and absolute."""
AT_ONCE = 1 << 15  # coordinates of pairs that stay in a core's cache


@dataclass(frozen=True)
class Metric(ABC):
    """A metric for one search.

    A row or a centre with a NaN is at NaN from all others; order values are -inf < finite < inf < NaN.

    Attributes:
        exponent: Stored values are taken times 2^-exponent each (`Frame.verify_exponent`), unless `degree` is 0.
        exact: No float64 evaluation of an order value rounds.
        form: The formula that screens and compiled kernels know it by, whose order value it has; or UNKNOWN.
        degree: Of points times t the order values are t^degree times as large.
        root: What is handed back as the distance is the square root of the order value.
        uniform: Errors of float64 values are those of `bound`, relative to the value itself.
        exact_on_grids: Nothing rounds where differences, products, squares and their sums do not (`Frame.exact`).
        levelled: A power of two that is taken from a row changes no order in it, and float64 may need one.
        signed: An infinite coordinate may make an order value -inf.
        directed: It is of directions, whose screens know no exponents (`Frame.of_directions`).
        summed: `pair_sums` take pairs on any device, but no 64-bit integers.
        doubled_below: `sums` take pairs of rows of float64 numbers below this; 0: of none.
        mapped_to: The metric by which `mapped` points are searched in place of stored values; "": they are not mapped.
        mapped_bytes: Of each of these points.
        columns: What the columns of stored values are, where there have to be so many.
    """

    exponent: int = 0
    exact: bool = False

    form: ClassVar[int] = UNKNOWN
    degree: ClassVar[int]
    root: ClassVar[bool] = False
    uniform: ClassVar[bool] = False
    exact_on_grids: ClassVar[bool] = False
    levelled: ClassVar[bool] = False
    signed: ClassVar[bool] = False
    directed: ClassVar[bool] = False
    summed: ClassVar[bool] = False
    doubled_below: ClassVar[float] = 0.0
    mapped_to: ClassVar[str] = ""
    mapped_bytes: ClassVar[int] = 0
    columns: ClassVar[tuple[str, ...]] = ()

    # What a metric must say.

    @abstractmethod
    def key(self, x: Rationals, c: Rationals) -> Rational:
        """Return the order value of finite rows: the definition of the metric.

        If `distance_bits` does not ask for it, anything that orders the centres of a row alike will do.
        """

    @abstractmethod
    def beyond(self, x: Sequence[float], c: Sequence[float]) -> float:
        """Return inf, -inf or NaN: the order value of rows of which something is not finite, by IEEE rules.

        What is finite does not overflow.
        """

    @abstractmethod
    def pair_values(self, x: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """Return the order values of pairs and their errors: |value - truth| <= error.

        Args:
            x: (..., d) stored values of any real dtype, broadcast against c.
            c: (..., d) stored values.

        Returns:
            value, error: float64 without the last dimension. Where a value is not finite, so is the error.
        """

    # What it may say better.

    def block_values(self, x: Tensor, c: Tensor, chunk: int) -> tuple[Tensor, Tensor]:
        """Return what `pair_values` does, for every row (r, d) with every centre (b, d), in about chunk coordinates."""
        value = torch.empty(len(x), len(c), dtype=torch.float64, device=float64_device(x.device))
        error = torch.empty_like(value)
        for part in tiles(len(x), len(c), chunk // max(1, x.shape[1])):
            value[part], error[part] = self.pair_values(x[part[0], None], c[None, part[1]])
        return value, error

    @staticmethod
    def mapped(values: Tensor) -> Tensor:
        """Return the points (n, d') that stored values (n, d) stand for, where the metric is `mapped_to` another."""
        raise NotImplementedError

    def at_once(self, x: Tensor, c: Tensor, chunk: int) -> tuple[Tensor, Tensor]:
        """Return numbers (r, b) that order alike, and an error (r, 1), of float64 rows and centres."""
        value, error = self.block_values(x, c, chunk)
        return value, error.amax(dim=1, keepdim=True)

    def bound(self, d: int) -> Bound:
        """Return (relative, absolute) errors of float64 order values, as `uniform` and compiled kernels want them."""
        raise NotImplementedError

    def sums(self, x: Floats, c: Floats) -> Sum:
        """Return order values as double-doubles (hi, lo, error) of pairs of rows (p, d) below `doubled_below`."""
        raise NotImplementedError

    def pair_sums(self, x: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return order values as (hi, lo, error), |hi + lo - truth| <= error, of points as for `pair_values`."""
        raise NotImplementedError

    def key_sums(self, x: Floats, c: Floats) -> Sum:
        """Return double-doubles that order the centres of a row alike, and tie more often where these do."""
        return self.sums(x, c)

    def is_within(self, x: Rationals, c: Rationals, r: Fraction) -> bool:
        """Tell whether the distance of finite rows is at most r; r >= 0 where no distance is negative."""
        return self.key(x, c) <= (r * r if self.root else r)

    def limits(self, r: Tensor) -> tuple[Tensor, Tensor, Tensor] | None:
        """Return what order values of members are at most, for radii (n,) float64: a double-double, and its error.

        None: the radii themselves, or their squares where the distance is a root; else of `exponent` 0.
        """
        return None

    def distance_bits(self, x: Sequence[int], c: Sequence[int], unit: int, fmt: Format) -> int:
        """Return the bits of the distance between x / unit and c / unit, rounded to nearest even."""
        key = self.key(x, c)
        return nearest_bits(key.numerator, key.denominator * unit**self.degree, fmt)

    # What follows from these.

    def true_value(self, x: Sequence[float], c: Sequence[float]) -> tuple[int, Rational]:
        """Return (class, value), by which the centres of a row are ordered: -inf < finite (0, key) < inf < NaN."""
        if all(math.isfinite(v) for v in (*x, *c)):
            return 0, self.key([Fraction(v) for v in x], [Fraction(v) for v in c])
        value = self.beyond(x, c)
        return (2 if math.isnan(value) else int(math.copysign(1, value))), 0

    def rounded(self, x: Sequence[float], c: Sequence[float], fmt: Format) -> int:
        """Return the bit pattern of the distance between two rows of finite values, rounded to nearest even."""
        (xs, cs), unit = common_integers([x, c])
        return self.distance_bits(xs, cs, unit, fmt)

    def keys(self, x: Sequence[float], ctrs: Sequence[Sequence[float]]) -> list[Rational]:
        """Return what orders finite centres of a finite row: keys, of all values times some number."""
        (row, *centres), _ = common_integers([x, *ctrs])
        return [self.key(row, c) for c in centres]

    def errors(self, value: Tensor, error: Tensor) -> Tensor:
        """Return errors as `Ordered` wants them: 0 where nothing rounds or value is not finite."""
        if self.exact:
            return torch.zeros_like(error)
        return torch.where(is_finite(value), error, 0.0)

    def errors_of(self, value: Tensor, d: int) -> Tensor:
        """Return the errors of values of points of d coordinates, where they are `uniform`."""
        relative, absolute = self.bound(d)
        return self.errors(value, value * relative + absolute)

    def pairs(self, x: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """Return order values and errors, as `Ordered` wants them, of points (..., d), broadcast."""
        value, error = self.pair_values(x, c)
        return value, self.errors(value, error)

    def block(self, x: Tensor, c: Tensor, chunk: int) -> tuple[Tensor, Tensor]:
        """Return order values and errors (r, b) of rows (r, d) with centres (b, d); all pairs together if few."""
        if len(x) * len(c) * x.shape[1] <= min(chunk, AT_ONCE):
            return self.pairs(x[:, None], c[None])
        value, error = self.block_values(x, c, chunk)
        return value, self.errors(value, error)

    def scaled(self, values: Tensor) -> Tensor:
        """Return stored values in float64, times 2^-exponent."""
        return scale(as_float64(values), -self.exponent) if self.exponent else as_float64(values)

    def difference(self, x: Tensor, c: Tensor) -> Tensor:
        """Return (x - c) 2^-exponent in float64, broadcast, off by a relative 2^-53, or 3 2^-53 for 64-bit integers."""
        if not (is_wide(x) or is_wide(c)):
            return self.scaled(x) - self.scaled(c)
        x_high, x_low = _parts(x)
        c_high, c_low = _parts(c)
        # Differences of the halves are exact for integers. Against a float, high - c rounds only where it is at most
        # twice the difference, or high is 0: signs are alike, so |x| < 2^32 has no high part that low takes away again.
        delta = (x_high - c_high) + (x_low - c_low)
        return scale(delta, -self.exponent) if self.exponent else delta


def _parts(values: Tensor) -> tuple[Tensor, Tensor]:
    if is_wide(values):
        return halves(values)
    exact = as_float64(values)
    return exact, torch.zeros_like(exact)
