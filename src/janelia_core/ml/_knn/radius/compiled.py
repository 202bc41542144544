"""Members of a block of rows by kernels: listed by a screen, verified and put in order in one pass.

Float64 leaves few rows in doubt. Those are left to the ways of `blocks`, with whoever may belong to them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from janelia_core.ml._knn.contract import Members
from janelia_core.ml._knn.data.points import Points
from janelia_core.ml._knn.metrics.metric import Metric
from janelia_core.ml._knn.radius.threshold import Threshold
from janelia_core.ml._knn.rows import Rows
from janelia_core.ml._knn.screens.contract import Within
from janelia_core.ml._knn.verify.verify import for_kernels


class Verified(NamedTuple):
    """Members of r rows.

    Attributes:
        counts: (r,) int64.
        indices: (p,) int64 row after row; of counts alone, none.
        doubtful: (q,) rows of which only this is known:
        may: Who may belong to them.
    """

    counts: Tensor
    indices: Tensor
    doubtful: Tensor
    may: Members


def takes(x: Tensor, ctrs: Points, metric: Metric) -> bool:
    """Tell whether kernels can read these values."""
    alike = x.dtype == ctrs.values.dtype and x.dtype in (torch.float32, torch.float64)
    return alike and for_kernels(x, ctrs.values, metric)


@dataclass(frozen=True)
class Compiled:
    """Lists and verifies.

    Attributes:
        within: Who lists.
        ctrs: All centres.
        metric: What is compared.
    """

    within: Within
    ctrs: Points
    metric: Metric

    def members(self, rows: Rows, t: Threshold, most: int, but_self: bool, nearest: bool | None) -> Verified | None:
        """Return the members of rows of stored, finite values; None: more than `most` are listed.

        Args:
            rows: The rows.
            t: Their thresholds, of finite limits and without slack.
            most: Pairs that may be listed.
            but_self: A row does not meet the centre of its own number.
            nearest: Members come nearest first, else by index; None: they are only counted.
        """
        from janelia_core.ml._knn.radius.kernels import BY_INDEX, BY_VALUE, NO_ORDER, Pairs, keep_within

        listed = self.within.members(rows, t.limit, most)
        if listed is None:
            return None
        n, x, metric = len(rows.values), rows.values.contiguous(), self.metric
        order = NO_ORDER if nearest is None else BY_VALUE if nearest else BY_INDEX
        counts, flags = torch.empty(n, dtype=torch.int64), torch.empty(n, dtype=torch.uint8)
        values = torch.empty(0 if nearest is None else len(listed.indices), dtype=torch.float64)
        own = rows.numbers if but_self else rows.numbers[:0]
        arrays = (x, self.ctrs.values, listed.counts, listed.indices, t.high, t.low, own)
        total = keep_within(
            metric.form,
            (0.0, 0.0) if metric.exact else metric.bound(x.shape[1]),
            Pairs(*(part.contiguous().numpy() for part in arrays)),
            order,
            counts.numpy(),
            values.numpy(),
            flags.numpy(),
        )
        doubtful = flags.nonzero()[:, 0]
        of, indices = (listed.counts, listed.indices) if nearest is None else (counts, listed.indices[:total])
        may = Members(of[doubtful], indices[:0])
        if len(doubtful):
            may = Members(of[doubtful], indices[torch.repeat_interleave(flags != 0, of)])
        return Verified(counts, indices[:0] if nearest is None else indices, doubtful, may)
