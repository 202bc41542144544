"""Candidates by differences: keys are float32 distances of all pairs, and the lowest are listed.

A sum of magnitudes is no matrix product, nor is the largest of them: each gap is taken, and joined to what those before
it made, in registers. Centres are brought into columns as they are stored, some at a time, for each block of rows.

Exactness
---------
Let z = fl32(u) for rows and centres, and r_x = |u_x - z_x|, r_c = max |u_c - z_c| in the metric's own norm: measured
as Euclidean lengths, which are no less than the largest magnitude, and times s = sqrt(d) no less than the sum. A key K
joins d gaps, each rounded once, with at most d - 1 roundings of the sum, or none of the largest, since rounding is
monotone. What is flushed to zero is less than 2^-126 each, in all less than a = (d + 2) 2^-125. So, with u = 2^-24 and
D_z the distance of z_x and z_c,

    K <= (1 + u)^d D_z + a.

A pair that is not listed had a key that was not below the limit of that time, or what some of its gaps made was not,
and no gap makes that less; or its entry was cut when there were w lower ones. A limit is the w-th lowest key of a time,
and never rises. So with T the w-th lowest key of all that are listed, K >= T, D_z >= (T - a) (1 - d u), and by the
triangle inequality

    D >= (T - a) (1 - 2 (d + 2) u) - s r_x - s r_c,

which is `excluded`, rounded outwards. A list that was never full holds all centres. The same, said of a listed key, is
`at_least`.

If all values are multiples of one power of two g, and d range / g < 2^24 (range / g < 2^24 for the largest), K = D.
Centres come in the order of their positions, and one whose key ties with the limit is left out: so the list, which
is ordered by key and position, is the answer and excludes everything: +inf.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from janelia_core.ml._knn.contract import Candidates
from janelia_core.ml._knn.data.points import Points
from janelia_core.ml._knn.data.single import as_float32, residuals
from janelia_core.ml._knn.metrics.gaps import WAYS
from janelia_core.ml._knn.metrics.metric import MANHATTAN
from janelia_core.ml._knn.rows import Rows
from janelia_core.ml._knn.screens.differences import cost
from janelia_core.ml._knn.screens.differences.kernels import POSITION, Lists, bring, finish, scan
from janelia_core.ml._runtime.arrays import F32, F64
from janelia_core.ml._simd.gap_tiles import ROWS, TILE

UNIT = 2.0**-24  # unit roundoff of float32


class DifferencesScreen:
    """Lists the lowest keys of all centres; thread safe.

    Args:
        ctrs: Finite centres.
        form: `Metric.form`.
        width: How many are listed of a row.
        exact: Keys are distances.
    """

    def __init__(self, ctrs: Points, form: int, width: int, exact: bool) -> None:
        self._ctrs, self._way, self._width, self._exact = ctrs, WAYS[form], min(width, len(ctrs)), exact
        self._norm = np.sqrt(ctrs.d) * (1.0 + 2.0**-50) if form == MANHATTAN else 1.0

    def candidates(self, rows: Rows) -> Candidates:
        """Shortlist the centres for a block of finite rows."""
        z, raw, _ = as_float32(rows.values)
        (r, d), w = z.shape, self._width
        padded = np.zeros((-(-r // ROWS) * ROWS, d), np.float32)
        padded[:r] = z
        limits = np.full(len(padded), -1.0, np.float32)
        limits[:r] = np.inf
        lists = Lists(np.empty((r, cost.room(w)), np.int64), np.zeros(r, np.int64), limits, w)
        step, off = cost.ctrs_at_once(d), 0.0
        columns = np.empty((step // TILE, d, TILE), np.float32)
        for first, values, lost in self._blocks():
            off = max(off, lost)
            for start in range(0, len(values), step):
                tiles = bring(values, start, min(start + step, len(values)), columns)
                scan(self._way, padded, columns, tiles, first + start, lists)
        finish(lists)
        radius = self._norm * (off + (residuals(raw, z) if len(raw) else np.zeros(r)))
        return self._proven(lists, radius)

    def _blocks(self) -> Iterator[tuple[int, F32, float]]:
        """Yield the position of the first of some centres, their float32 values, and what these have lost at most."""
        ctrs = self._ctrs
        if ctrs.subset is None and ctrs.values.dtype == torch.float32 and ctrs.values.is_contiguous():
            yield 0, ctrs.values.numpy(), 0.0
            return
        step = max(TILE, ctrs.chunk // 2 // ctrs.d // TILE * TILE)
        for first in range(0, len(ctrs), step):
            values, _, lost = as_float32(ctrs.block(first, first + step))
            yield first, values, lost

    def _proven(self, lists: Lists, radius: F64) -> Candidates:
        """Return what is listed, and what that proves; radius (r,) is what rounding to float32 has moved."""
        entries = lists.entries[:, : self._width]
        empty, positions = entries < 0, np.maximum(entries, 0) & POSITION
        keys = (np.maximum(entries, 0) >> 32).astype(np.int32).view(np.float32).astype(np.float64)
        if self._exact:
            excluded, at_least = np.full(len(entries), np.inf), keys
        else:
            d = self._ctrs.d
            low = (keys - (d + 2) * 2.0**-125) * (1.0 - 2.0 * (d + 2) * UNIT)
            at_least = np.maximum(0.0, low * (1.0 - 2.0**-50) - radius[:, None] * (1.0 + 2.0**-50)) * (1.0 - 2.0**-50)
            whole = empty[:, -1] | (self._width == len(self._ctrs))
            excluded = np.where(whole, np.inf, at_least[:, -1])
        numbers = self._ctrs.row_numbers(torch.from_numpy(positions)).masked_fill_(torch.from_numpy(empty), -1)
        return Candidates(numbers, torch.from_numpy(excluded), torch.from_numpy(at_least))
