"""Kept centres in parts, some of which are gone: what an index that grows and shrinks is searched by.

Each part answers with the k nearest that it has left; the k nearest of all are among them, and verified again together.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from janelia_core.ml._knn.answers import Answers
from janelia_core.ml._knn.contract import Candidates
from janelia_core.ml._knn.data.frame import exponent_of_squares
from janelia_core.ml._knn.data.mask import Allowed
from janelia_core.ml._knn.data.points import Points, is_wide
from janelia_core.ml._knn.data.seen import Seen
from janelia_core.ml._knn.data.values import Reader
from janelia_core.ml._knn.find import find
from janelia_core.ml._knn.kept import Kept
from janelia_core.ml._knn.metrics.mapped import searched_by
from janelia_core.ml._knn.metrics.registry import metric_named
from janelia_core.ml._knn.problem import DEFAULT_MEMORY
from janelia_core.ml._knn.rows import Rows, parts
from janelia_core.ml._knn.settle.settle import settle
from janelia_core.ml._knn.verify.verify import are_loaded, at_sight, ordered
from janelia_core.ml._runtime.kernels import optional_kernels
from janelia_core.ml._runtime.lazily import lazily
from janelia_core.ml._runtime.machine import flushes_subnormals, this_machine
from janelia_core.ml._runtime.workers import Workers

SPARE = 8  # more than k are asked for where some are gone, and a quarter of k
_PER_CHUNKED = 512  # bytes of a coordinate while that is done
_WIDEST = 2.0**53  # up to which float64 holds 64-bit integers
_SHARED = 1 << 13  # answers from which threads are worth their start
_PER_CANDIDATE = 512  # bytes of a pair while answers of several parts are put in order


@dataclass(frozen=True)
class Part:
    """Consecutive centres.

    Attributes:
        first: The number of the first of them.
        kept: Them, with what is kept; or, with a subset, those that were left when it was made.
        gone: (size,) bool, who of them is gone, those not in the subset included; None: nobody but these.
    """

    first: int
    kept: Kept
    gone: Tensor | None = None

    @property
    def stop(self) -> int:
        """One more than the number of the last of them."""
        return self.first + self.kept.centres.points.values.shape[0]

    @property
    def missing(self) -> Tensor:
        """Who is gone (size,) bool, whenever that was."""
        if self.gone is not None:
            return self.gone
        points = self.kept.centres.points
        missing = torch.zeros(len(points.values), dtype=torch.bool, device=points.device)
        if points.subset is not None:
            missing[:] = True
            missing[points.subset] = False
        return missing

    @property
    def left(self) -> Tensor:
        """The numbers of those that are left."""
        return self.first + (~self.missing).nonzero()[:, 0]

    def __len__(self) -> int:
        return self._size

    @lazily
    def _size(self) -> int:
        return len(self.kept.centres) if self.gone is None else len(self.left)

    def nearest(self, x: Tensor, k: int, metric: str, m: int | None, max_memory: int) -> Tensor:
        """Return the numbers (n, k) of the k nearest that are left of each row, or of all that are."""
        k, spare = min(k, len(self)), 0 if self.gone is None else SPARE + k // 4
        if k == 0:
            return torch.empty(len(x), 0, dtype=torch.int64, device=x.device)
        found = self._nearest(x, k, spare, metric, m, max_memory)
        return found.add_(self.first)

    def _nearest(self, x: Tensor, k: int, spare: int, metric: str, m: int | None, max_memory: int) -> Tensor:
        wanted = min(k + spare, len(self.kept.centres))
        values = self.kept.centres.points.values
        found = find(x, values, wanted, m=m, max_memory=max_memory, metric=metric, kept=self.kept).T
        if self.gone is None:
            return found.contiguous()
        touched = self.gone[found[:, :k]].any(dim=1).nonzero()[:, 0]
        nearest = found[:, :k].contiguous()
        if len(touched):
            listed = found[touched]
            there = ~self.gone[listed]
            order = there.logical_not().to(torch.int8).sort(dim=1, stable=True).indices[:, :k]
            short = touched[there.sum(dim=1) < k]
            nearest[touched] = listed.gather(1, order)
            if len(short):
                nearest[short] = self._nearest(x[short], k, 2 * spare + k, metric, m, max_memory)
        return nearest


class Among:
    """All parts of one matrix of centres.

    Args:
        values: (n, d) the centres, those that are gone included.
        parts: Consecutive parts of them, from the first centre to the last.
        store: Where more rows may go, for whoever adds them.
    """

    def __init__(self, values: Tensor, parts: tuple[Part, ...], store: object = None) -> None:
        self.values, self.parts, self.store = values, parts, store
        self._left: Tensor | None = None

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    @property
    def left(self) -> Tensor | None:
        """The numbers of those that are left, ascending; None: all."""
        if len(self) == len(self.values):
            return None
        if self._left is None:
            self._left = torch.cat([part.left for part in self.parts])
        return self._left

    def of_points(self, metric: str) -> Among:
        """Return the points that a metric maps the centres to; these themselves, if it maps none."""
        if searched_by(metric) == metric:
            return self
        with torch.inference_mode(False):  # what it makes, workers could not write to
            parts = tuple(replace(part, kept=part.kept.of_points(metric)) for part in self.parts)
            points = [part.kept.centres.points.values for part in parts]
            found = Among(points[0] if len(points) == 1 else torch.cat(points), parts)
        found._left = self.left
        return found

    def of(self, subset: Tensor) -> Tensor:
        """Return what is left of a subset, which is ascending too."""
        return subset if self.left is None else subset[torch.isin(subset, self.left, assume_unique=True)]

    def find(
        self,
        x: Tensor,
        k: int,
        *,
        metric: str,
        out: Tensor,
        m: int | None = None,
        max_memory: int = DEFAULT_MEMORY,
        subset: Tensor | None = None,
        allowed: Allowed | None = None,
        but_self: bool = False,
    ) -> Tensor:
        """Search as `find` does, among a subset of those that are left, or all of them."""
        whole = len(self.parts) == 1 and self.left is None
        if subset is None and not whole and (allowed is not None or flushes_subnormals()):
            subset = self.left
        elif subset is None and not whole:
            self._find_in_parts(x, k, metric, m, max_memory, Answers(out, but_self))
            return out
        kept = self.parts[0].kept if whole and subset is None else None
        return find(
            x,
            self.values,
            k,
            m=m,
            max_memory=max_memory,
            subset=subset,
            metric=metric,
            allowed=allowed,
            out=out,
            but_self=but_self,
            kept=kept,
        )

    @optional_kernels
    def _find_in_parts(self, x: Tensor, k: int, metric: str, m: int | None, max_memory: int, answers: Answers) -> None:
        x = x.detach().resolve_neg()
        step = max(1, max_memory // 2 // _PER_CANDIDATE // (k * len(self.parts)))
        for some in parts(len(x), step):
            rows = Rows(x[some], torch.arange(some.start, min(some.stop, len(x)), device=x.device))
            lists = [part.nearest(rows.values, k, metric, m, max_memory) for part in self.parts]
            found = lists[0] if len(lists) == 1 else self._merged(rows, lists, k, metric, max_memory)
            answers.put(some, found, rows.numbers)

    def _merged(self, rows: Rows, lists: list[Tensor], k: int, metric: str, max_memory: int) -> Tensor:
        """Return the first k of what the parts answered, the rows shared out to workers."""
        found = torch.cat(lists, dim=1)
        count = min(this_machine(found.device).threads, max(1, found.numel() // _SHARED))
        cuts = parts(len(found), -(-len(found) // count))
        with Workers.if_several(count, device=found.device) as workers:
            share = max_memory // count
            shares = workers.each(lambda cut: self._first(rows.pick(cut), found[cut], k, metric, share), cuts)
        return torch.cat(shares)

    def _first(self, rows: Rows, found: Tensor, k: int, metric: str, max_memory: int) -> Tensor:
        """Return the first k of what all parts answered."""
        by, x, chunk = metric_named(metric), rows.values, max(1, max_memory // _PER_CHUNKED)
        reach = Seen(Points(x, chunk=chunk), Reader()).largest
        for part in self.parts:
            reach = max(reach, part.kept.centres.by(chunk).seen(Reader()).largest)
        exponent = 0 if by.directed else exponent_of_squares(reach)
        held = reach < _WIDEST or not (is_wide(x) or is_wide(self.values))
        by, in_float64 = metric_named(metric, exponent), held and exponent == 0
        ctrs = Points(self.values.detach().resolve_neg(), chunk=chunk)
        kernels = this_machine(x.device).kernels and are_loaded(x.dtype, ctrs.values.dtype, by)
        compiled = kernels and in_float64

        def settled(x: Tensor, found: Tensor) -> Tensor:
            return settle(x, ctrs, ordered(x, ctrs, found, by, compiled), k, by, in_float64, kernels)[0][:, :k]

        if not compiled:
            return settled(x, found)
        everything = Candidates(found, torch.full((len(found),), torch.inf, dtype=torch.float64, device="cpu"))
        first, doubtful = at_sight(x, ctrs, everything, by, k)
        if len(doubtful):
            first[doubtful] = settled(x[doubtful], found[doubtful])
        return first
