"""Lists of several parts put in the exact order, for which as few centres are read as can be.

Each part's own list is in the exact order. So where neighbours whose order is open all come from one part, that part
knows it; only those of different parts are compared anew.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from janelia_core.files.formats.contract import VectorFile
from janelia_core.files.parts.lists import RANK_BITS, Lists
from janelia_core.ml._knn.contract import Ordered
from janelia_core.ml._knn.data.fetched import Fetched
from janelia_core.ml._knn.metrics.registry import metric_named
from janelia_core.ml._knn.settle.settle import contested, settle
from janelia_core.ml._knn.verify.verify import are_loaded
from janelia_core.ml._runtime.kernels import may_serve


class Settling(NamedTuple):
    """Where near-ties are settled from.

    Attributes:
        queries: The rows.
        centres: Those listed.
        k: How many places matter.
        memory: Bytes that rows and centres may take.
    """

    queries: VectorFile
    centres: VectorFile
    k: int
    memory: int

    def first(self, lists: Lists, row_numbers: Tensor) -> Tensor:
        """Return the first k (r, at most k) of sorted lists in the exact order.

        Args:
            lists: Of r rows.
            row_numbers: (r,) of these in the file of queries.
        """
        out = lists.numbers[:, : self.k].clone()
        open_ = lists.open()
        flagged = open_[:, : self.k].any(dim=1).nonzero()[:, 0]
        if flagged.numel():
            some = lists.rows(flagged)
            found = _known(some, open_[flagged])
            out[flagged] = found.indices[:, : self.k]
            kinds, kind = torch.unique(torch.stack(some.facts, dim=1), dim=0, return_inverse=True)
            for number, (exponent, _, in_float64) in enumerate(kinds.tolist()):
                rows = (kind == number).nonzero()[:, 0]
                part = found.rows(rows)
                self._settle(out, flagged[rows], part, row_numbers, (some.metric, exponent, bool(in_float64)))
        return out

    def _settle(
        self, out: Tensor, rows: Tensor, found: Ordered, row_numbers: Tensor, kind: tuple[str, int, bool]
    ) -> None:
        """Settle some rows of one kind: in turns, as many as memory has room for what they ask for."""
        name, exponent, in_float64 = kind
        metric = metric_named(name, exponent)
        row, numbers = contested(found, self.k, metric)
        if row.numel() == 0:
            return
        kernels = may_serve() and are_loaded(self.queries.dtype, self.centres.dtype, metric)
        most = max(1, self.memory // (2 * self.centres.d * self.centres.dtype.itemsize))
        ends = torch.bincount(row, minlength=len(rows)).cumsum(0)
        turn = (ends - 1).clamp(min=0) // most  # of each row; one row's members may belong to the turn before as well
        for number in torch.unique(turn[row]).tolist():
            here = torch.unique(row[turn[row] == number])
            wanted = torch.unique(numbers[turn[row] == number])
            fetched = Fetched(wanted, self.centres.take(wanted))
            x = self.queries.take(row_numbers[rows[here]])
            out[rows[here]] = settle(x, fetched, found.rows(here), self.k, metric, in_float64, kernels)[0][:, : self.k]


def _known(lists: Lists, open_: Tensor) -> Ordered:
    """Return lists in the order that is known, open where it is not: values and errors say just that.

    Places in a list are the values, 2 more from one cluster of open neighbours to the next: an error of 0.6 makes
    neighbours meet in a cluster, and no others.
    """
    source = lists.origin >> RANK_BITS
    mixed = open_ & (source[:, 1:] != source[:, :-1])
    cluster = torch.nn.functional.pad((~open_).to(torch.int64).cumsum(dim=1), (1, 0))
    is_mixed = torch.zeros(cluster.shape, dtype=torch.int64).scatter_add_(1, cluster[:, 1:], mixed.to(torch.int64))
    of_several = is_mixed.gather(1, cluster) > 0
    place = torch.arange(lists.width).expand_as(cluster)
    within = torch.where(of_several, place, lists.origin & ((1 << RANK_BITS) - 1))
    by_place = within.argsort(dim=1, stable=True)
    order = by_place.gather(1, cluster.gather(1, by_place).argsort(dim=1, stable=True))
    value = (place + 2 * cluster).to(torch.float64)
    return Ordered(lists.numbers.gather(1, order), value, torch.where(of_several, 0.6, 0.0).to(torch.float64))
