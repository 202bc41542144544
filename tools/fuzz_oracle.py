"""The exact answer to problems of some thousand points, by code that shares nothing with the package.

Order values are evaluated in x87 extended precision (64 bits, exponents to 2^16383), which holds every float64 and
every 64-bit integer, and whose range no sum of products of these leaves: infinities and NaN come out as IEEE arithmetic
has them, and every other value is off by at most (2 d + 16) 2^-64 times the size of its terms. Whoever is not told
apart so is compared in Python's integers.
"""

from __future__ import annotations

import math

import numpy as np
from torch import Tensor

LONG = np.longdouble
UNIT = LONG(2) ** -64
USABLE = np.finfo(LONG).nmant == 63 and np.finfo(LONG).maxexp == 16384
EUCLIDEAN = ("euclidean", "sqeuclidean")
ABSOLUTE = ("manhattan", "chebyshev")


class Oracle:
    """Exact answers about the rows of x and ctrs, one row at a time."""

    def __init__(self, x: Tensor, ctrs: Tensor, metric: str) -> None:
        self.metric = metric
        self._stored = x, ctrs
        self._x, self._ctrs = _long(x), _long(ctrs)
        self._whole: dict[tuple[int, int], list[int] | None] = {}
        self._unit = max(_denominator(x), _denominator(ctrs))
        self._margin = LONG(2 * x.shape[1] + 16) * UNIT

    def nearest(self, i: int, k: int, allowed: np.ndarray | None = None) -> list[int]:
        """Return the first k centres of row i, among the allowed, and -1 where there are no more."""
        value, error = self.values(i)
        shown = np.arange(len(value)) if allowed is None else np.flatnonzero(allowed)
        finite = shown[np.isfinite(value[shown])]
        classes = {
            -1: shown[value[shown] == -np.inf].tolist(), 1: shown[value[shown] == np.inf].tolist(),
            2: shown[np.isnan(value[shown])].tolist(),
        }  # fmt: skip
        found = [*classes[-1], *self._first(i, finite, value, error, k), *classes[1], *classes[2]][:k]
        return found + [-1] * (k - len(found))

    def values(self, i: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the order values of row i with every centre, and how far each can be off, if it is finite."""
        x, ctrs = self._x[i], self._ctrs
        with np.errstate(all="ignore"):
            if self.metric in EUCLIDEAN:
                value = ((x - ctrs) ** 2).sum(axis=1)
                return value, value * self._margin
            if self.metric in ABSOLUTE:
                gaps = np.abs(x - ctrs)
                value = gaps.sum(axis=1) if self.metric == "manhattan" else gaps.max(axis=1, initial=0)
                return value, value * self._margin
            terms = x * ctrs
            if self.metric == "dot":
                return -terms.sum(axis=1), np.abs(terms).sum(axis=1) * self._margin
            norms = np.sqrt((x * x).sum()) * np.sqrt((ctrs * ctrs).sum(axis=1))
            cosine = np.where(norms == 0, LONG(0), terms.sum(axis=1) / norms)
            known = np.isfinite(x).all() & np.isfinite(ctrs).all(axis=1)
            return np.where(known, 1 - cosine, LONG("nan")), np.full(len(ctrs), 2 * self._margin)

    def _first(self, i: int, shown: np.ndarray, value: np.ndarray, error: np.ndarray, k: int) -> list[int]:
        """Order the finite ones: by intervals where these are apart, else by integers."""
        if len(shown) == 0:
            return []
        if len(shown) > k:
            limit = np.partition(value[shown] + error[shown], k - 1)[k - 1]
            shown = shown[value[shown] - error[shown] <= limit]
        shown = shown[np.argsort(value[shown], kind="stable")]
        high = np.maximum.accumulate(value[shown] + error[shown])
        low = np.minimum.accumulate((value[shown] - error[shown])[::-1])[::-1]
        starts = np.flatnonzero(np.r_[True, high[:-1] < low[1:]])
        found: list[int] = []
        for start, stop in zip(starts, [*starts[1:], len(shown)], strict=True):
            members = shown[start:stop].tolist()
            found += members if len(members) == 1 else sorted(members, key=lambda j: (self.key(i, j), j))
            if len(found) >= k:
                break
        return found

    def key(self, i: int, j: int) -> object:
        """Return what orders the centres of a row, exactly."""
        x, c = self._integers(0, i), self._integers(1, j)
        if self.metric in EUCLIDEAN:
            return sum((a - b) ** 2 for a, b in zip(x, c, strict=True))
        if self.metric in ABSOLUTE:
            gaps = [abs(a - b) for a, b in zip(x, c, strict=True)]
            return sum(gaps) if self.metric == "manhattan" else max(gaps, default=0)
        product = sum(a * b for a, b in zip(x, c, strict=True))
        if self.metric == "dot":
            return -product
        return _Ratio(-product * abs(product), sum(a * a for a in c) or 1)

    def _integers(self, side: int, at: int) -> list[int]:
        """Return a point in units of 1 / self._unit, in which all of them are whole."""
        if (side, at) not in self._whole:
            ratios = [v.as_integer_ratio() for v in self._stored[side][at].tolist()]
            self._whole[side, at] = [top * (self._unit // bottom) for top, bottom in ratios]
        return self._whole[side, at]


class _Ratio:
    """A fraction that is compared without being reduced."""

    def __init__(self, top: int, bottom: int) -> None:
        self.top, self.bottom = top, bottom

    def __eq__(self, other: _Ratio) -> bool:
        return self.top * other.bottom == other.top * self.bottom

    def __lt__(self, other: _Ratio) -> bool:
        return self.top * other.bottom < other.top * self.bottom


def _denominator(values: Tensor) -> int:
    """Return the largest denominator of the finite values; all are powers of two."""
    if not values.is_floating_point():
        return 1
    return max((v.as_integer_ratio()[1] for v in set(values.flatten().tolist()) if math.isfinite(v)), default=1)


def _long(values: Tensor) -> np.ndarray:
    """Return the values in extended precision, all of them exact."""
    return (values.double() if values.is_floating_point() else values).numpy().astype(LONG)
