"""Who lists the centres that may be within the radius of some rows: always all that are, and few others.

A source hands out found pairs, decided as far as float64 goes (`decision`); what is still open goes on with them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from janelia_core.ml._knn.contract import Members
from janelia_core.ml._knn.data.mask import Mask
from janelia_core.ml._knn.data.points import Points
from janelia_core.ml._knn.metrics.metric import Metric
from janelia_core.ml._knn.plan.plan import Blocks
from janelia_core.ml._knn.radius.compiled import Compiled
from janelia_core.ml._knn.radius.decision import decide
from janelia_core.ml._knn.radius.ragged import Ragged, run_on
from janelia_core.ml._knn.radius.threshold import Threshold
from janelia_core.ml._knn.rows import Rows
from janelia_core.ml._knn.screens.contract import Near, Within


class Pairs(NamedTuple):
    """Pairs of rows and centres that belong together, or may.

    Attributes:
        rows: (p,) int64 places in the block of rows.
        indices: (p,) int64 row numbers of centres.
        value: (p,) float64 order values.
        error: (p,) float64, theirs.
        open: (p,) bool: float64 cannot tell whether they belong.
    """

    rows: Tensor
    indices: Tensor
    value: Tensor
    error: Tensor
    open: Tensor

    def pick(self, which: Tensor) -> Pairs:
        """Return some of the pairs."""
        return Pairs(*(part[which] for part in self))


class Source(Protocol):
    """Lists pairs of a block of rows."""

    def pairs(self, rows: Rows, t: Threshold, most: int) -> Iterator[Pairs] | None:
        """Yield all pairs that belong, or may, each once; None: there are more than `most`."""
        ...


@dataclass(frozen=True)
class Everyone:
    """Verifies every pair, by torch operations, block by block of centres.

    Attributes:
        ctrs: The centres.
        metric: What is compared.
        blocks: Sizes of blocks.
        mask: Which centres a row may have; None: all.
        near: Who may know better, block by block of its own; None: nobody.
    """

    ctrs: Points
    metric: Metric
    blocks: Blocks
    mask: Mask | None = None
    near: Near | None = None

    def pairs(self, rows: Rows, t: Threshold, most: int) -> Iterator[Pairs]:
        """Yield pairs."""
        if self.near is not None and bool(torch.isfinite(t.limit).all()):
            return self._of_near(self.near, rows, t)
        return self._of_all(rows, t)

    def _of_all(self, rows: Rows, t: Threshold) -> Iterator[Pairs]:
        ours = Threshold(*(part[:, None] for part in t))
        for start in range(0, len(self.ctrs), self.blocks.fallback_ctrs):
            block = self.ctrs.block(start, start + self.blocks.fallback_ctrs)
            value, error = self.metric.block(rows.values, block, self.ctrs.chunk)
            inside, open_ = decide(value, error, ours)
            there = inside | open_
            if self.mask is not None:
                there &= self.mask.tile(rows.numbers, start, start + len(block)).to(there.device)
            row, column = there.nonzero(as_tuple=True)
            indices = self.ctrs.row_numbers(column + start)
            yield Pairs(row, indices, value[row, column], error[row, column], open_[row, column])

    def _of_near(self, near: Near, rows: Rows, t: Threshold) -> Iterator[Pairs]:
        limit = t.limit
        for start, stop in near.blocks():
            there = near.within(rows, limit, start, stop)
            if self.mask is not None:
                there = there & self.mask.tile(rows.numbers, start, stop).to(there.device)
            row, column = there.nonzero(as_tuple=True)
            row = row.to(limit.device)
            yield verified(rows, row, self.ctrs.row_numbers(column.to(limit.device) + start), t, self.ctrs, self.metric)


@dataclass(frozen=True)
class Listed:
    """Verifies what a screen lists.

    Attributes:
        within: The screen.
        ctrs: All centres.
        metric: What is compared.
        otherwise: Who lists where a limit is infinite.
        compiled: Who does all of it at once; None: nobody.
    """

    within: Within
    ctrs: Points
    metric: Metric
    otherwise: Source
    compiled: Compiled | None = None

    def pairs(self, rows: Rows, t: Threshold, most: int) -> Iterator[Pairs] | None:
        """Yield pairs, all at once."""
        limit = t.limit
        if not bool(torch.isfinite(limit).all()):
            return self.otherwise.pairs(rows, t, most)
        members = self.within.members(rows, limit, most)
        if members is None:
            return None
        return iter([of_members(rows, members, t, self.ctrs, self.metric)])


@dataclass(frozen=True)
class Grouped:
    """Verifies all pairs of rows with the centres of their own group: of many small groups, without a loop over them.

    Attributes:
        groups: (g, 5) int64 of groups.py, first rows ascending.
        ctrs: All centres.
        metric: What is compared.
    """

    groups: Tensor
    ctrs: Points
    metric: Metric

    def pairs(self, rows: Rows, t: Threshold, most: int) -> Iterator[Pairs] | None:
        """Yield pairs, all at once."""
        group = self.groups[torch.searchsorted(self.groups[:, 0].contiguous(), rows.numbers, right=True) - 1]
        counts = group[:, 3] - group[:, 2]
        total = int(counts.sum())
        if total > most:
            return None
        members = Members(counts, run_on(group[:, 2], counts, total))
        return iter([of_members(rows, members, t, self.ctrs, self.metric)])


@dataclass(frozen=True)
class Given:
    """Verifies what was found before.

    Attributes:
        found: Row numbers of centres of all rows.
        ctrs: All centres.
        metric: What is compared.
    """

    found: Ragged
    ctrs: Points
    metric: Metric

    def pairs(self, rows: Rows, t: Threshold, most: int) -> Iterator[Pairs] | None:
        """Yield pairs, all at once."""
        offsets, indices = self.found
        firsts, counts = offsets[rows.numbers], offsets[rows.numbers + 1] - offsets[rows.numbers]
        total = int(counts.sum())
        if total > most:
            return None
        members = Members(counts, indices[run_on(firsts, counts, total)])
        return iter([of_members(rows, members, t, self.ctrs, self.metric)])


def of_members(rows: Rows, members: Members, t: Threshold, ctrs: Points, metric: Metric) -> Pairs:
    """Return the pairs of what was listed that belong, or may."""
    places = torch.arange(len(members.counts), device=members.counts.device)
    row = torch.repeat_interleave(places, members.counts, output_size=len(members.indices))
    return verified(rows, row, members.indices, t, ctrs, metric)


def verified(rows: Rows, row: Tensor, indices: Tensor, t: Threshold, ctrs: Points, metric: Metric) -> Pairs:
    """Return those of some pairs (p,) that belong, or may, a chunk of coordinates at a time."""
    step = max(1, ctrs.chunk // max(1, ctrs.d))
    kept = []
    for start in range(0, max(1, len(row)), step):
        part = slice(start, start + step)
        value, error = metric.pairs(rows.values[row[part].to(rows.values.device)], ctrs.take(indices[part]))
        inside, open_ = decide(value, error, t.pick(row[part]))
        there = (inside | open_).nonzero()[:, 0]
        kept.append(Pairs(row[part][there], indices[part][there], value[there], error[there], open_[there]))
    return joined(kept)


def joined(found: list[Pairs]) -> Pairs:
    """Return all pairs together."""
    return found[0] if len(found) == 1 else Pairs(*(torch.cat(part) for part in zip(*found, strict=True)))
