"""The contract every screen obeys: rows in, candidates and a certificate out."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from torch import Tensor


class Candidates(NamedTuple):
    """What a screen leaves for a block of r rows.

    A screen never decides an order; it only excludes, and `excluded` is its proof.

    Attributes:
        indices: (r, w) int64 positions among the centres, any order, -1 in empty slots, none twice in a row.
        excluded: (r,) float64 lower bound of the true squared distance of every finite centre not listed, in
            the units of verify (`Frame.verify_exponent`). +inf: the list provably holds the whole answer.
            -inf: the screen cannot tell, the row goes up the ladder.
    """

    indices: Tensor
    excluded: Tensor


class Screen(Protocol):
    """Cheap scores with a proven error bound. Safe to call from several threads at once."""

    def candidates(self, x_rows: Tensor) -> Candidates:
        """Shortlist the centres for rows x_rows (r, d) of stored, finite values."""
        ...
