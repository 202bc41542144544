"""Number formats of the dense screen: what a word holds and what rounding to it loses."""

from __future__ import annotations

from typing import NamedTuple

PANEL = 256
"""Centres packed together, fewer where memory is tight (a multiple of 64)."""


class Format(NamedTuple):
    """A format of coordinates.

    Attributes:
        name: "int8", "bfloat16" or "float32".
        per_word: Coordinates in a word of 32 bits.
        unit: Relative rounding error of a coordinate; of int8, whose steps fit each point, the largest |loss| / |point|
            that is usual.
        sum_unit: Relative error of each addition of a sum of products; int8 adds exactly.
        slack: Candidates that a row may keep beyond k + k / 2.
    """

    name: str
    per_word: int
    unit: float
    sum_unit: float
    slack: int

    def n_words(self, d: int) -> int:
        """Return the words of a point of d coordinates, at least one."""
        return max(1, -(-d // self.per_word))

    def words_bytes(self, n: int, d: int) -> int:
        """Return what the words of n points take, in panels of PANEL."""
        return -(-n // PANEL) * PANEL * self.n_words(d) * 4


# vdpbf16ps need not round each of its two sums to nearest.
# Slack: Gaussian data at d = 768, k = 10 needed 3, 45 and 120 at most.
FLOAT32 = Format("float32", 1, 2.0**-24, 2.0**-24, 16)
BFLOAT16 = Format("bfloat16", 2, 2.0**-8, 2.0**-23, 48)
INT8 = Format("int8", 4, 2.0**-7, 0.0, 176)
FORMATS = {chosen.name: chosen for chosen in (INT8, BFLOAT16, FLOAT32)}
MOST_INT8 = 1 << 15  # coordinates: int32 holds sums of so many products of bytes
