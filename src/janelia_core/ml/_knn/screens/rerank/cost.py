"""What re-ranking takes of memory."""

from __future__ import annotations

SORTED_ABOVE = 128
"""Listed centres of a row that one program ranks; more are sorted."""
_PER_LISTED = 4 + 24 + 4 + 1  # its number, its order value, its place, and what is said of it there
_PER_SORTED = 48


def bytes_of_listed(keep: int) -> int:
    """Return the bytes of a listed centre, where `keep` may be listed of a row."""
    return _PER_LISTED + (_PER_SORTED if keep > SORTED_ABOVE else 0)
