"""An oracle that shares no code with the package: exact integers, one pair at a time.

Every finite stored value is an integer times a power of two, so with one common power all values become
Python integers and squared distances are exact. Infinite and NaN rows follow IEEE rules by hand.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor


class Point(NamedTuple):
    """A row of numbers, and the integers they are in some unit, or None where one is not finite."""

    values: list
    whole: list[int] | None


def points(*tables: list[list]) -> list[list[Point]]:
    """Return the rows of tables with their integers in one common unit, a power of two."""
    numbers = [v for table in tables for row in table for v in row if math.isfinite(v)]
    unit = max((v.as_integer_ratio()[1] for v in numbers), default=1)
    return [[Point(row, _integers(row, unit)) for row in table] for table in tables]


def exact_order(
    x: Point, ctrs: list[Point], k: int, metric: str = "euclidean", allowed: list | None = None
) -> list[int]:
    """Return the first k centres of one row by (order value, index), -inf < finite < inf < NaN; -1 if none is left."""
    value = _VALUES[metric]
    shown = [j for j in range(len(ctrs)) if allowed is None or allowed[j]]
    order = [j for *_, j in sorted((*value(x, ctrs[j]), j) for j in shown)[:k]]
    return order + [-1] * (k - len(order))


def nearest(x: Tensor, ctrs: Tensor, k: int, metric: str = "euclidean", allowed: Tensor | None = None) -> Tensor:
    """Return the unique answer (k, n_smps)."""
    rows, centres = points(x.tolist(), ctrs.tolist())
    found = torch.empty(k, len(rows), dtype=torch.int64)
    for i, row in enumerate(rows):
        shown = None if allowed is None else allowed[i].tolist()
        found[:, i] = torch.tensor(exact_order(row, centres, k, metric, shown))
    return found


def wrong_rows(x: Tensor, ctrs: Tensor, got: Tensor, rows: list[int] | None = None) -> list[int]:
    """Return the rows whose indices got[:, i] differ from the exact answer."""
    k = got.shape[0]
    asked, centres = points(x.tolist(), ctrs.tolist())
    rows = list(range(x.shape[0])) if rows is None else rows
    return [i for i in rows if got[:, i].tolist() != exact_order(asked[i], centres, k)]


def _distance(x: Point, c: Point) -> tuple[int, int]:
    """Return D as (class, value)."""
    return _of_gaps(x, c, lambda gaps: sum(gap**2 for gap in gaps))


def _manhattan(x: Point, c: Point) -> tuple[int, int]:
    return _of_gaps(x, c, lambda gaps: sum(map(abs, gaps)))


def _chebyshev(x: Point, c: Point) -> tuple[int, int]:
    return _of_gaps(x, c, lambda gaps: max(map(abs, gaps), default=0))


def _of_gaps(x: Point, c: Point, of: Callable[[list[int]], int]) -> tuple[int, int]:
    """Return what `of` makes of differences, none of which is negative, as (class, value)."""
    if x.whole is not None and c.whole is not None:
        return 0, of([a - b for a, b in zip(x.whole, c.whole, strict=True)])
    total = 0.0
    for a, b in zip(x.values, c.values, strict=True):
        gap = float(a) - float(b)
        total += gap * gap if not math.isinf(gap) else math.inf
    return 2 if math.isnan(total) else 1, 0


def _product(x: Point, c: Point) -> tuple[int, int]:
    """Return -<x, c> as (class, value)."""
    if x.whole is not None and c.whole is not None:
        return 0, -sum(a * b for a, b in zip(x.whole, c.whole, strict=True))
    # Only terms with something infinite or undefined decide: real numbers do not overflow.
    pairs = zip(x.values, c.values, strict=True)
    total = -sum(float(a) * float(b) for a, b in pairs if not (math.isfinite(a) and math.isfinite(b)))
    return 2 if math.isnan(total) else 1 if total > 0 else -1, 0


class _Ratio:
    """A fraction that compares without being reduced."""

    def __init__(self, top: int, bottom: int) -> None:
        self.top, self.bottom = top, bottom

    def __eq__(self, other: object) -> bool:
        return self.top * other.bottom == other.top * self.bottom

    def __lt__(self, other: _Ratio) -> bool:
        return self.top * other.bottom < other.top * self.bottom


def _cosine(x: Point, c: Point) -> tuple[int, _Ratio]:
    """Return 1 - cos as (class, -cos |cos| |x|^2): the same order in a row; cos is 0 for a zero vector."""
    if x.whole is None or c.whole is None:
        return 2, _Ratio(0, 1)
    s, square = (sum(a * b for a, b in zip(c.whole, v, strict=True)) for v in (x.whole, c.whole))
    return 0, _Ratio(-s * abs(s), square or 1)


_VALUES = {
    "euclidean": _distance, "sqeuclidean": _distance, "dot": _product, "cosine": _cosine,
    "manhattan": _manhattan, "chebyshev": _chebyshev,
}  # fmt: skip


def _integers(row: list, unit: int) -> list[int] | None:
    if not all(math.isfinite(v) for v in row):
        return None
    ratios = [v.as_integer_ratio() for v in row]
    return [top * (unit // bottom) for top, bottom in ratios]
