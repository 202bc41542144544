"""An oracle that shares no code with the package: exact integers, one pair at a time.

Every finite stored value is an integer times 2^-1074 or more, so with one common power of two all values become
Python integers and squared distances are exact. Infinite and NaN rows follow IEEE rules by hand.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def exact_order(x_row: list, ctrs: list[list], k: int) -> list[int]:
    """Return the first k centres of one row by (D, index), with finite < inf < NaN."""
    return [j for *_, j in sorted((*_distance(x_row, c), j) for j, c in enumerate(ctrs))[:k]]


def nearest(x: Tensor, ctrs: Tensor, k: int) -> Tensor:
    """Return the unique answer (k, n_smps)."""
    rows, centres = x.tolist(), ctrs.tolist()
    found = torch.empty(k, len(rows), dtype=torch.int64)
    for i, row in enumerate(rows):
        found[:, i] = torch.tensor(exact_order(row, centres, k))
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


def _integer(value: float) -> int:
    """Return value * 2^1074 as an integer: every float64 is a multiple of 2^-1074."""
    if isinstance(value, int):
        return value << 1074
    mantissa, exponent = math.frexp(value)
    shift = exponent - 53 + 1074
    whole = int(math.ldexp(mantissa, 53))
    return whole << shift if shift >= 0 else whole >> -shift
