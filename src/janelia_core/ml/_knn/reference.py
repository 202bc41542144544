"""The definition of the answer, in plain Python and exact arithmetic: any input, no speed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

import torch
from torch import Tensor


def squared_distance(x: Sequence[float], c: Sequence[float]) -> tuple[int, Fraction]:
    """Return D as (class, value): finite (0, D) < infinite (1, 0) < NaN (2, 0)."""
    if all(math.isfinite(v) for v in (*x, *c)):
        return 0, sum(((Fraction(a) - Fraction(b)) ** 2 for a, b in zip(x, c, strict=True)), Fraction(0))
    # IEEE evaluation: a NaN anywhere, or inf - inf, makes the sum NaN; otherwise it is +inf.
    undefined = any(math.isnan(a) or math.isnan(b) or (math.isinf(a) and a == b) for a, b in zip(x, c, strict=True))
    return (2 if undefined else 1), Fraction(0)


def product(x: Sequence[float], c: Sequence[float]) -> tuple[int, Fraction]:
    """Return -<x, c> as (class, value): -infinite (-1, 0) < finite (0, value) < infinite (1, 0) < NaN (2, 0)."""
    if all(math.isfinite(v) for v in (*x, *c)):
        return 0, -sum((Fraction(a) * Fraction(b) for a, b in zip(x, c, strict=True)), Fraction(0))
    # Real numbers do not overflow: only what is not finite has a say.
    wild = [float(a) * float(b) for a, b in zip(x, c, strict=True) if not (math.isfinite(a) and math.isfinite(b))]
    total = -sum(wild)
    return (2 if math.isnan(total) else int(math.copysign(1, total))), Fraction(0)


def cosine(x: Sequence[float], c: Sequence[float]) -> tuple[int, Fraction]:
    """Return (class, -cos |cos| |x|^2), which orders the centres of a row as 1 - cos; a zero vector's cosine is 0."""
    if not all(math.isfinite(v) for v in (*x, *c)):
        return 2, Fraction(0)
    s = -product(x, c)[1]
    return 0, -s * abs(s) / (-product(c, c)[1] or 1)


def nearest(x: Tensor, ctrs: Tensor, k: int, metric: str = "euclidean") -> Tensor:
    """Return the unique answer: (k, n_smps) int64, the first k centres of each row by (order value, index)."""
    centres = ctrs.tolist()
    value = {"dot": product, "cosine": cosine}.get(metric, squared_distance)
    columns = []
    for row in x.tolist():
        order = sorted(range(len(centres)), key=lambda j: (value(row, centres[j]), j))
        columns.append(order[:k])
    return torch.tensor(columns, dtype=torch.int64).reshape(len(columns), k).T.contiguous()
