"""Shapes of the kernels of a search, by its sizes alone."""

from __future__ import annotations

from typing import NamedTuple

MOST_NEIGHBOURS = 512
LEAF = 32
"""Centres of a leaf; of a node, 32 leaves or nodes."""
_HELD = 1024  # numbers that a warp holds: 32 registers of each thread
_BESIDE = 4  # centres beside a row on the curve that it is bounded by, for each neighbour,
_FEWEST_BESIDE = 128  # or so many
_PER_NEIGHBOUR = 6  # what is listed of a row before it is tightened
_FEWEST_LISTED = 64
_WIDER = 4  # are lists of rows that are searched again


class Shape(NamedTuple):
    """How many of what.

    Attributes:
        k: Neighbours wanted.
        rows: Of a tile that walks together.
        some: Centres beside a row that bound it.
        bounded: Rows that a program bounds.
        cap: What is listed of a row before it is tightened.
        tightened: Rows that a program tightens.
        at_a_time: Slots of their lists that are looked at together.
        keep: Candidates of a row.
        warps: Of programs that bound or tighten.
    """

    k: int
    rows: int
    some: int
    bounded: int
    cap: int
    tightened: int
    at_a_time: int
    keep: int
    warps: int

    @property
    def listed_bytes(self) -> int:
        """What a tile takes while it walks."""
        return self.rows * (8 * self.cap + 4)


def shape_for(n: int, n_ctrs: int, k: int) -> Shape:
    """Return the shapes for n rows among n_ctrs centres."""
    some = _power(max(_FEWEST_BESIDE, _BESIDE * k))
    cap = _power(max(_FEWEST_LISTED, _PER_NEIGHBOUR * k))
    # Rows of a tile shall be about as near to one another as centres of a leaf.
    rows = 32 if 2 * n >= n_ctrs else 8 if 16 * n >= n_ctrs else 1
    return Shape(
        k=k,
        rows=rows,
        some=some,
        bounded=min(rows, max(1, _HELD // some)),
        cap=cap,
        tightened=(tightened := min(rows, max(1, _HELD // cap))),
        at_a_time=min(cap, max(32, _HELD // 2 // tightened)),
        keep=kept_for(k),
        warps=max(1, max(some, cap) // _HELD),
    )


def wider(shape: Shape, n_ctrs: int) -> Shape:
    """Return the shape for rows whose lists were full: each walks alone, with longer ones."""
    alone = shape_for(1, n_ctrs, shape.k)
    cap = alone.cap * _WIDER
    at_a_time, warps = min(cap, _HELD // 2), max(alone.warps, cap // _HELD)
    return alone._replace(cap=cap, at_a_time=at_a_time, keep=shape.keep * _WIDER, warps=warps)


def kept_for(k: int) -> int:
    """Return how many candidates of a row are kept: the neighbours, and who lies as near as float32 can tell."""
    return _power(k + 6 + k // 8)


def _power(n: int) -> int:
    return 1 << (n - 1).bit_length()
