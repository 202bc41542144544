"""The tree screen: a balanced box tree over the centres, walked by packets of neighbouring rows.

Where d is small, or the data clustered, most centres are far from most rows, and a box around sixteen of
them says so at once. Rows are taken in the order of the tree's leaves, so that neighbours in memory are
neighbours in space and share a walk.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from janelia_core.ml._knn.answers import memory_of
from janelia_core.ml._knn.arithmetic.bounds import DistanceBound
from janelia_core.ml._knn.contract import Candidates
from janelia_core.ml._knn.data.single import as_float32, is_float32, is_narrow, residuals
from janelia_core.ml._knn.metrics.gaps import WAYS
from janelia_core.ml._knn.metrics.metric import DISTANCE, MANHATTAN
from janelia_core.ml._knn.rows import Rows
from janelia_core.ml._knn.screens.tree import walk as kernels
from janelia_core.ml._knn.screens.tree.answer import AskedRows, Errors, Output, answer_rows
from janelia_core.ml._knn.screens.tree.cost import Walk
from janelia_core.ml._knn.screens.tree.planted import BoxTree
from janelia_core.ml._knn.screens.tree.walk import SLACK, Reach, Wanted
from janelia_core.ml._runtime.arrays import F64, I32, I64
from janelia_core.ml._runtime.workers import Workers
from janelia_core.ml._simd.packet_keys import PACKET
from janelia_core.ml._simd.sorted_lists import BIAS, EMPTY

UNIT = 2.0**-24  # unit roundoff of float32

_EVERYWHERE: Reach = (np.float32(np.inf), np.float32(np.inf))  # a walk without limit but the last entry


class TreeScreen:
    """Shortlists by a box tree; called for blocks of rows from any number of threads.

    Args:
        tree: The tree.
        k: Neighbours wanted, which the tree serves; at most as many as it holds.
        x: (n_smps, d) the rows that will be asked for: lets lattice data be recognised.
        workers: Threads that share the look at x.
        form: `Metric.form`: squared Euclidean distances, sums of magnitudes, or the largest of these.

    Attributes:
        exact_keys: the float32 keys are the distances, and ties are broken here.
        stored: the float32 coordinates are the stored values of centres and x.

    Exactness:
        Let z = fl32(u) for rows and centres, r_x = |u_x - z_x| and r_c = max |u_c - z_c|, measured in
        float64. The key is K = sum_q fl(fl(z_x - z_c)^2), float32, added in order. Each of the d terms
        carries two roundings of the difference (it is squared), one of the square and at most d - 1 of the
        sum, d + 2 in all, so

            K <= (1 + u)^(d + 2) D_z + a,   u = 2^-24, a = (d + 2) 2^-125,

        where D_z is the exact squared distance of z_x and z_c, and a covers what underflows, flushed or not.
        A list holds the lowest keys, at most w. Its limit T is the w-th, or the k-th times 1 + 2^-10 and a bit
        (`_wanted`) if that is lower: a point that is not listed was cut when its key was not below the limit of
        that time, or lies in a box that was; and a limit never rises. A box's
        key never exceeds that of a point inside (packet_keys: the same rounded operations, each monotone), so
        in both cases K >= T, hence D_z >= (T - a) (1 - (d + 2) u), and by the triangle inequality

            D >= max(0, sqrt((T - a) (1 - (d + 2) u)) - r_x - r_c)^2,

        which is `excluded`, a few float64 roundings further out. Rows whose k-th key is not below that try
        once more with a longer list.

        Sums of magnitudes, K = sum_q fl(|z_x - z_c|), carry one rounding of a difference and at most d - 1 of the
        sum; the largest magnitude carries one, since rounding is monotone, so that the largest of the rounded is the
        rounded largest. What is flushed to zero of differences and sums is less than 2^-126 each, in all less than a.
        So with D_z and D such distances, both are within the bound of K above, and by the triangle inequality in
        their own norm

            D >= max(0, (T - a) (1 - (d + 2) u) - s r_x - s r_c),

        where s = sqrt(d) for sums, and 1 for the largest, turns Euclidean lengths into bounds of theirs.

        If all values are multiples of one power of two g, and d (range / g)^2 < 2^24, every float32 operation
        above is exact, K = D; d range / g < 2^24 is enough without squares, and range / g < 2^24 for the largest. Then
        lists are ordered by (K, position) and boxes that tie with the limit are entered if they hold a lower position,
        so that the list is the answer and excludes everything: +inf.

    Memory:
        A call on r rows takes 8 r w bytes and 4 r d beside its results, their order 8 r (13 while it is made).
    """

    def __init__(
        self,
        tree: BoxTree,
        k: int,
        x: Tensor | None = None,
        workers: Workers | None = None,
        form: int = DISTANCE,
    ) -> None:
        self.tree, self.k, self.d, self._way, self._squared = tree, k, tree.d, WAYS[form], form == DISTANCE
        self._norm = np.sqrt(tree.d) * (1.0 + 2.0**-50) if form == MANHATTAN else 1.0
        workers = workers or Workers(1, pool=False)
        self.stored, self.exact_keys = tree.stored, False
        if tree.stored and x is not None:
            rows = x  # for the function below, which would forget that there are any
            self.stored = is_narrow(x.dtype) or workers.once(lambda: is_float32(rows))
            may = self.stored and tree.lattice.may_hold(rows, form)
            self.exact_keys = may and workers.once(lambda: tree.lattice.holds(rows, form))

    def candidates(self, rows: Rows) -> Candidates:
        """Shortlist the centres for rows of x."""
        best, excluded = self._search(rows.values)
        positions = np.empty(best.shape, np.int64)
        kernels.unpack(self.tree.boxes.ids, best, self.exact_keys, positions)
        return Candidates(self.tree.ctrs.row_numbers(torch.from_numpy(positions)), torch.from_numpy(excluded))

    def answer(
        self,
        x: Tensor,
        rows: Tensor,
        out: Tensor,
        *,
        columns: Tensor | None = None,
        exact: bool = False,
        but_self: bool = False,
    ) -> Tensor:
        """Write the k nearest of rows of x that one walk proves: the quick way for the bulk of rows.

        Args:
            x: (n, d) values, all of which float32 holds, as it does those of the tree (`stored`).
            rows: (r,) int64 row numbers of x.
            out: (k, n_smps) int64 of any strides, written, nearest first.
            columns: (r,) int64, where in out; None: `rows`.
            exact: Float64 evaluates all distances without rounding.
            but_self: The k + 1 nearest are searched, and what is called as the row itself is left out (`Answers`).

        Returns:
            Places in `rows` (doubtful,) of those that near-ties or an uncertified list leave to others.
        """
        columns, numbers = rows if columns is None else columns, self.tree.ctrs.subset
        own = rows if but_self else rows[:0]
        if x.dtype != torch.float32 or not x.is_contiguous():
            x, rows = torch.from_numpy(as_float32(x[rows])[0]), torch.arange(len(rows), device="cpu")
        bound = DistanceBound.of(self.d, exact)
        doubtful = np.empty(len(rows), np.int64)
        failed = answer_rows(
            self.tree.boxes,
            x.numpy(),
            AskedRows(rows.numpy(), columns.numpy(), own.numpy()),
            self._wanted._replace(k=len(out) + but_self),
            Errors(
                relative=(1.0 - 2.0 * (self.d + 2) * UNIT) * (1.0 - 2.0**-50),
                absolute=self._absolute,
                distance=(bound.relative, bound.absolute),
                exact=exact,
                live=self.tree.live,
            ),
            Output(*memory_of(out), np.empty(0, np.int64) if numbers is None else numbers.numpy()),
            doubtful,
        )
        return torch.from_numpy(doubtful[:failed])

    def walk(self, x: Tensor, order: Tensor, n_rows: int, workers: Workers) -> Walk:
        """Tell what about n_rows of the rows of x take in this tree, asked for in this `order` of them."""
        n_packets = max(1, min(n_rows, len(order)) // PACKET)
        middles = (np.arange(n_packets) + 0.5) / n_packets  # the ends are corners
        starts = (middles * max(1, len(order) - PACKET + 1)).astype(np.int64)
        packets = (starts[:, None] + np.arange(PACKET)).clip(max=len(order) - 1)
        wanted = self._wanted

        def some(places: I64) -> I64:
            rows, work = order[torch.from_numpy(places.reshape(-1))], np.zeros(3, np.int64)
            best = np.empty((len(rows), wanted.w), np.int64)
            kernels.query(self.tree.boxes, as_float32(x[rows])[0], wanted, best, work)
            return work

        counts = workers.each(some, np.array_split(packets, min(workers.count, n_packets)))
        return Walk(*(np.sum(counts, axis=0) / packets.size).tolist())

    def _search(self, x_rows: Tensor) -> tuple[I64, F64]:
        """Return list entries (r, w) and what they exclude (r,), after a longer try where that may pay."""
        z, raw, _ = as_float32(x_rows)
        radius = self._norm * (self.tree.residual + (residuals(raw, z) if len(raw) else np.zeros(len(z))))
        wanted, w = self._wanted, self._wanted.w
        best = np.empty((len(z), w), np.int64)
        kernels.query(self.tree.boxes, z, wanted, best, np.zeros(3, np.int64))
        excluded = self._excluded(best, radius, wanted)
        doubtful = np.flatnonzero(self._upper(best, radius) >= excluded)
        longer = min(4 * w + 16, self.tree.live)
        if len(doubtful) == 0 or longer == w:
            return best, excluded
        again, wanted = (
            np.empty((len(doubtful), longer), np.int64),
            Wanted(self.k, longer, False, self._way, _EVERYWHERE),
        )
        kernels.query(self.tree.boxes, np.ascontiguousarray(z[doubtful]), wanted, again, np.zeros(3, np.int64))
        excluded[doubtful] = self._excluded(again, radius[doubtful], wanted)
        wide = np.full((len(z), longer), EMPTY, np.int64)
        wide[:, :w] = best
        wide[doubtful] = again
        return wide, excluded

    def _excluded(self, best: I64, radius: F64, wanted: Wanted) -> F64:
        """Return the lower bound of the class docstring for each list."""
        if self.exact_keys:
            return np.full(len(best), np.inf)
        complete = (wanted.w == self.tree.live) & (best[:, -1] != EMPTY)
        limits = np.empty(len(best))
        kernels.limits(best, wanted, limits)
        length = self._length(np.maximum(0.0, (limits - self._absolute) * (1.0 - 2.0 * (self.d + 2) * UNIT)))
        bound = np.maximum(0.0, length * (1.0 - 2.0**-50) - radius * (1.0 + 2.0**-50))
        bound = (bound**2 if self._squared else bound) * (1.0 - 2.0**-50)
        result: F64 = np.where(complete, np.inf, np.where(limits < np.inf, bound, -np.inf))
        return result

    def _upper(self, best: I64, radius: F64) -> F64:
        """Return an upper bound of the true D of the k-th key (if not exact)."""
        key = _keys(best[:, self.k - 1]) if best.shape[1] >= self.k else np.full(len(best), -np.inf)
        length = self._length(np.maximum(0.0, (key + self._absolute) * (1.0 + 2.0 * (self.d + 2) * UNIT))) + radius
        far = (length * length if self._squared else length) * (1.0 + 2.0**-50)
        result: F64 = np.where(key < np.inf, far, -np.inf)
        return result

    def _length(self, values: F64) -> F64:
        """Return the lengths of which these are the order values."""
        return np.sqrt(values) if self._squared else values

    @property
    def _wanted(self) -> Wanted:
        """Return what is looked for at first, a little beyond the k-th key: what is left out is proven farther."""
        if self.exact_keys:
            return Wanted(self.k, min(self.k, self.tree.live), True, self._way, _EVERYWHERE)
        off = self._norm * self.tree.residual
        off = 64.0 * off**2 if self._squared else 8.0 * off
        reach = np.float32(1.0 + 2.0**-10), np.float32(4.0 * self._absolute + off)
        # Copies that tie with the k-th are all listed, or nothing is proven: of a pile, tree.k have stayed.
        most = self.k if self.tree.live == self.tree.n_ctrs else max(self.k, self.tree.k)
        return Wanted(self.k, min(most + SLACK, self.tree.live), False, self._way, reach)

    @property
    def _absolute(self) -> float:
        """Return a bound of what underflows in a key."""
        return (self.d + 2) * 2.0**-125


def _keys(entries: I64) -> F64:
    """Return the float32 keys of list entries."""
    bits: I32 = ((entries >> 32) - BIAS).astype(np.int32)
    return bits.view(np.float32).astype(np.float64)
