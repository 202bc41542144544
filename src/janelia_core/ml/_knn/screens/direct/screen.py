"""The direct screen: keys of all centres as they are stored, in the type that they are stored in, summed once.

Rows are so few that to prepare the centres would take longer than to look at them: each worker passes over a share of
the centres and lists the lowest keys of every row there; then the lists are joined.

Exactness
---------
Let u be 2^-24 and t = 2^-125 where centres are float32, u = 2^-53 and t = 2^-1020 where they are float64 or are made
so, and g(n) = n u / (1 - n u). Rows are held in the same type without loss. A sum of d products or squares, in any
order, fused or not, is off by at most g(d + 2) of the sum of magnitudes (two roundings of a difference that is squared,
one of the square, at most d - 1 of the sum), and by (d + 2) t for what underflows or is flushed to zero.

    distances    K = sum                          D >= (K - (d + 2) t) (1 - g(d + 2))
    dot          K = -(sum) - a |c|               -<x, c> >= K - (d + 8) t,     a >= g(d + 8) |x|
    cosine       K = -(sum) / |c|, x of norm 1    1 - cos >= 1 + K - g(d + 24) - h - (d + 8) t / m

dot: a |c| outweighs g(d) |x| |c| by 8 u |x| |c|, more than the three roundings of K itself, each at most
u (1 + 2 g) |x| |c|. cosine: in float64 the row divided by its norm is off by g(d + 8), and 1 / |c| by less, which make
h = g(2 d + 24) with u = 2^-53; both are rounded once to the type, and so is K; m is the least norm that a centre may
have beside zero, whose key is 0. No sum overflows for dot and cosine: norms of rows and of centres are within bounds,
or the screen declines (centres), or cannot tell (rows). Where a distance overflows, the true one is above the largest
number of the type, or nearly so.

A centre that is not listed has a key that was not below the limit of that time, the w-th lowest key of a share; and a
limit never rises. When lists are joined, what is left out has a key of at least the first one left out. So with T the
least of all these, D >= (T - (d + 2) t) (1 - g(d + 2)), and likewise for the others; evaluated in float64, rounded
outwards. What is not finite is never listed: the order puts it last, but where inner products are infinite; then the
screen declines.

Under a mask all this is said of the centres that a row may have, and no other is listed, so that limits are keys of
allowed centres. A list of as many as a row may have at all is the whole answer.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from janelia_core.ml._knn.contract import Candidates
from janelia_core.ml._knn.data.mask_bits import BitMask, Order
from janelia_core.ml._knn.data.mask_kernels import WORD, Bits, count
from janelia_core.ml._knn.data.points import IN_FLOAT32, Points
from janelia_core.ml._knn.metrics.metric import DISTANCE
from janelia_core.ml._knn.rows import Rows
from janelia_core.ml._knn.screens.direct.cost import SHORT
from janelia_core.ml._knn.screens.direct.kernels import Lowest, sweep_long, sweep_short
from janelia_core.ml._knn.screens.direct.rows import Held, at_least_of, hold
from janelia_core.ml._runtime.arrays import F64, I64
from janelia_core.ml._runtime.workers import Workers
from janelia_core.ml._simd.dot_tiles import TILE

_BITS: dict[Any, Any] = {np.float32: np.int32, np.float64: np.int64}
_TORCH: dict[Any, Any] = {np.float32: torch.float32, np.float64: torch.float64}
_ALL = np.empty((0, 0), WORD)


class Swept(NamedTuple):
    """What a pass over all centres found.

    Fields:
        found: Candidates of the rows.
        largest: The largest magnitude of a centre's coordinate; inf or NaN where not all are finite.
        moderate: All centres have norms for which keys are right.
    """

    found: Candidates
    largest: float
    moderate: bool


class DirectScreen:
    """Lists the lowest keys of all centres.

    Args:
        ctrs: The centres, of any type that float64 holds.
        form: `Metric.form`.
        width: How many are listed of a row.
        in_float64: Keys are float64 whatever the type of the centres.
        mask: Which centres a row may have; None: all.
    """

    def __init__(
        self, ctrs: Points, form: int, width: int, in_float64: bool = False, mask: BitMask | None = None
    ) -> None:
        self._ctrs, self._form, self._width = ctrs, form, min(width, len(ctrs))
        self._in_float64, self._mask = in_float64, mask

    def candidates(self, rows: Rows) -> Candidates:
        """Shortlist the centres for a block of rows, in this thread."""
        return self.swept(rows, Workers(1, pool=False)).found

    def swept(self, some: Rows, workers: Workers) -> Swept:
        """Look at all centres with some rows, each worker at a share of them."""
        x, allowed = some.values, self._allowed(some.numbers)
        dtype, n, form = self._dtype(x), len(self._ctrs), self._form
        rows = hold(x, form, dtype)
        n_shares = min(workers.count, n)
        shares = [(n * i // n_shares, n * (i + 1) // n_shares) for i in range(n_shares)]
        of_shares = workers.each(lambda share: self._sweep(rows, allowed, *share), shares)
        keys, listed, limit = _joined([lowest for lowest, *_ in of_shares], self._width)
        excluded = at_least_of(limit, form, x.shape[1], dtype)
        if len(allowed):
            excluded[_counts(allowed) == (listed >= 0).sum(axis=1)] = np.inf
        excluded[rows.lost] = -np.inf
        at_least = torch.from_numpy(at_least_of(keys, form, x.shape[1], dtype)) if form == DISTANCE else None
        indices = self._ctrs.row_numbers(torch.from_numpy(listed))
        return Swept(
            Candidates(indices, torch.from_numpy(excluded), at_least),
            max(largest for _, largest, _ in of_shares),
            all(moderate for *_, moderate in of_shares),
        )

    def _allowed(self, numbers: Tensor) -> Bits:
        """Return which centres rows may have."""
        if self._mask is None:
            return _ALL
        return self._mask.bits(numbers, len(numbers), self._ctrs, Order(-(-len(self._ctrs) // TILE) * TILE))

    def _dtype(self, x: Tensor) -> Any:
        """Return the type of keys: float32 where it holds rows and centres."""
        single = self._ctrs.values.dtype == torch.float32 and x.dtype in IN_FLOAT32
        return np.float32 if single and not self._in_float64 else np.float64

    def _sweep(self, held: Held, allowed: Bits, start: int, stop: int) -> tuple[Lowest, float, bool]:
        """Look at a share of the centres: in place where that is possible, else at as many as a chunk holds."""
        ctrs, dtype = self._ctrs, held.points.dtype.type
        rows, lowest = held.few(), held.lists(min(self._width, stop - start))
        values = ctrs.values
        in_place = values.is_contiguous() and ctrs.subset is None and values.dtype == _TORCH[dtype]
        sweep = sweep_short if ctrs.d <= SHORT else sweep_long  # compiled one by one, as they are wanted
        step = max(1, stop - start) if in_place else max(1, ctrs.chunk // 2 // ctrs.d)
        largest, moderate = 0.0, True
        for first in range(start, stop, step):
            last = min(first + step, stop)
            block = values if in_place else ctrs.block(first, last).to(_TORCH[dtype]).contiguous()
            some, part = block.numpy(), (first, last, 0) if in_place else (0, last - first, first)
            bits, right = sweep(self._form, rows, some, some.view(_BITS[dtype]).reshape(-1), part, allowed, lowest)
            reached = float(np.array([bits], _BITS[dtype]).view(dtype)[0])
            largest = largest if reached <= largest else reached  # NaN stays
            moderate &= right
        return lowest, largest, moderate


def _counts(allowed: Bits) -> I64:
    counts = np.empty(len(allowed), np.int64)
    count(allowed, counts)
    return counts


def _joined(lists: list[Lowest], width: int) -> tuple[F64, I64, F64]:
    """Return the lowest keys (r, w) of all shares, their centres, -1 behind the last, and the limit (r,) of others."""
    r = len(lists[0].n)
    limit = np.full(r, np.finfo(lists[0].keys.dtype).max, np.float64)
    for lowest in lists:
        unused = np.arange(lowest.keys.shape[1]) >= lowest.n[:, None]
        lowest.keys[unused], lowest.ids[unused] = np.inf, -1
        np.minimum(limit, np.where(unused[:, -1], np.inf, lowest.keys[:, 0]), out=limit)
    keys = np.concatenate([lowest.keys for lowest in lists], axis=1).astype(np.float64)
    ids = np.concatenate([lowest.ids for lowest in lists], axis=1)
    order = np.argsort(keys, axis=1)
    if keys.shape[1] > width:
        np.minimum(limit, np.take_along_axis(keys, order[:, width : width + 1], axis=1)[:, 0], out=limit)
    first = order[:, :width]
    return np.take_along_axis(keys, first, axis=1), np.take_along_axis(ids, first, axis=1), limit
