"""The only place that composes the stages: plan -> screen -> verify -> settle, and the ladder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from janelia_core.ml._knn.bounds import DistanceBound
from janelia_core.ml._knn.contract import Screen
from janelia_core.ml._knn.forest import Forest
from janelia_core.ml._knn.frame import Frame, survey
from janelia_core.ml._knn.plan import Plan
from janelia_core.ml._knn.points import Points, as_float64, is_wide
from janelia_core.ml._knn.report import Report, publish
from janelia_core.ml._knn.screen_portable import PortableScreen
from janelia_core.ml._knn.settle import settle
from janelia_core.ml._knn.verify import at_once, block_distances, ordered
from janelia_core.ml._knn.workers import Workers

OPEN = -1  # in the result: no list has certified this row yet

if TYPE_CHECKING:
    from janelia_core.ml._knn.screen_tree import TreeScreen


def search(x: Points, ctrs: Points, plan: Plan) -> Tensor:
    """Return the k nearest centres (k, n_smps) int64 of every row, as row numbers of ctrs.values."""
    report = Report(plan)
    # Workers could not write to what inference mode makes; it is a setting of the thread.
    with torch.inference_mode(False):
        if ctrs.d == 0:  # all distances are 0
            out = ctrs.row_numbers(torch.arange(plan.k, device=x.device))[:, None].repeat(1, len(x))
        else:
            out = _at_once(x, ctrs, plan, report) if plan.at_once else _by_blocks(x, ctrs, plan, report)
    publish(report)
    return out


def _at_once(x: Points, ctrs: Points, plan: Plan, report: Report) -> Tensor:
    """Search a small problem without blocks; only rows that rounding leaves in doubt take the ladder."""
    if is_wide(x.values) or is_wide(ctrs.values):
        return _by_blocks(x, ctrs, plan, report)
    with Workers(1, pool=False) as workers:
        block = ctrs.block(0, len(ctrs))
        indices, clear = workers.once(lambda: at_once(x.values, block, plan.k))
    out = ctrs.row_numbers(indices).T.contiguous()
    if bool(clear.all()):
        report.add(n_exhaustive=len(x))
        return out
    doubtful = (~clear).nonzero()[:, 0]
    report.add(n_exhaustive=len(x) - len(doubtful))
    out[:, doubtful] = _by_blocks(replace(x, subset=doubtful), ctrs, plan, report)
    return out


def _by_blocks(x: Points, ctrs: Points, plan: Plan, report: Report) -> Tensor:
    out = torch.empty(plan.k, len(x), dtype=torch.int64, device=x.device)
    with Workers(plan.workers, pool=plan.pooled) as workers:
        ladder = _Ladder(x, ctrs, plan, report, workers)
        block = ladder.plan.row_block

        def work(start: int) -> None:
            stop = min(start + block, len(x))
            out[:, start:stop] = ladder.search(x.block(start, stop)).T

        def work_on(rows: Tensor) -> None:
            found = out[:, rows].T if ladder.forest is not None and ladder.forest.merges else None
            out[:, rows] = ladder.search(x.take(x.row_numbers(rows)), found).T

        if ladder.forest is None:
            workers.each(work, range(0, len(x), block))
            return out
        for order in ladder.forest.orders():
            workers.each(work_on, [order[part] for part in _parts(len(order), block)])
        if ladder.forest.parts > 1:
            ladder.forest = None
            still = (out[0] == OPEN).nonzero()[:, 0]
            workers.each(work_on, [still[start : start + block] for start in range(0, len(still), block)])
    return out


class _Ladder:
    """Searches blocks of rows: screen first, then a proven radius, then every centre."""

    def __init__(self, x: Points, ctrs: Points, plan: Plan, report: Report, workers: Workers) -> None:
        self._ctrs = ctrs
        self.plan = plan
        self._report = report
        self._frame: Frame = workers.once(lambda: survey(x, ctrs))
        self._bound = DistanceBound.of(ctrs.d, self._frame.exact)
        self._portable: PortableScreen | None = None
        self._screen: Screen | None = None
        self.forest: Forest[TreeScreen] | None = None
        if plan.screen in ("dense", "tree"):
            self._use_kernels(x, workers)
        if plan.screen != "none":
            self._portable = workers.once(lambda: PortableScreen(ctrs, self._frame, self.plan))
            self._screen = self._screen or self._portable

    def _use_kernels(self, x: Points, workers: Workers) -> None:
        """Take a compiled screen, unless the values are beyond what its kernels compute with."""
        ctrs = self._ctrs if self._frame.ctrs_finite else self._ctrs.finite()
        if not self._frame.in_float64:
            self._report.screen = "portable: values are of extreme magnitude"
        elif len(ctrs) < self.plan.k:
            self._report.screen = "portable: fewer than k centres are finite"
        elif self.plan.screen == "dense":
            self._use_dense(ctrs, workers)
        elif not (self._frame.x_finite and self._frame.fits_float32):
            self._report.screen = "dense: the tree wants finite rows of moderate magnitude"
            self._use_dense(ctrs, workers)
        elif not self._use_trees(x, ctrs, workers):
            self._use_dense(ctrs, workers)

    def _use_trees(self, x: Points, ctrs: Points, workers: Workers) -> bool:
        """Take trees, unless a few rows that walk one tell that all would take longer than the dense screen."""
        from janelia_core.ml._knn.screen_tree import TreeScreen

        forest = Forest(TreeScreen, x, ctrs, self.plan.k, self.plan.look, workers)
        self._report.look = forest.told
        if forest.share <= 1.0:
            self.forest = forest
        return self.forest is not None

    def _use_dense(self, ctrs: Points, workers: Workers) -> None:
        from janelia_core.ml._knn.dense_products import product_is_sound
        from janelia_core.ml._knn.screen_dense import DenseScreen

        if not product_is_sound(self.plan.product):
            self._report.screen = "portable: the product of this machine exceeds its error bound"
            return
        if self.plan.otherwise is not None:
            self.plan = self._report.plan = self.plan.otherwise
        plan = self.plan
        self._screen = DenseScreen(
            ctrs, plan.k, plan.product, pack_bytes=plan.pack_bytes, workers=workers, panel=plan.panel
        )

    def search(self, x_rows: Tensor, found: Tensor | None = None) -> Tensor:
        """Return (r, k) positions among the centres, final unless trees are still to come.

        found (r, k) are the nearest among the centres of the trees before, OPEN in rows that no list can certify.
        """
        if self.forest is not None and self.forest.parts > 1:
            return self._merged(self.forest, x_rows, found)
        if self._frame.x_finite:
            return self._screened(x_rows)
        rows = as_float64(x_rows)
        finite, undefined = torch.isfinite(rows).all(dim=1), torch.isnan(rows).any(dim=1)
        first = self._ctrs.row_numbers(torch.arange(self.plan.k, device=rows.device))
        out = first.repeat(len(rows), 1)  # the answer for NaN rows
        _assign(out, finite, lambda i: self._screened(_rows(x_rows, i)))
        _assign(out, ~finite & ~undefined, lambda i: self._exhaust(_rows(x_rows, i)))
        return out

    def _screened(self, x_rows: Tensor) -> Tensor:
        """Search rows without infinities and NaN."""
        if self._screen is None:
            return self._exhaust(x_rows)
        if self.forest is None:
            return self._listed(self._screen, x_rows)
        if self.forest.tree.stored:
            return self._answered(self.forest, x_rows)
        return self._listed(self.forest.tree, x_rows)

    def _answered(self, forest: Forest[TreeScreen], x_rows: Tensor) -> Tensor:
        """Search by the tree's quick way, and the rows that it leaves open by lists."""
        indices, distances, certified = forest.tree.answer(x_rows)
        indices = forest.part.row_numbers(indices)
        self._report.add(n_screened=int(certified.sum()), n_candidates=int(certified.sum()) * self.plan.k)
        if bool(certified.all()):
            return self._settled(x_rows, indices, distances)[0]
        out = torch.empty(len(x_rows), self.plan.k, dtype=torch.int64, device=x_rows.device)
        _assign(out, certified, lambda i: self._settled(_rows(x_rows, i), indices[i], distances[i])[0])
        _assign(out, ~certified, lambda i: self._listed(forest.tree, _rows(x_rows, i)))
        return out

    def _merged(self, forest: Forest[TreeScreen], x_rows: Tensor, found: Tensor | None) -> Tensor:
        """Search one of several trees, and merge what it lists with the k found in those before.

        What was not found in those is farther than the k that were, so this tree's `excluded` certifies both.
        """
        candidates, excluded = forest.tree.candidates(x_rows)
        candidates = forest.part.row_numbers(candidates)
        if found is None:
            self._report.add(n_screened=len(x_rows))
        else:
            candidates = torch.cat([found, candidates], dim=1)
        self._report.add(n_candidates=int((candidates >= 0).sum()))
        lists = [
            self._merged_lists(x_rows[part], candidates[part], excluded[part])
            for part in _parts(len(x_rows), self.plan.verified_rows)
        ]
        merged = torch.cat(lists)
        return merged if found is None else merged.masked_fill_(found[:, :1] == OPEN, OPEN)

    def _merged_lists(self, x_rows: Tensor, candidates: Tensor, excluded: Tensor) -> Tensor:
        indices, distances = self._ordered(x_rows, candidates)
        certified = self._bound.upper(distances[:, self.plan.k - 1]) < excluded
        return self._settled(x_rows, indices, distances)[0].masked_fill(~certified[:, None], OPEN)

    def _listed(self, screen: Screen, x_rows: Tensor) -> Tensor:
        """Search by a screen's lists: verify, certify, settle; uncertified rows climb the ladder."""
        candidates, excluded = screen.candidates(x_rows)
        if self.forest is not None:
            candidates = self.forest.part.row_numbers(candidates)
        self._report.add(n_screened=len(x_rows), n_candidates=int((candidates >= 0).sum()))
        parts = _parts(len(x_rows), self.plan.verified_rows)
        return torch.cat([self._verified(x_rows[part], candidates[part], excluded[part]) for part in parts])

    def _verified(self, x_rows: Tensor, candidates: Tensor, excluded: Tensor) -> Tensor:
        indices, distances = self._ordered(x_rows, candidates.to(excluded.device))
        radius = self._bound.upper(distances[:, self.plan.k - 1])
        certified = radius < excluded
        if bool(certified.all()):
            return self._settled(x_rows, indices, distances)[0]
        by_radius = ~certified & torch.isfinite(radius) & (excluded > -torch.inf)
        out = torch.empty(len(x_rows), self.plan.k, dtype=torch.int64, device=indices.device)
        _assign(out, certified, lambda i: self._settled(_rows(x_rows, i), indices[i], distances[i])[0])
        _assign(out, by_radius, lambda i: self._within(_rows(x_rows, i), radius[i]))
        _assign(out, ~certified & ~by_radius, lambda i: self._exhaust(_rows(x_rows, i)))
        return out

    def _within(self, x_rows: Tensor, radius: Tensor) -> Tensor:
        """Search all centres that the screen cannot prove to be farther than radius (r,)."""
        self._report.add(n_escalated=len(x_rows))
        parts = _parts(len(x_rows), self.plan.escalated_rows)
        return torch.cat([self._within_block(x_rows[part], radius[part]) for part in parts])

    def _within_block(self, x_rows: Tensor, radius: Tensor) -> Tensor:
        assert self._portable is not None
        kept = torch.empty(len(x_rows), 0, dtype=torch.int64, device=radius.device)
        for start, stop in self._portable.blocks():
            mask = self._portable.within(x_rows, radius, start, stop).to(radius.device)
            kept = self._fold(x_rows, kept, mask, start)[0]
        return kept

    def _exhaust(self, x_rows: Tensor) -> Tensor:
        """Search all centres, in float64."""
        self._report.add(n_exhaustive=len(x_rows))
        return torch.cat([self._exhaust_block(x_rows[part]) for part in _parts(len(x_rows), self.plan.fallback_rows)])

    def _exhaust_block(self, x_rows: Tensor) -> Tensor:
        device = self._frame.shift.device
        kept = torch.empty(len(x_rows), 0, dtype=torch.int64, device=device)
        kth = torch.full((len(x_rows),), torch.nan, dtype=torch.float64, device=device)
        for start in range(0, len(self._ctrs), self.plan.fallback_ctrs):
            block = self._ctrs.block(start, start + self.plan.fallback_ctrs)
            distances = block_distances(x_rows, block, self._frame.verify_exponent)
            mask = self._may_enter(distances, kth, kept.shape[1])
            kept, kept_distances = self._fold(x_rows, kept, mask, start)
            if kept.shape[1] == self.plan.k:
                kth = kept_distances[:, -1]
        return kept

    def _may_enter(self, distances: Tensor, kth: Tensor, n_kept: int) -> Tensor:
        """Tell which centres of a block (r, b) may come among the first k, given the k-th D^ of those before it."""
        k = self.plan.k
        if n_kept == k:
            # A later centre loses ties, so of the classes finite < inf < NaN only a better one counts.
            better = torch.isfinite(distances) | (torch.isinf(distances) & torch.isnan(kth)[:, None])
            return better & ~(self._bound.lower(distances) > self._bound.upper(kth)[:, None])
        if distances.shape[1] < k:
            return torch.ones_like(distances, dtype=torch.bool)
        # NaN counts as largest in topk; where the k-th is inf or NaN nothing is excluded.
        own = distances.topk(k, dim=1, largest=False).values[:, -1]
        return ~(self._bound.lower(distances) > self._bound.upper(own)[:, None])  # True where own is NaN

    def _fold(self, x_rows: Tensor, kept: Tensor, mask: Tensor, start: int) -> tuple[Tensor, Tensor]:
        """Merge centres start + j where mask (r, b) into kept (r, t); return the first k, final, and their D^."""
        widest = int(mask.sum(dim=1).max())
        width = min(self.plan.k, kept.shape[1] + mask.shape[1])
        step = max(1, self.plan.fallback_pairs // max(1, kept.shape[1] + widest))
        merged = torch.empty(len(x_rows), width, dtype=torch.int64, device=kept.device)
        merged_distances = torch.empty(len(x_rows), width, dtype=torch.float64, device=kept.device)
        for part in _parts(len(x_rows), step):
            pairs = torch.cat([kept[part], self._ctrs.row_numbers(_listed(mask[part], start))], dim=1)
            pairs = torch.nn.functional.pad(pairs, (0, max(0, width - pairs.shape[1])), value=-1)
            indices, distances = self._ordered(x_rows[part], pairs)
            merged[part], merged_distances[part] = self._settled(x_rows[part], indices, distances, width)
        return merged, merged_distances

    def _ordered(self, x_rows: Tensor, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Return indices (r, w) sorted by (D^, index), and D^."""
        compiled = (self.forest is not None or self._screen is not self._portable) and self._frame.in_float64
        return ordered(x_rows, self._ctrs, indices, self._frame.verify_exponent, compiled)

    def _settled(
        self, x_rows: Tensor, indices: Tensor, distances: Tensor, k: int | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return the first k in the exact order, and the D^ that stand at these places."""
        k = k or self.plan.k
        settled, counts = settle(x_rows, self._ctrs, indices, distances, k, self._bound, self._frame.in_float64)
        self._report.add(settled=counts)
        return settled[:, :k], distances[:, :k]


def _parts(n: int, step: int) -> list[slice]:
    """Cut n rows into parts of at most step rows; no rows are one empty part."""
    return [slice(start, start + step) for start in range(0, max(1, n), step)]


def _rows(x_rows: Tensor, positions: Tensor) -> Tensor:
    return x_rows[positions.to(x_rows.device)]


def _assign(out: Tensor, rows: Tensor, search: Callable[[Tensor], Tensor]) -> None:
    """Set out[rows] = search(positions of rows), where there are any."""
    positions = rows.nonzero()[:, 0]
    if positions.numel():
        out[positions] = search(positions)


def _listed(mask: Tensor, start: int) -> Tensor:
    """List where mask (r, b) holds as start + column, (r, largest count) int64 padded with -1."""
    counts = mask.sum(dim=1)
    row, column = mask.nonzero(as_tuple=True)
    place = torch.arange(len(row), device=mask.device) - (counts.cumsum(0) - counts)[row]
    out = torch.full((len(mask), int(counts.max())), -1, dtype=torch.int64, device=mask.device)
    out[row, place] = column + start
    return out
