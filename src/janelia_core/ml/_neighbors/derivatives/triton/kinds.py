"""What pairs add to a sum."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

PRODUCTS, DIFFERENCES, LENGTHS = range(3)
"""Kinds of vectors: factor w other, factor w (own - other), and w (own - other) / r."""


class Vectors(NamedTuple):
    """What pairs add.

    Attributes:
        w: (parts, n, k) weights, of which each has sums of its own.
        x: (n, d) rows.
        c: (m, d) centres.
        kind: One of those above.
        factor: A power of two, or its negative; 1 for lengths.
        r: (n, k) distances, for lengths.
    """

    w: Tensor
    x: Tensor
    c: Tensor
    kind: int
    factor: float = 1.0
    r: Tensor | None = None
