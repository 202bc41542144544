"""Which blocks a search of files works on, in which order, and how many bytes it reads. Pure arithmetic."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from janelia_core.sizes import show_bytes

MEBIBYTE = 1 << 20
FILES_MEMORY = 1 << 30

_FIXED = 20 * MEBIBYTE  # chunks that are read, converted and merged
_MOST_WORKSPACE = 512 * MEBIBYTE
_PER_NEIGHBOUR = 40  # bytes of a neighbour of a row: as found in the block, running index, D^, distance
_PER_FOUND = 24  # the same where no lists run on, as all centres are one block: as found, as answered, distance
_STATE = 32  # bytes of a neighbour in the running lists on disk
_WHOLE = 0.375  # of the memory: centres that take no more are one block
_SHARES = (0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875)
_LEAST_SHARE = 8  # of the memory: what the search has of it at least, in blocks that it was begun with
_FEW_CTRS = 2048  # a search of fewer centres at a time pays more for its start than for its work


def reading_memory(max_memory: int) -> int:
    """Return how many bytes reading a file may take beside the rows: what no layout gives to blocks."""
    return max(MEBIBYTE // 4, min(_FIXED // 2, max_memory // 16))


def opening_memory(max_memory: int) -> int:
    """Return how many bytes opening a file may take: half, as there are no blocks yet."""
    return max(MEBIBYTE // 4, min(_MOST_WORKSPACE, max_memory // 2))


@dataclass(frozen=True)
class Layout:
    """Blocks of a search of files.

    Attributes:
        n_smps: Rows of the queries.
        n_ctrs: Rows of the centres.
        k: Neighbours asked for.
        outer: "queries": for each block of queries all centres pass by; "centres": the other way round.
        row_block: Queries in memory at a time.
        ctr_block: Centres in memory at a time.
        workspace: Bytes that the search of one block in the other may take.
        query_bytes: Bytes of queries read, all passes together.
        ctr_bytes: Bytes of centres read, all passes together.
        state_bytes: Bytes of running lists read back, when the centres are outer.
        but_self: The queries are centres, none its own neighbour, so that one more is searched for.
    """

    n_smps: int
    n_ctrs: int
    k: int
    outer: str
    row_block: int
    ctr_block: int
    workspace: int
    query_bytes: int
    ctr_bytes: int
    state_bytes: int
    but_self: bool = False

    def __str__(self) -> str:
        passes = self.n_row_blocks if self.outer == "queries" and self.n_ctr_blocks > 1 else 1
        lines = [
            f"{self.n_smps} queries x {self.n_ctrs} centres, k = {self.k}",
            f"{self.n_row_blocks} block{'s' * (self.n_row_blocks > 1)} of {self.row_block} queries, "
            f"{self.n_ctr_blocks} of {self.ctr_block} centres, {self.outer} outer",
            f"reads {show_bytes(self.ctr_bytes)} of centres (each byte {passes} time{'s' * (passes > 1)}) "
            f"and {show_bytes(self.query_bytes)} of queries: {self.bytes_read} bytes",
        ]
        if self.state_bytes:
            lines.append(f"keeps running lists on disk, and reads {show_bytes(self.state_bytes)} of them back")
        return "\n".join(lines)

    @property
    def kept(self) -> int:
        """Neighbours kept of each row until the answer."""
        return self.k + self.but_self

    @property
    def bytes_read(self) -> int:
        """Bytes of both files read, all passes together."""
        return self.query_bytes + self.ctr_bytes

    @property
    def n_row_blocks(self) -> int:
        """Number of blocks of queries."""
        return -(-self.n_smps // self.row_block)

    @property
    def n_ctr_blocks(self) -> int:
        """Number of blocks of centres."""
        return -(-self.n_ctrs // self.ctr_block)

    @property
    def n_steps(self) -> int:
        """Number of pairs of blocks."""
        return self.n_row_blocks * self.n_ctr_blocks

    def step(self, number: int) -> tuple[int, int]:
        """Return which block of queries and which block of centres meet in step `number`."""
        if self.outer == "queries":
            return divmod(number, self.n_ctr_blocks)
        c, q = divmod(number, self.n_row_blocks)
        return q, c


def make_layout(
    n_smps: int,
    n_ctrs: int,
    k: int,
    *,
    row_bytes: int,
    ctr_bytes: int,
    d_bytes: tuple[int, int],
    max_memory: int,
    but_self: bool = False,
    outers: Sequence[str] = ("queries", "centres"),
) -> Layout:
    """Choose the blocks that read least within max_memory.

    Args:
        n_smps: Rows of the queries.
        n_ctrs: Rows of the centres.
        k: Neighbours asked for.
        row_bytes: Bytes of a query in its file.
        ctr_bytes: Bytes of a centre in its file.
        d_bytes: Bytes of a query and of a centre in memory.
        max_memory: Bytes that blocks and workspace may take together.
        but_self: Rows are among the centres, and none is its own neighbour.
        outers: Which loops may be the outer one.

    Raises:
        ValueError: Not even a single row fits.
    """
    whole = _whole(n_smps, n_ctrs, k, row_bytes, ctr_bytes, d_bytes, max_memory, but_self)
    if whole is not None:
        return whole
    workspace = min(_MOST_WORKSPACE, max_memory // 2)
    room = max_memory - workspace - min(_FIXED, max_memory // 8)
    kept = k + but_self
    per_row, per_ctr = d_bytes[0] + _PER_NEIGHBOUR * kept, d_bytes[1]
    if room < 8 * (per_row + per_ctr):
        least = 4 * 8 * (per_row + per_ctr)
        raise ValueError(f"max_memory must be at least {least} bytes for rows of this size, got {max_memory}")
    layouts = []
    for share in _SHARES:
        row_block, ctr_block = _blocks(n_smps, n_ctrs, room, per_row, per_ctr, share)
        for outer in outers:
            blank = Layout(n_smps, n_ctrs, k, outer, row_block, ctr_block, workspace, 0, 0, 0, but_self)
            layouts.append(_counted(blank, row_bytes, ctr_bytes))
    # Among equals the one with fewer steps: every step searches, merges and writes down.
    return min(layouts, key=lambda layout: (layout.bytes_read + 2 * layout.state_bytes, layout.n_steps))


def with_blocks(
    layout: Layout,
    blocks: tuple[str, int, int],
    *,
    row_bytes: int,
    ctr_bytes: int,
    d_bytes: tuple[int, int],
    max_memory: int,
) -> Layout:
    """Return a layout with other blocks (outer, row_block, ctr_block), as a search was begun with.

    Raises:
        ValueError: They do not fit into max_memory.
    """
    outer, row_block, ctr_block = blocks
    per_row = d_bytes[0] + (_PER_NEIGHBOUR if ctr_block < layout.n_ctrs else _PER_FOUND) * layout.kept
    taken = row_block * per_row + ctr_block * d_bytes[1] + min(_FIXED, max_memory // 16)
    if max_memory - taken < max_memory // _LEAST_SHARE:
        least = (row_block * per_row + ctr_block * d_bytes[1] + _FIXED) * _LEAST_SHARE // (_LEAST_SHARE - 1) + 1
        raise ValueError(
            f"max_memory must be {show_bytes(least)} for the blocks that this search was begun with, got "
            f"{show_bytes(max_memory)}"
        )
    workspace = min(_MOST_WORKSPACE, max_memory - taken)
    other = replace(layout, outer=outer, row_block=row_block, ctr_block=ctr_block, workspace=workspace)
    return _counted(other, row_bytes, ctr_bytes)


def _counted(layout: Layout, row_bytes: int, ctr_bytes: int) -> Layout:
    """Return a layout with the bytes that it reads; a block that is the only one is read once and kept."""
    q, c = layout.n_row_blocks, layout.n_ctr_blocks
    query_passes = c if layout.outer == "centres" and q > 1 else 1
    ctr_passes = q if layout.outer == "queries" and c > 1 else 1
    state = (c - 1) * layout.n_smps * layout.kept * _STATE if layout.outer == "centres" and q > 1 else 0
    query_bytes, read = query_passes * layout.n_smps * row_bytes, ctr_passes * layout.n_ctrs * ctr_bytes
    return replace(layout, query_bytes=query_bytes, ctr_bytes=read, state_bytes=state)


def _whole(
    n_smps: int,
    n_ctrs: int,
    k: int,
    row_bytes: int,
    ctr_bytes: int,
    d_bytes: tuple[int, int],
    max_memory: int,
    but_self: bool,
) -> Layout | None:
    """Keep all centres, if they leave enough memory: nothing is read twice, and there is nothing to merge.

    A search does more of its work once per block of queries than per query, and less of it the more workspace it
    has: a quarter of the rest for queries balances the two.
    """
    per_row = d_bytes[0] + _PER_FOUND * (k + but_self)
    rest = max_memory - n_ctrs * d_bytes[1] - min(_FIXED, max_memory // 16)
    if n_ctrs * d_bytes[1] > int(max_memory * _WHOLE) or rest // 4 < 8 * per_row:
        return None
    row_block = _even(n_smps, min(n_smps, max(rest // 4, rest - _MOST_WORKSPACE) // per_row))
    workspace = min(_MOST_WORKSPACE, rest - row_block * per_row)
    read = (n_smps * row_bytes, n_ctrs * ctr_bytes, 0)
    return Layout(n_smps, n_ctrs, k, "queries", row_block, n_ctrs, workspace, *read, but_self)


def _blocks(n_smps: int, n_ctrs: int, room: int, per_row: int, per_ctr: int, share: float) -> tuple[int, int]:
    """Give queries a share of the room, what they leave to the centres, and what those leave back to the queries."""
    rows = min(n_smps, max(1, int(room * share) // per_row))
    ctrs = min(n_ctrs, max(1, (room - rows * per_row) // per_ctr))
    if ctrs < min(n_ctrs, _FEW_CTRS):
        ctrs = min(n_ctrs, _FEW_CTRS, max(1, room // 2 // per_ctr))
    rows = min(n_smps, max(1, (room - ctrs * per_ctr) // per_row))
    return _even(n_smps, rows), _even(n_ctrs, ctrs)


def _even(n: int, block: int) -> int:
    """Return the smallest block that gives as many blocks: so that the last one is no sliver."""
    count = -(-n // block)
    return -(-n // count)
