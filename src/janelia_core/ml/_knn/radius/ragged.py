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

_PER_MEMBER = 12  # bytes of an index and a distance
_GIB = float(1 << 30)


class Ragged(NamedTuple):
    """Members of n rows.

    Attributes:
        offsets: (n + 1,) int64: row i has indices[offsets[i] : offsets[i + 1]].
        indices: (p,) int64.
    """

    offsets: Tensor
    indices: Tensor


class Collected:
    """Where answers go.

    Args:
        n: Rows in all.
        n_ctrs: Row numbers of centres are below this.
        device: Of the result.
        count_only: Indices are not wanted.

    Attributes:
        counts: (n,) int64.
    """

    def __init__(self, n: int, n_ctrs: int, device: torch.device, count_only: bool) -> None:
        self.counts = torch.zeros(n, dtype=torch.int64, device=device)
        self._blocks: list[tuple[Tensor, Tensor]] = []
        self._dtype = torch.int32 if n_ctrs < 1 << 31 else torch.int64
        self._count_only, self._rows, self._pairs = count_only, 0, 0
        self._room = None if count_only else free_memory(device)
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
            self._rows += len(positions)
            self._pairs += len(indices)
            needed = self._pairs * _PER_MEMBER
            if self._room is not None and needed > self._room:
                raise MemoryError(self._complaint(needed))

    def _complaint(self, needed: int) -> str:
        whole = needed * len(self.counts) / max(1, self._rows)
        return (
            f"the result does not fit: {self._pairs} members of the first {self._rows} of {len(self.counts)} rows take "
            f"{needed / _GIB:.3g} GiB, all of them perhaps {whole / _GIB:.3g}, and {(self._room or 0) / _GIB:.3g} GiB "
            "are free; give max_neighbors, a smaller r or fewer rows at a time, or ask radius_count first"
        )

    def finish(self) -> Ragged:
        """Return the answer; blocks are let go one by one."""
        offsets = torch.nn.functional.pad(self.counts.cumsum(0), (1, 0))
        indices = torch.empty(int(offsets[-1]), dtype=torch.int64, device=self.counts.device)
        while self._blocks:
            positions, block = self._blocks.pop()
            counts = self.counts[positions]
            starts = counts.cumsum(0) - counts
            places = torch.repeat_interleave(offsets[positions] - starts, counts, output_size=len(block))
            indices[places.add_(torch.arange(len(block), device=places.device))] = block.to(torch.int64)
        return Ragged(offsets, indices)
