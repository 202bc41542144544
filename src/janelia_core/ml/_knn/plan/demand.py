"""What a screen takes, of time and of memory, by sizes alone."""

from __future__ import annotations

import math
from collections.abc import Hashable
from typing import Any, NamedTuple

from janelia_core.ml._knn.problem import Problem

PER_LISTED = 48
"""Bytes of a candidate's score and place in the lists of a row, as it goes through the stages."""


PER_CELL = 6
"""Bytes of a pair that a mask is asked for, where it is a function: its answer, a copy, the caller's temporaries."""
_CELLS, _CELL_SHARE = 1 << 18, 256


class Cost(NamedTuple):
    """What a screen costs, in nanoseconds of one core; only ratios matter.

    Attributes:
        work: Of preparing the centres and of all rows, where it does not fail.
        most_alike: How many centres that float32 scores cannot part a row may have before it fails.
        work_of_failure: What comes on top where all rows do.
    """

    work: float
    most_alike: float = math.inf
    work_of_failure: float = 0.0


class Products(NamedTuple):
    """How the portable screen multiplies rows and centres; every ladder can fall back on it.

    Attributes:
        ctr_block: Centres whose scores are held at a time.
        width: Candidates kept for a row.
        operand_bits: Significant bits of the operands.
        keep_packed: Packed centres are kept for all blocks of rows.
        row_bytes: Bytes of a packed row or centre.
    """

    ctr_block: int
    width: int
    operand_bits: int
    keep_packed: bool
    row_bytes: int


class Demand(NamedTuple):
    """What a screen asks of the memory.

    Attributes:
        held: Bytes of what is prepared, and of what workers hold for it.
        per_row: Bytes of a row on its way through the screen.
        width: Candidates that may be left of a row.
        reason: Why this screen, for people.
        own: What the screen decided beside, for itself (`Plan.own`).
        kept: Prepared centres are kept for all blocks of rows.
        sifts: The screen itself leaves out copies that no one can be answered with.
        products: Of the portable screen, by that alone.
        variant: What decides, by sizes, which of the screen's kernels run; where that is not alike for all.
    """

    held: int
    per_row: int
    width: int
    reason: str
    own: Any = None
    kept: bool = False
    sifts: bool = False
    products: Products | None = None
    variant: Hashable = None


def cells_asked(problem: Problem) -> int:
    """Return of how many pairs a mask is asked at once, where it is a function: of an eighth of a row at least."""
    return max(min(_CELLS, problem.budget // _CELL_SHARE), problem.n_ctrs // 8 + 64)
