"""The lists of all parts for some rows, made one: part after part, whatever their number.

Of each part only who may still be among the first k is taken in. Where more and more may be, as there are more and
more near-ties, they are settled before all parts are in; else at the end, which takes the fewest centres.
"""

from __future__ import annotations

import torch
from torch import Tensor

from janelia_core.files.parts.lists import RANK_BITS, Lists, common, joined
from janelia_core.files.parts.settling import Settling
from janelia_core.ml._knn.rows import picked

_SETTLED = 1 << 24  # numbers lists that were settled on the way, behind those of all parts


class Gathering:
    """The lists of some rows.

    Args:
        settling: What settles near-ties.
        row_numbers: (r,) of the rows in the file of queries.
        most: Slots of a row that may wait to be settled.
    """

    def __init__(self, settling: Settling, row_numbers: Tensor, most: int) -> None:
        self._settling, self._row_numbers, self._most = settling, row_numbers, most
        self._sorted: Lists | None = None
        self._others: list[Lists] = []
        self._settled = _SETTLED

    def add(self, lists: Lists) -> None:
        """Take in who may be among the first k."""
        if self._sorted is not None:
            lists = self._nearer(self._sorted, lists)
        if lists.width == 0 and self._sorted is not None:
            return
        self._others.append(lists)
        if self._sorted is None or sum(one.width for one in self._others) > self._settling.k:
            self._sort()

    def answer(self) -> tuple[Tensor, Tensor]:
        """Return the first k (r, k) of all lists in the exact order, -1 where there are no more; and distances."""
        self._sort()
        lists, k = self._sorted, self._settling.k
        assert lists is not None
        numbers = self._settling.first(lists, self._row_numbers)
        distance = picked(lists.numbers, lists.distance, numbers).masked_fill(numbers < 0, torch.inf)
        missing = (0, k - numbers.shape[1])
        pad = torch.nn.functional.pad
        return pad(numbers, missing, value=-1), pad(distance, missing, value=torch.inf)

    def _nearer(self, lists: Lists, new: Lists) -> Lists:
        """Return what is listed anew without what k others are nearer than for certain."""
        together = common([lists.facts, new.facts])
        new = new.scaled_to(together.exponent)
        farthest = lists.farthest(self._settling.k)
        farthest = torch.where((lists.facts.exponent == together.exponent)[:, None], farthest, torch.inf)
        return new.without((new.value - new.error > farthest) & torch.isfinite(new.value))

    def _sort(self) -> None:
        k = self._settling.k
        before = [] if self._sorted is None else [self._sorted]
        lists = joined([*before, *self._others]).cut(k)
        self._others = []
        if lists.width > self._most:
            lists = self._narrowed(lists)
        self._sorted = lists

    def _narrowed(self, lists: Lists) -> Lists:
        """Return lists of which those that are too long are settled."""
        k = self._settling.k
        rows = (lists.numbers[:, self._most :] >= 0).any(dim=1).nonzero()[:, 0]
        some = lists.rows(rows)
        numbers = self._settling.first(some, self._row_numbers[rows])
        missing = (0, lists.width - numbers.shape[1])
        columns = {
            name: torch.nn.functional.pad(picked(some.numbers, getattr(some, name), numbers), missing, value=fill)
            for name, fill in (("value", torch.nan), ("error", 0.0), ("distance", torch.nan))
        }
        origin = (self._settled << RANK_BITS) + torch.arange(lists.width).expand(len(rows), -1)
        self._settled += 1
        padded = torch.nn.functional.pad(numbers, missing, value=-1)
        lists.put(rows, some.with_columns({**columns, "numbers": padded, "origin": origin}))
        return lists.cut(k)
