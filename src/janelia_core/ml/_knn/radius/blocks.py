"""A block of rows: who belongs is listed, decided where float64 could not, and put in order."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from janelia_core.ml._knn.data.points import Points, as_float64
from janelia_core.ml._knn.exact_order import ExactOrder
from janelia_core.ml._knn.radius.compiled import Compiled
from janelia_core.ml._knn.radius.decision import exactly
from janelia_core.ml._knn.radius.order import by_index, nearest_first
from janelia_core.ml._knn.radius.ragged import first_of_each
from janelia_core.ml._knn.radius.sources import Pairs, Source, joined, of_members
from janelia_core.ml._knn.radius.threshold import Threshold, threshold
from janelia_core.ml._knn.rows import Rows

Listing = tuple[Tensor, Tensor]
"""Counts (r,), and indices (p,) row after row."""


class Settings(NamedTuple):
    """What is asked of all rows.

    Attributes:
        but_self: A row does not meet the centre of its own number.
        count_only: Indices are not wanted.
        nearest: Members come nearest first; else by index.
        most: Of each row's members, so many first ones are wanted; None: all.
    """

    but_self: bool = False
    count_only: bool = False
    nearest: bool = True
    most: int | None = None


@dataclass(frozen=True)
class Searcher:
    """Searches blocks of rows, in any thread.

    Attributes:
        source: Lists members.
        everyone: The source that takes any row, whatever its values.
        order: Puts members in order.
        settings: What is asked.
        most: Pairs that may be held at a time.
        finite: All rows are finite.
        compiled: Who finds members of most rows; None: nobody.
    """

    source: Source
    everyone: Source
    order: ExactOrder
    settings: Settings
    most: int
    finite: bool
    compiled: Compiled | None = None

    def search(self, rows: Rows, r: Tensor) -> Iterator[tuple[slice, Listing]]:
        """Yield members of some of the rows after the other, as many together as memory allows, with who these are.

        Args:
            rows: Stored values, and their numbers.
            r: (r,) float64 radii.
        """
        waiting = [slice(0, len(rows.values))]
        while waiting:
            part = waiting.pop()
            some, size = rows.pick(part), part.stop - part.start
            listing = self._listing(some, threshold(self.order.metric, r[part]), self.most if size > 1 else 1 << 62)
            if listing is None:
                middle = part.start + size // 2
                waiting += [slice(middle, part.stop), slice(part.start, middle)]
            else:
                yield part, listing if self.settings.most is None else first_of_each(*listing, self.settings.most)

    def _listing(self, rows: Rows, t: Threshold, most: int) -> Listing | None:
        """Return all members of rows; None: more than `most` pairs would be held."""
        if self.compiled is not None and self.finite and bool(((t.slack == 0) & torch.isfinite(t.limit)).all()):
            return self._quickly(self.compiled, rows, t, most)
        pairs = self._pairs(rows, t, most)
        return None if pairs is None else self._in_order(rows, pairs)

    def _quickly(self, compiled: Compiled, rows: Rows, t: Threshold, most: int) -> Listing | None:
        asked = self.settings
        found = compiled.members(rows, t, most, asked.but_self, None if asked.count_only else asked.nearest)
        if found is None:
            return None
        if len(found.doubtful) == 0:
            return found.counts, found.indices
        rows, t = rows.pick(found.doubtful), t.pick(found.doubtful)
        pairs = of_members(rows, found.may, t, self.order.ctrs, self.order.metric)
        decided = self._in_order(rows, self._decided(rows, t, self._others(rows, pairs)))
        return _replaced((found.counts, found.indices), found.doubtful, decided)

    def _pairs(self, rows: Rows, t: Threshold, most: int) -> Pairs | None:
        """Return all pairs that belong; None: there are more than `most`."""
        if self.finite:
            return self._found(self.source, rows, t, most)
        finite = torch.isfinite(as_float64(rows.values)).all(dim=1)
        if bool(finite.all()):
            return self._found(self.source, rows, t, most)
        found = []
        for which, source in ((finite, self.source), (~finite, self.everyone)):
            here = which.nonzero()[:, 0].to(t.r.device)
            pairs = self._found(source, rows.pick(here), t.pick(here), most) if len(here) else None
            if pairs is not None:
                found.append(pairs._replace(rows=here[pairs.rows]))
            elif len(here):
                return None
        return joined(found)

    def _found(self, source: Source, rows: Rows, t: Threshold, most: int) -> Pairs | None:
        some = source.pairs(rows, t, most)
        if some is None:
            return None
        found, held = [], 0
        for pairs in some:
            pairs = self._decided(rows, t, self._others(rows, pairs))
            found.append(pairs)
            held += len(pairs.rows)
            if held > most:
                return None
        return joined(found)

    def _others(self, rows: Rows, pairs: Pairs) -> Pairs:
        if not self.settings.but_self:
            return pairs
        return pairs.pick(pairs.indices != rows.numbers.to(pairs.rows.device)[pairs.rows])

    def _decided(self, rows: Rows, t: Threshold, pairs: Pairs) -> Pairs:
        """Return the pairs that belong."""
        open_ = pairs.open.nonzero()[:, 0]
        if len(open_) == 0:
            return pairs
        keep, ctrs, order = ~pairs.open, self.order.ctrs, self.order
        step = max(1, ctrs.chunk // 8 // max(1, ctrs.d))
        for start in range(0, len(open_), step):
            here = open_[start : start + step]
            row = pairs.rows[here]
            x, c = rows.values[row.to(rows.values.device)], ctrs.take(pairs.indices[here])
            keep[here] = exactly(x, c, t.pick(row), order.metric, order.in_float64).to(keep.device)
        return pairs.pick(keep)

    def _in_order(self, rows: Rows, pairs: Pairs) -> Listing:
        n = len(rows.values)
        if self.settings.count_only:
            return torch.bincount(pairs.rows, minlength=n), pairs.indices[:0]
        if self.settings.nearest:
            return nearest_first(pairs, rows, self.order)
        return by_index(pairs, n, len(self.order.ctrs.values))


def _replaced(listing: Listing, some: Tensor, by: Listing) -> Listing:
    """Return a listing in which some of the rows, ascending, are those of another."""
    counts, indices = listing
    if len(indices) == 0:  # they are only counted, or there are none
        return counts.index_copy(0, some, by[0]), by[1]
    parts, others = list(torch.split(indices, counts.tolist())), torch.split(by[1], by[0].tolist())
    for row, other in zip(some.tolist(), others, strict=True):
        parts[row] = other
    return counts.index_copy(0, some, by[0]), torch.cat(parts)


Put = Callable[[Tensor, Tensor, Tensor], None]
"""(row numbers (r,), counts (r,), indices (p,)): where answers go."""


def search_positions(x: Points, positions: Tensor, r: Tensor, searcher: Searcher, put: Put) -> None:
    """Search the rows at positions of x, with radii r of all rows, and put their answers by row number."""
    numbers = x.row_numbers(positions)
    for part, (counts, indices) in searcher.search(Rows(x.take(numbers), numbers), r[numbers.to(r.device)]):
        put(numbers[part], counts, indices)
