"""Why a row is in doubt: bits of what kernels of the screens on a GPU tell of it."""

from __future__ import annotations

STRANGE = 1
"""Its numbers, or those of a centre, are out of range: nothing is proven."""
OVERFLOW = 2
"""A list of groups was full."""
CROWDED = 4
"""The list of centres was."""
CLOSE = 8
"""Two centres that follow each other are too close to tell."""
EXTREME = 16
"""Order values may have left what float64 holds."""
FEW = 32
"""Fewer centres were listed than are wanted."""
