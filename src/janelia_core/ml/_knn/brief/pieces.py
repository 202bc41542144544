"""Rows shared out to threads in more pieces than there are threads: one that wakes late takes fewer of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, cast

from janelia_core.ml._knn.rows import parts
from janelia_core.ml._runtime.workers import shared

Result = TypeVar("Result")
_PIECES = 2  # for each thread


def in_pieces(work: Callable[[slice], Result], first: int, n: int, unit: int, threads: int) -> list[Result]:
    """Return work(rows) of pieces of rows first .. n - 1, whole units but for the last, by `threads` with this one."""
    if threads < 2:
        return [work(slice(first, n))]
    size = max(1, -(-(n - first) // (threads * _PIECES * unit))) * unit
    pieces = list(parts(n, size, first))
    found: list[Result | None] = [None] * len(pieces)

    def one(number: int) -> None:
        found[number] = work(pieces[number])

    shared(one, range(len(pieces)), threads)
    return cast("list[Result]", found)
