"""Which of the centres a part of a search is of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Part(NamedTuple):
    """One of so many parts, which are numbered from 0.

    Attributes:
        number: Of this part.
        count: How many there are.
    """

    number: int
    count: int

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
        if part.count < 1:
            raise ValueError(f"part must be one of at least 1 part, got {part}")
        if not 0 <= part.number < part.count:
            last = part.count - 1
            raise ValueError(f"part must be 0/{part.count} to {last}/{part.count}, numbered from 0, got {part}")
        return part

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    def range(self, first: int, n: int) -> tuple[int, int]:
        """Return where the part begins among rows first .. first + n - 1, and how many it has: all about as many.

        Raises:
            ValueError: There are more parts than rows.
        """
        if self.count > n:
            raise ValueError(f"part {self} cannot be: {self.count} parts need as many centres, there are {n}")
        start, stop = (n * number // self.count for number in (self.number, self.number + 1))
        return first + start, stop - start
