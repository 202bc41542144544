"""The lower rungs of the ladder: listers, the cheapest first, each made when first needed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

S = TypeVar("S")
PROBE = 128
"""Rows that tell whether a format is worth its while."""
_MOST_LOST = 0.25  # of the rows: about what a cheaper format may lose and still pay


class Rungs(Generic[S]):
    """Listers in several formats, and from which of them rows had better start.

    Args:
        make: format -> a lister.
        formats: The formats, the cheapest first.

    Attributes:
        start: The rung to start from: rows that fail on one go to the next, and where many do, so do all that follow.
            Only time depends on it.
    """

    def __init__(self, make: Callable[[str], S], formats: Sequence[str] = ("",)) -> None:
        self._make, self._formats = make, formats
        self._made: list[S] = [make(formats[0])]
        self._seen, self._lost = [0] * len(formats), [0] * len(formats)
        self._lock = threading.Lock()
        self.start = 0

    def __len__(self) -> int:
        return len(self._formats)

    def __getitem__(self, rung: int) -> S:
        with self._lock:
            while len(self._made) <= rung:
                self._made.append(self._make(self._formats[len(self._made)]))
            return self._made[rung]

    def is_new(self, rung: int) -> bool:
        """Tell whether a rung has seen too few rows to be judged."""
        return self._seen[rung] < PROBE

    def note(self, rung: int, seen: int, lost: int) -> None:
        """Take note of how many rows a rung has seen, and could not certify."""
        with self._lock:
            self._seen[rung] += seen
            self._lost[rung] += lost
            if self._seen[rung] >= PROBE and self._lost[rung] > _MOST_LOST * self._seen[rung]:
                self.start = max(self.start, min(rung + 1, len(self) - 1))
