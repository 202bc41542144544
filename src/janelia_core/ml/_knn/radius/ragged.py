"""A ragged answer: counts of all rows, and indices of their members, put there block by block in any order.

Blocks are kept as they come, in 4 bytes an index where that suffices, until all are there and it is known where each
belongs: with the result, at the end, no more than the distances take that come beside it.
"""

from __future__ import annotations

import threading
from typing import NamedTuple

import torch
from torch import Tensor

from janelia_core.ml._knn.plan.budget import free_memory
from janelia_core.ml._runtime.kernels import may_serve, optional_kernels
from janelia_core.ml._runtime.loading import are_ready
from janelia_core.ml._runtime.machine import this_machine
from janelia_core.ml._runtime.workers import Workers

_PER_MEMBER = 12  # bytes of an index and a distance
_GIB = float(1 << 30)
_MANY = 1 << 16  # indices: fewer are put by torch operations


class Ragged(NamedTuple):
    """Members of n rows.

    Attributes:
        offsets: (n + 1,) int64: row i has indices[offsets[i] : offsets[i + 1]].
        indices: (p,) int64.
    """

    offsets: Tensor
    indices: Tensor


def run_on(firsts: Tensor, counts: Tensor, total: int) -> Tensor:
    """Return the numbers from each first on, as many as its count, one run after the other (total,)."""
    starts = counts.cumsum(0) - counts
    by = torch.repeat_interleave(firsts - starts, counts, output_size=total)
    return by.add_(torch.arange(total, device=by.device))


def first_of_each(counts: Tensor, indices: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """Return counts and indices of the first members of each row, so many at most."""
    fewer = counts.clamp(max=most)
    total = int(fewer.sum())
    return fewer, indices if total == len(indices) else indices[run_on(counts.cumsum(0) - counts, fewer, total)]


def ascending(found: Ragged, n_ctrs: int) -> Ragged:
    """Return the same with each row's members by index."""
    rows = torch.repeat_interleave(found.offsets.diff(), output_size=len(found.indices))
    return found._replace(indices=by_row_and_index(rows, found.indices, len(found.offsets), n_ctrs))


def by_row_and_index(rows: Tensor, indices: Tensor, n_rows: int, n_ctrs: int) -> Tensor:
    """Return the indices (p,) of pairs of the first n_rows and n_ctrs numbers, sorted by row, then by themselves."""
    if n_rows * n_ctrs < 1 << 62:
        return (rows * n_ctrs + indices).sort().values.remainder_(max(1, n_ctrs))
    order = indices.sort(stable=True).indices
    return indices[order][rows[order].sort(stable=True).indices]


def of_pairs(rows: Tensor, indices: Tensor, n: int) -> Ragged:
    """Return the members (p,) of n rows, given with the row of each, ascending."""
    counts = torch.bincount(rows, minlength=n)
    return Ragged(torch.nn.functional.pad(counts.cumsum(0), (1, 0)), indices)


def of_table(table: Tensor) -> Ragged:
    """Return the members of a table (n, k), whose empty slots hold -1."""
    there = table >= 0
    return Ragged(torch.nn.functional.pad(there.sum(dim=1).cumsum(0), (1, 0)), table[there])


def too_many(members: int, room: int, rows: str = "some of the rows") -> MemoryError:
    """Return the error that a result does not fit, of which so many members of some rows are known."""
    taken, free = (count * _PER_MEMBER / _GIB for count in (members, room))
    return MemoryError(
        f"the result does not fit: {members} neighbours of {rows} take {taken:.3g} GiB already, and {free:.3g} GiB are "
        "free; give max_neighbors, a smaller r or fewer rows at a time (radius_count tells how many there are)"
    )


class Collected:
    """Where answers go.

    Args:
        n: Rows in all.
        n_ctrs: Row numbers of centres are below this.
        device: Of the result.
        count_only: Indices are not wanted.

    Attributes:
        counts: (n,) int64.
        room: How many members may be put; None: as many as there are.
    """

    def __init__(self, n: int, n_ctrs: int, device: torch.device, count_only: bool) -> None:
        self.counts = torch.zeros(n, dtype=torch.int64, device=device)
        self._blocks: list[tuple[Tensor, Tensor]] = []
        self._dtype = torch.int32 if n_ctrs < 1 << 31 else torch.int64
        self._count_only, self._pairs = count_only, 0
        free = None if count_only else free_memory(device)
        self.room = None if free is None else free // _PER_MEMBER
        self._lock = threading.Lock()

    def put(self, positions: Tensor, counts: Tensor, indices: Tensor) -> None:
        """Put the members of some rows, row after row.

        Raises:
            MemoryError: The result would not fit into what is free.
        """
        counts = counts.to(self.counts.device)
        self.counts[positions] = counts
        if self._count_only:
            return
        block = positions, indices.to(self.counts.device, self._dtype)
        with self._lock:
            self._blocks.append(block)
            self._pairs += len(indices)
            if self.room is not None and self._pairs > self.room:
                raise too_many(self._pairs, self.room)

    def finish(self) -> Ragged:
        """Return the answer; blocks are let go one by one."""
        offsets = torch.nn.functional.pad(self.counts.cumsum(0), (1, 0))
        indices = torch.empty(int(offsets[-1]), dtype=torch.int64, device=self.counts.device)
        if len(indices) > _MANY and indices.device.type == "cpu":
            self._put_by_kernel(offsets, indices)
        while self._blocks:
            positions, block = self._blocks.pop()
            indices[run_on(offsets[positions], self.counts[positions], len(block))] = block.to(torch.int64)
        return Ragged(offsets, indices)

    @optional_kernels
    def _put_by_kernel(self, offsets: Tensor, indices: Tensor) -> None:
        """Put all blocks that kernels can."""
        if not (may_serve() and are_ready("runs", _rehearse)):
            return
        from janelia_core.ml._knn.radius.kernels import put_runs

        all_of_them = self.counts.numpy(), offsets.numpy()

        def put(i: int) -> None:
            positions, block = self._blocks[i]
            put_runs(positions.numpy(), *all_of_them, block.numpy(), indices.numpy())
            self._blocks[i] = positions[:0], block[:0]

        with Workers.if_several(this_machine(indices.device).threads) as workers:
            workers.each(put, range(len(self._blocks)))


def _rehearse() -> None:
    from janelia_core.ml._knn.radius.kernels import put_runs

    for dtype in (torch.int32, torch.int64):
        one = torch.zeros(1, dtype=torch.int64, device="cpu").numpy()
        put_runs(one, one, one, torch.zeros(1, dtype=dtype, device="cpu").numpy(), one.copy())
