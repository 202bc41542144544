"""Many clouds by all their distances: shares of them on workers, each by one call of a kernel."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from janelia_core.ml._knn.arithmetic.bounds import TINY32, UNIT32, DistanceBound, gamma
from janelia_core.ml._knn.clouds import cost
from janelia_core.ml._knn.data.points import as_float64, is_wide
from janelia_core.ml._knn.metrics.metric import DISTANCE
from janelia_core.ml._knn.metrics.registry import metric_named
from janelia_core.ml._runtime.arrays import B8, I64
from janelia_core.ml._runtime.kernels import optional_kernels
from janelia_core.ml._runtime.machine import flushes_subnormals, this_machine
from janelia_core.ml._runtime.workers import Workers

_KERNELS = "janelia_core.ml._knn.clouds.kernels"
_PATIENCE = 1 << 12  # groups one by one, which take some 0.4 s, after which kernels are loaded
_WANTS_KERNELS = 1 << 21  # work from which a single call does
_NARROW, _MANY = 16, 256  # coordinates or centres from which float32 distances save more than their near-ties cost
_TINY = 1 << 11  # numbers: torch shares out no operation on so few

_seen = 0


@dataclass(frozen=True)
class Clouds:
    """A search among many clouds.

    Attributes:
        x: (n, d).
        ctrs: (m, d), on the same device.
        k: How many are wanted, at least 1.
        metric: One of METRICS.
        but_self: Row i of a cloud does not meet its centre i.
        budget: Bytes of workspace.
        out: (n, k) int64, contiguous.
    """

    x: Tensor
    ctrs: Tensor
    k: int
    metric: str
    but_self: bool
    budget: int
    out: Tensor

    @property
    def copied(self) -> bool:
        """Whether kernels read copies, in float64 where both are not float32."""
        same = self.x.dtype == self.ctrs.dtype and self.x.dtype in (torch.float32, torch.float64)
        return not (same and all(t.is_contiguous() and not t.is_neg() for t in (self.x, self.ctrs)))

    @property
    def single(self) -> bool:
        """Whether all values are float32."""
        return self.x.dtype == self.ctrs.dtype == torch.float32

    @property
    def searchable(self) -> bool:
        """Whether kernels can search clouds of such values by such a metric."""
        known = metric_named(self.metric).form == DISTANCE and self.x.shape[1] > 0
        held = not (is_wide(self.x) or is_wide(self.ctrs))
        return known and held and this_machine(self.x.device).kernels and not flushes_subnormals()

    def part(self, groups: I64) -> Clouds:
        """Return the search of some groups, which count rows and centres from the first of these then."""
        (row, ctr), (last_row, last_ctr) = cost.span(groups)
        x, ctrs = self.x[row:last_row], self.ctrs[ctr:last_ctr]
        groups[:, :4] -= (row, row, ctr, ctr)
        if self.copied:
            x, ctrs = ((t if self.single else as_float64(t)).resolve_neg().contiguous() for t in (x, ctrs))
        return replace(self, x=x, ctrs=ctrs, out=self.out[row:last_row])


@optional_kernels
def search_at_once(clouds: Clouds, groups: Tensor) -> tuple[Tensor, int]:
    """Search those groups (n_groups, 5), see `_neighbors.groups`, that are small enough.

    Returns:
        The groups that are left, of which rows may have been written, and how many rows are answered.
    """
    if not clouds.searchable:
        return groups, 0
    table = groups.numpy()
    threads, d, k = this_machine(clouds.x.device).threads, clouds.x.shape[1], clouds.k
    works = cost.work(table, d, k)
    chosen = cost.suited(table, d, k, clouds.budget, clouds.single, clouds.copied)
    workers = cost.crew(int(works[chosen].sum()), threads, clouds.budget)
    if workers > 1:
        chosen &= cost.even(works, workers)
    total = int(works[chosen].sum())
    if not _want_kernels(total, len(table)):
        return groups, 0
    n_bytes = 8 * d * int((table[chosen, 1] - table[chosen, 0] + table[chosen, 3] - table[chosen, 2]).sum())
    least = -(-n_bytes * 4 * workers // clouds.budget) if clouds.copied else 1
    asked = np.concatenate([table[chosen], np.zeros((int(chosen.sum()), 1), np.int64)], axis=1)
    slices = cost.shares(works[chosen], workers, least)
    if clouds.copied:
        slices = cost.close(asked, slices, clouds.budget // (4 * workers) // (8 * d))
    parts = [asked[part] for part in slices]
    with Workers.if_several(workers, tiny=total < _TINY) as team:
        done = np.concatenate(team.each(lambda part: _search_share(clouds, part), parts))
    left = ~chosen
    left[chosen] = ~done
    answered = asked[done]
    return groups[torch.from_numpy(left)], int((answered[:, 1] - answered[:, 0]).sum())


def _want_kernels(total: int, n_groups: int) -> bool:
    """Tell whether to load kernels: they are there, or earn it in this call, or with all earlier ones together."""
    global _seen
    if total == 0:
        return False
    _seen += n_groups
    return _KERNELS in sys.modules or total > _WANTS_KERNELS or _seen > _PATIENCE


def _search_share(clouds: Clouds, groups: I64) -> B8:
    """Search some groups in this thread; return which are answered."""
    from janelia_core.ml._knn.clouds.kernels import search_clouds

    part = clouds.part(groups)
    d, longest = part.x.shape[1], int((groups[:, 3] - groups[:, 2]).max())
    narrow = clouds.single and (d >= _NARROW or longest >= _MANY)
    kind, lists = np.float32 if narrow else np.float64, np.empty(cost.list_numbers(clouds.k, longest))
    room, far = (np.empty(size, kind) for size in (cost.numbers(d, longest), cost.distances(longest)))
    task = (part.x.numpy(), part.ctrs.numpy(), groups, clouds.but_self, *bound_of(d, clouds.single, narrow))
    if search_clouds(*task, part.out.numpy(), room, far, lists):
        from janelia_core.ml._knn.clouds.near_ties import settle_clouds

        settle_clouds(*task, part.out.numpy(), room, lists)
    done: B8 = groups[:, 5] == 0
    return done


def bound_of(d: int, single: bool, narrow: bool) -> tuple[float, float]:
    """Return the relative and the absolute error of D^ of float32 values or others, by float32 distances or float64."""
    if narrow:
        return 2.0 * gamma(d + 2, UNIT32) + 8 * UNIT32, 4.0 * (d + 1) * TINY32
    bound = DistanceBound.of(d, exact=False)
    return bound.relative, 0.0 if single else 2.0 * bound.absolute
