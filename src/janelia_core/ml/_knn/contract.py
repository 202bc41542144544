"""What stages hand on: the contract every screen obeys, and what settle counts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor


class Candidates(NamedTuple):
    """What a screen leaves for a block of r rows.

    A screen never decides an order; it only excludes, and `excluded` is its proof.

    Attributes:
        indices: (r, w) int64 row numbers of centres, any order, -1 in empty slots, none twice in a row.
        excluded: (r,) float64 lower bound of the true order value (`metrics`) of every finite centre not listed, in
            the units of verify (`Frame.verify_exponent`). +inf: the list provably holds the whole answer.
            -inf: the screen cannot tell, the row goes up the ladder.
        at_least: (r, w) float64 lower bounds of the true order values of the listed, anything in empty slots, the k
            most promising in the first slots; or None. Lets verify leave out who is farther than k others.
    """

    indices: Tensor
    excluded: Tensor
    at_least: Tensor | None = None

    def rows(self, which: Tensor | slice) -> Candidates:
        """Return some of the rows."""
        at_least = None if self.at_least is None else self.at_least[which]
        return Candidates(self.indices[which], self.excluded[which], at_least)


class Members(NamedTuple):
    """Centres that may lie within a radius of each of r rows: at least all that do.

    Attributes:
        counts: (r,) int64.
        indices: (p,) int64 row numbers of centres, row after row, within a row in any order, none twice.
    """

    counts: Tensor
    indices: Tensor


class Ordered(NamedTuple):
    """Centres of a block of r rows, sorted by (order value, index), each value with its error.

    Attributes:
        indices: (r, w) int64 row numbers of centres, -1 in empty slots, which come last.
        value: (r, w) float64, NaN in empty slots; -inf < finite < inf < NaN.
        error: (r, w) float64: the true order value lies within value +- error; 0 where value is not finite.
    """

    indices: Tensor
    value: Tensor
    error: Tensor

    def rows(self, which: Tensor | slice) -> Ordered:
        """Return some of the rows."""
        return Ordered(self.indices[which], self.value[which], self.error[which])


class Stored(Protocol):
    """Where settle gets the stored values of a centre from: tensors in memory, or a file."""

    @property
    def d(self) -> int:
        """Number of coordinates."""
        ...

    @property
    def device(self) -> torch.device:
        """Where `take` wants row numbers to be."""
        ...

    @property
    def chunk(self) -> int:
        """Coordinates that a stage may hold at a time beside its result."""
        ...

    def take(self, row_numbers: Tensor) -> Tensor:
        """Return the rows with these numbers (any shape of int64): row_numbers.shape + (d,)."""
        ...


@dataclass
class Counts:
    """How many clusters of near-ties each stage put in order."""

    identical: int = 0
    double_double: int = 0
    integers: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.identical + other.identical,
            self.double_double + other.double_double,
            self.integers + other.integers,
        )
