"""An oracle that shares no code with the package: exact integers, one pair at a time.

Every finite stored value is an integer times 2^-1074 or more, so with one common power of two all values become
Python integers and squared distances are exact. Infinite and NaN rows follow IEEE rules by hand.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def exact_order(
    x_row: list, ctrs: list[list], k: int, metric: str = "euclidean", allowed: list | None = None
) -> list[int]:
    """Return the first k centres of one row by (order value, index), -inf < finite < inf < NaN; -1 if none is left."""
    value = {"dot": _product, "cosine": _cosine}.get(metric, _distance)
    shown = [j for j in range(len(ctrs)) if allowed is None or allowed[j]]
    order = [j for *_, j in sorted((*value(x_row, ctrs[j]), j) for j in shown)[:k]]
    return order + [-1] * (k - len(order))


def nearest(x: Tensor, ctrs: Tensor, k: int, metric: str = "euclidean", allowed: Tensor | None = None) -> Tensor:
    """Return the unique answer (k, n_smps)."""
    rows, centres = x.tolist(), ctrs.tolist()
    found = torch.empty(k, len(rows), dtype=torch.int64)
    for i, row in enumerate(rows):
        shown = None if allowed is None else allowed[i].tolist()
        found[:, i] = torch.tensor(exact_order(row, centres, k, metric, shown))
    return found


def wrong_rows(x: Tensor, ctrs: Tensor, got: Tensor, rows: list[int] | None = None) -> list[int]:
    """Return the rows whose indices got[:, i] differ from the exact answer."""
    k = got.shape[0]
    rows = list(range(x.shape[0])) if rows is None else rows
    centres = ctrs.tolist()
    return [i for i in rows if got[:, i].tolist() != exact_order(x[i].tolist(), centres, k)]


def _distance(x: list, c: list) -> tuple[int, int, int]:
    if any(not math.isfinite(v) for v in x) or any(not math.isfinite(v) for v in c):
        total = 0.0
        for a, b in zip(x, c, strict=True):
            gap = float(a) - float(b)
            total += gap * gap if not math.isinf(gap) else math.inf
        return (2, 0, 0) if math.isnan(total) else (1, 0, 0)
    # D as mantissa * 2^exponent, put on the common exponent -2 * 1074 so that plain integers compare.
    return 0, sum((_integer(a) - _integer(b)) ** 2 for a, b in zip(x, c, strict=True)), 0


def _product(x: list, c: list) -> tuple[int, int, int]:
    """Return -<x, c> as (class, value)."""
    if all(math.isfinite(v) for v in (*x, *c)):
        return 0, -sum(_integer(a) * _integer(b) for a, b in zip(x, c, strict=True)), 0
    # Only terms with something infinite or undefined decide: real numbers do not overflow.
    terms = [float(a) * float(b) for a, b in zip(x, c, strict=True) if not (math.isfinite(a) and math.isfinite(b))]
    total = -sum(terms)
    return (2, 0, 0) if math.isnan(total) else (1 if total > 0 else -1, 0, 0)


class _Ratio:
    """A fraction that compares without being reduced."""

    def __init__(self, top: int, bottom: int) -> None:
        self.top, self.bottom = top, bottom

    def __eq__(self, other: object) -> bool:
        return self.top * other.bottom == other.top * self.bottom

    def __lt__(self, other: _Ratio) -> bool:
        return self.top * other.bottom < other.top * self.bottom


def _cosine(x: list, c: list) -> tuple[int, _Ratio]:
    """Return 1 - cos as (class, -cos |cos| |x|^2): the same order in a row; cos is 0 for a zero vector."""
    if any(not math.isfinite(v) for v in (*x, *c)):
        return 2, _Ratio(0, 1)
    a, b = [_integer(v) for v in x], [_integer(v) for v in c]
    s, square = sum(p * q for p, q in zip(a, b, strict=True)), sum(q * q for q in b)
    return 0, _Ratio(-s * abs(s), square or 1)


def _integer(value: float) -> int:
    """Return value * 2^1074 as an integer: every float64 is a multiple of 2^-1074."""
    if isinstance(value, int):
        return value << 1074
    mantissa, exponent = math.frexp(value)
    shift = exponent - 53 + 1074
    whole = int(math.ldexp(mantissa, 53))
    return whole << shift if shift >= 0 else whole >> -shift
