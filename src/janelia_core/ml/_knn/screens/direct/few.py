"""A pass over all centres with a few rows as stored, without points, workers and reports around it.

What `screen` proves of keys holds: a list is closed by its own highest key, which no centre that is left out is below.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from torch import Tensor

from janelia_core.ml._knn.data.mask_kernels import WORD
from janelia_core.ml._knn.metrics.metric import DISTANCE
from janelia_core.ml._knn.screens.direct.cost import SHORT
from janelia_core.ml._knn.screens.direct.kernels import FewRows, Lowest, sweep_long, sweep_short
from janelia_core.ml._knn.screens.direct.lists import close, take_over
from janelia_core.ml._knn.screens.direct.rows import at_least_of, hold
from janelia_core.ml._runtime.arrays import F32, F64, I64
from janelia_core.ml._runtime.workers import shared

_ALL = np.empty((0, 0), WORD)


class Passed(NamedTuple):
    """What a pass found.

    Attributes:
        listed: (r, w) int64 centres with the lowest keys, in any order, -1 in empty slots.
        excluded: (r,) float64, see `Candidates`.
    """

    listed: I64
    excluded: F64


def pass_over(x: Tensor, ctrs: F32, width: int, n_shares: int) -> Passed:
    """List the `width` centres of each row whose keys are lowest, among more than `width` of them.

    Args:
        x: (r, d) float32 rows.
        ctrs: (n_ctrs, d) centres in C order.
        width: Of the lists.
        n_shares: How many threads share the centres.
    """
    n, d = ctrs.shape
    held, bits = hold(x, DISTANCE, np.float32), ctrs.view(np.int32).reshape(-1)
    some = [(held.few(), held.lists(width), (n * i // n_shares, n * (i + 1) // n_shares, 0)) for i in range(n_shares)]
    sweep = sweep_short if d <= SHORT else sweep_long

    def swept(share: tuple[FewRows, Lowest, tuple[int, int, int]]) -> None:
        rows, lowest, part = share
        sweep(DISTANCE, rows, ctrs, bits, part, _ALL, lowest)

    if n_shares == 1:
        swept(some[0])
    else:
        shared(swept, some, n_shares)
    rows, lowest, _ = some[0]
    highest = np.empty(len(lowest.n))
    for _, other, _ in some[1:]:
        take_over(other, lowest, rows.limits)
    close(lowest, highest)
    excluded = at_least_of(highest, DISTANCE, d, np.float32)
    excluded[held.lost] = -np.inf
    return Passed(lowest.ids, excluded)
