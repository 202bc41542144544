"""The loop of a radius search: all blocks of centres pass by a block of queries, whose members are put in order.

Who is a member is decided pair by pair, whatever the blocks. While centres pass by, members' row numbers alone are
kept; where they are more than fit, fewer queries are taken at a time. Then the members of as many queries as fit are
read again, by ascending row number so that ties fall as before, and searched as if there were no others: each query
finds its own among them. Centres that are one block are not read again.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, MutableMapping

import torch
from torch import Tensor

from janelia_core.files.blocks import Blocks
from janelia_core.files.progress import followed
from janelia_core.files.question import Work
from janelia_core.ml._knn.metrics.mapped import both_points, searched_by
from janelia_core.ml._knn.problem import LEAST_MEMORY
from janelia_core.ml._knn.radius.blocks import Settings
from janelia_core.ml._knn.radius.find import RadiusSearch, find_within
from janelia_core.ml._knn.radius.ragged import Ragged
from janelia_core.ml._neighbors.groups import Flat
from janelia_core.ml._neighbors.radius.call import radius
from janelia_core.ml._neighbors.radius.distances import ragged_distances
from janelia_core.ml._neighbors.radius.radii import checked_radii

_PER_MEMBER = 64  # bytes of one while centres pass by
_PER_PAIR = 128  # bytes of one, beside its stored values, while it is put in order


class Within:
    """Finds all centres within a radius of query after query.

    Args:
        work: What is searched.
        r: The radius.
        progress: Called with how many pairs of a query and a centre are compared, but for those to be done again.
        digests: Gets those of the blocks that are read.
    """

    def __init__(
        self, work: Work, r: float, progress: Callable[[int], None], digests: MutableMapping[str, str]
    ) -> None:
        self._work, self._r, self._progress, self._budget = work, r, progress, work.layout.workspace // 2
        self._queries, self._centres = Blocks.of_queries(work, digests), Blocks.of_centres(work, digests)
        x, ctrs = (torch.empty(0, file.d, dtype=file.dtype) for file in (work.queries, work.centres))
        checked_radii(r, x, ctrs, work.metric)

    def blocks(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Yield how many neighbours each of the next queries has (r,), their row numbers and their distances (p,)."""
        layout, most = self._work.layout, max(1, self._budget // _PER_MEMBER)
        start, step = 0, layout.row_block
        while start < layout.n_smps:
            rows, first = min(step, layout.n_smps - start), self._work.first_query + start
            x = self._queries.read(start, start + rows)
            try:
                row, members = self._members(x, start, most if rows > 1 else None)
            except MemoryError:
                if rows == 1:
                    raise
                step = (rows + 1) // 2
                continue
            for part, row_of, found, far in self._in_order(x, row, members):
                others = found != row_of + first if layout.but_self else slice(None)
                yield (
                    torch.bincount(row_of[others] - part.start, minlength=part.stop - part.start),
                    found[others],
                    far[others],
                )
            start += rows
            if 4 * len(row) < most:
                step = min(2 * step, layout.row_block)

    def _members(self, x: Tensor, start: int, room: int | None) -> tuple[Tensor, Tensor]:
        """Return the row of each member, ascending, and its row number among all centres that are searched.

        Raises:
            MemoryError: There are more than there is room for.
        """
        work, layout, lock, begin, held = self._work, self._work.layout, threading.Lock(), 0, 0
        found: list[tuple[Tensor, Tensor]] = []
        told = followed()
        asked = RadiusSearch(searched_by(work.metric), None, self._budget, Settings(nearest=layout.n_ctr_blocks == 1))

        def put(numbers: Tensor, counts: Tensor, indices: Tensor) -> None:
            nonlocal held
            with lock:
                held += len(indices)
                if room is not None and held > room:
                    raise MemoryError
                found.append((numbers.cpu().repeat_interleave(counts.cpu()), indices.cpu() + begin))

        for c in range(layout.n_ctr_blocks):
            begin = c * layout.ctr_block
            with told.at("reading"):
                block = self._centres.block(c)
            points = both_points(work.metric, x.to(work.device), block.to(work.device))
            done, pairs = start * layout.n_ctrs + len(x) * begin, len(x) * len(block)
            with told.step(done, pairs, len(x)):
                find_within(*points, checked_radii(self._r, *points, asked.metric), put, asked)
            self._progress(done + pairs)
        row, order = torch.cat([rows for rows, _ in found]).sort(stable=True)
        return row, torch.cat([numbers for _, numbers in found])[order]

    def _in_order(self, x: Tensor, row: Tensor, members: Tensor) -> Iterator[tuple[slice, Tensor, Tensor, Tensor]]:
        """Yield some rows after the other: the row of each pair, its row number in the file, its distance."""
        work = self._work
        ends = torch.nn.functional.pad(torch.bincount(row, minlength=len(x)).cumsum(0), (1, 0))
        most = max(1, self._budget // (_PER_PAIR + 2 * work.centres.d * work.centres.dtype.itemsize))
        start = 0
        while start < len(x):  # as many rows as have that many members, or one
            stop = max(start + 1, int(torch.searchsorted(ends, ends[start] + most, right=True)) - 1)
            here, some = x[start:stop], members[ends[start] : ends[stop]]
            if work.layout.n_ctr_blocks == 1:
                listed = Ragged(ends[start : stop + 1] - ends[start], some)
                flat = Flat(here, self._centres.block(0), None, here.shape[:1], None)
                far = ragged_distances(flat, listed, work.told.metric, self._budget)
                yield slice(start, stop), row[ends[start] : ends[stop]], some + work.first_ctr, work.told.of(far)
            else:
                numbers = torch.unique(some) + work.first_ctr
                some = work.centres.take(numbers)
                found = radius(here, some, self._r, metric=work.metric, max_memory=max(LEAST_MEMORY, self._budget))
                far = found.distances
                if work.told.metric != work.metric:
                    listed = Ragged(found.offsets, found.indices)
                    far = ragged_distances(
                        Flat(here, some, None, here.shape[:1], None), listed, work.told.metric, self._budget
                    )
                yield slice(start, stop), found.rows + start, numbers[found.indices], work.told.of(far)
            start = stop
