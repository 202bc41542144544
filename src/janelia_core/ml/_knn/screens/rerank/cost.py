"""What re-ranking takes of memory."""

from __future__ import annotations

SORTED_ABOVE = 256
"""Listed centres of a row that one program ranks; more are sorted."""
TOGETHER = 4
"""Blocks of rows after which the host asks who is in doubt: what is known until then takes memory for each row."""
_PER_LISTED = 4 + 24 + 4 + 1  # its number, its order value, its place, and what is said of it there
_PER_SORTED = 80  # 78 at the most, measured: order values in order, their differences, and what these may be off


def bytes_of_listed(keep: int) -> int:
    """Return the bytes of a listed centre, where `keep` may be listed of a row."""
    return _PER_LISTED + (_PER_SORTED if keep > SORTED_ABOVE else 0)
