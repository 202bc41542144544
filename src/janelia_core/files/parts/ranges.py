"""Which of the centres a part of a search is of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Part(NamedTuple):
    """One of so many parts, which are numbered from 0.

    Attributes:
        number: Of this part.
        n_parts: How many there are.
    """

    number: int
    n_parts: int

    @classmethod
    def of(cls, given: Sequence[int] | None) -> Part | None:
        """Return what a caller gave as (i, n).

        Raises:
            ValueError: There is no such part.
        """
        if given is None:
            return None
        if len(given) != 2 or not all(type(number) is int for number in given):
            raise ValueError(f"part must be two whole numbers (i, n), got {given!r}")
        part = cls(*given)
        if part.n_parts < 1:
            raise ValueError(f"part must be one of at least 1 part, got {part}")
        if not 0 <= part.number < part.n_parts:
            last = part.n_parts - 1
            raise ValueError(f"part must be 0/{part.n_parts} to {last}/{part.n_parts}, numbered from 0, got {part}")
        return part

    def __str__(self) -> str:
        return f"{self.number}/{self.n_parts}"

    def range(self, first: int, n: int) -> tuple[int, int]:
        """Return where the part begins among rows first .. first + n - 1, and how many it has: all about as many.

        Raises:
            ValueError: There are more parts than rows.
        """
        if self.n_parts > n:
            raise ValueError(f"part {self} cannot be: {self.n_parts} parts need as many centres, there are {n}")
        start, stop = (n * number // self.n_parts for number in (self.number, self.number + 1))
        return first + start, stop - start
