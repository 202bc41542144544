"""The centres of one process, and the lists that it finds among them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from janelia_core.ml._knn.data.frame import Frame, join
from janelia_core.ml._knn.data.points import Points
from janelia_core.ml._knn.data.seen import Seen
from janelia_core.ml._knn.data.values import Reader
from janelia_core.ml._knn.find import find
from janelia_core.ml._knn.metrics.metric import Metric
from janelia_core.ml._knn.metrics.registry import metric_named
from janelia_core.ml._knn.problem import LEAST_MEMORY
from janelia_core.ml._knn.verify.verify import are_loaded, ordered
from janelia_core.ml._neighbors.radius.call import radius
from janelia_core.ml._neighbors.radius.found import RadiusNeighbors
from janelia_core.ml._runtime.kernels import may_serve
from janelia_core.ml._runtime.machine import this_machine
from janelia_core.ml._runtime.workers import Workers
from janelia_core.ml.index import CenterIndex

Mask = Callable[[Tensor, int, int], Tensor]
"""mask(rows, first, last) -> (r, last - first) bool, by row numbers of x and numbers among all centres."""

_PER_CANDIDATE = 160  # bytes: sort keys, permutations and lists
_PER_COORDINATE = 64  # bytes: temporaries of verify, in float64


@dataclass(frozen=True)
class Lists:
    """What one process found for some rows.

    Attributes:
        indices: (r, k') int64 row numbers of the shard, -1 in empty slots.
        value: (r, k') float64 order values, NaN in empty slots.
        error: (r, k') how far each can be off.
    """

    indices: Tensor
    value: Tensor
    error: Tensor


class Shard:
    """The centres of this process.

    Args:
        ctrs: (n, d) centres, or an index that keeps them.
        metric: The metric's name.
        max_memory: Bytes of workspace.
    """

    def __init__(self, ctrs: Tensor | CenterIndex, metric: str, max_memory: int) -> None:
        self._index = ctrs if isinstance(ctrs, CenterIndex) else None
        self.values = (ctrs.ctrs if isinstance(ctrs, CenterIndex) else ctrs).detach()
        self.n_searched = len(ctrs)
        self._metric, self._max_memory = metric, max_memory
        self._reader = Reader()
        self._seen = Seen(Points(self.values), self._reader)

    def find(self, x: Tensor, k: int, allowed: Mask | None) -> Tensor:
        """Return (r, min(k, n)) int64 row numbers of the nearest centres, -1 where a mask leaves fewer."""
        k = min(k, self.n_searched)
        if k == 0 or len(x) == 0:
            return torch.empty(len(x), k, dtype=torch.int64, device=x.device)
        if self._index is None:
            found = find(x, self.values, k, metric=self._metric, max_memory=self._max_memory, allowed=allowed)
            return found.T.contiguous()
        return self._index.knn(x, k, metric=self._metric, max_memory=self._max_memory, mask=allowed).indices

    def within(self, x: Tensor, r: float) -> RadiusNeighbors:
        """Return the centres within r of each row, by row numbers of the shard, in any order."""
        memory = max(LEAST_MEMORY, self._max_memory)
        if self._index is not None:
            return self._index.radius(x, r, sort_by="index", metric=self._metric, max_memory=memory)
        return radius(x, self.values, r, sort_by="index", metric=self._metric, max_memory=memory)

    def frame(self, x: Tensor) -> Frame | None:
        """Return what is seen of some rows and the centres; None: there is nothing to see."""
        if len(x) == 0 or len(self.values) == 0:
            return None
        frame = join(Seen(Points(x), self._reader), self._seen, self._reader)
        return frame.of_directions() if metric_named(self._metric).directed else frame

    def lists(self, x: Tensor, found: Tensor, metric: Metric, in_float64: bool) -> Lists:
        """Return what `find` found, in the order of its values by `metric`, which all processes share."""
        value = torch.empty(found.shape, dtype=torch.float64, device=found.device)
        out = Lists(torch.empty_like(found), value, torch.empty_like(value))
        if found.numel() == 0:
            return out
        threads = this_machine(x.device).threads
        kernels = may_serve() and are_loaded(x.dtype, self.values.dtype, metric) and in_float64
        # Points in inference mode cannot be written to by workers: as in search.
        with torch.inference_mode(False), Workers(threads if len(x) > 1 else 1) as workers:
            share = self._max_memory // 2 // workers.count
            step = max(1, share // _PER_CANDIDATE // found.shape[1])
            points = Points(self.values, chunk=max(1, min(1 << 17, share // _PER_COORDINATE)))

            def work(start: int) -> None:
                rows = slice(start, start + step)
                put = ordered(x[rows], points, found[rows], metric, kernels)
                out.indices[rows], out.value[rows], out.error[rows] = put

            workers.each(work, range(0, len(x), step))
        return out
