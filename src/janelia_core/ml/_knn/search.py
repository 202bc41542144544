"""The only place that composes the stages: plan -> screen -> verify -> settle, and the ladder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from janelia_core.ml._knn.bounds import DistanceBound
from janelia_core.ml._knn.contract import Screen
from janelia_core.ml._knn.frame import Frame, survey
from janelia_core.ml._knn.plan import Plan
from janelia_core.ml._knn.points import Points, as_float64, is_wide
from janelia_core.ml._knn.report import Report, publish
from janelia_core.ml._knn.screen_portable import PortableScreen
from janelia_core.ml._knn.settle import settle
from janelia_core.ml._knn.verify import at_once, block_distances, ordered
from janelia_core.ml._knn.workers import Workers

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

        def work(start: int) -> None:
            stop = min(start + plan.row_block, len(x))
            if ladder.row_order is None:
                out[:, start:stop] = ladder.search(x.block(start, stop)).T
            else:
                rows = ladder.row_order[start:stop]
                out[:, rows] = ladder.search(x.take(x.row_numbers(rows))).T

        workers.each(work, range(0, len(x), plan.row_block))
    return out


class _Ladder:
    """Searches blocks of rows: screen first, then a proven radius, then every centre."""

    def __init__(self, x: Points, ctrs: Points, plan: Plan, report: Report, workers: Workers) -> None:
        self._ctrs = ctrs
        self._plan = plan
        self._report = report
        self._frame: Frame = workers.once(lambda: survey(x, ctrs))
        self._bound = DistanceBound.of(ctrs.d, self._frame.exact)
        self._portable: PortableScreen | None = None
        self._screen: Screen | None = None
        if plan.screen != "none":
            self._portable = workers.once(lambda: PortableScreen(ctrs, self._frame, plan))
            self._screen = self._portable
        self._tree: TreeScreen | None = None
        self.row_order: Tensor | None = None
        if plan.screen in ("dense", "tree"):
            self._use_kernels(x, workers)

    def _use_kernels(self, x: Points, workers: Workers) -> None:
        """Take a compiled screen, unless the values are beyond what its kernels compute with."""
        ctrs = self._ctrs if self._frame.ctrs_finite else self._ctrs.finite()
        if not self._frame.in_float64:
            self._report.screen = "portable: values are of extreme magnitude"
        elif len(ctrs) < self._plan.k:
            self._report.screen = "portable: fewer than k centres are finite"
        elif self._plan.screen == "tree" and self._frame.x_finite and self._frame.fits_float32:
            self._use_tree(x, ctrs, workers)
        else:
            self._use_dense(ctrs, workers)

    def _use_tree(self, x: Points, ctrs: Points, workers: Workers) -> None:
        from janelia_core.ml._knn.screen_tree import TreeScreen

        same = ctrs.values is x.values and ctrs.subset is None
        values = x.values if same else ctrs.block(0, len(ctrs))
        self._screen = self._tree = TreeScreen(values, self._plan.k, x.values, workers)
        self._listed_ctrs = ctrs
        self.row_order = self._tree.row_order

    def _use_dense(self, ctrs: Points, workers: Workers) -> None:
        from janelia_core.ml._knn.dense_products import product_is_sound
        from janelia_core.ml._knn.screen_dense import DenseScreen

        if not product_is_sound(self._plan.product):
            self._report.screen = "portable: the product of this machine exceeds its error bound"
            return
        if self._plan.screen != "dense":
            self._report.screen = "dense: the tree wants finite rows of moderate magnitude"
        plan = self._plan
        self._screen = DenseScreen(
            ctrs, plan.k, plan.product, pack_bytes=plan.pack_bytes, workers=workers, panel=plan.panel
        )

    def search(self, x_rows: Tensor) -> Tensor:
        """Return (r, k) positions among the centres, final."""
        if self._frame.x_finite:
            return self._screened(x_rows)
        rows = as_float64(x_rows)
        finite, undefined = torch.isfinite(rows).all(dim=1), torch.isnan(rows).any(dim=1)
        first = self._ctrs.row_numbers(torch.arange(self._plan.k, device=rows.device))
        out = first.repeat(len(rows), 1)  # the answer for NaN rows
        _assign(out, finite, lambda i: self._screened(_rows(x_rows, i)))
        _assign(out, ~finite & ~undefined, lambda i: self._exhaust(_rows(x_rows, i)))
        return out

    def _screened(self, x_rows: Tensor) -> Tensor:
        """Search rows without infinities and NaN."""
        if self._screen is None:
            return self._exhaust(x_rows)
        if self._tree is not None and self._tree.stored:
            return self._answered(self._tree, x_rows)
        return self._listed(self._screen, x_rows)

    def _answered(self, tree: TreeScreen, x_rows: Tensor) -> Tensor:
        """Search by the tree's quick way, and the rows that it leaves open by lists."""
        indices, distances, certified = tree.answer(x_rows)
        indices = self._listed_ctrs.row_numbers(indices)
        self._report.add(n_screened=int(certified.sum()), n_candidates=int(certified.sum()) * self._plan.k)
        if bool(certified.all()):
            return self._settled(x_rows, indices, distances)[0]
        out = torch.empty(len(x_rows), self._plan.k, dtype=torch.int64, device=x_rows.device)
        _assign(out, certified, lambda i: self._settled(_rows(x_rows, i), indices[i], distances[i])[0])
        _assign(out, ~certified, lambda i: self._listed(tree, _rows(x_rows, i)))
        return out

    def _listed(self, screen: Screen, x_rows: Tensor) -> Tensor:
        """Search by a screen's lists: verify, certify, settle; uncertified rows climb the ladder."""
        candidates, excluded = screen.candidates(x_rows)
        if screen is self._tree:
            candidates = self._listed_ctrs.row_numbers(candidates)
        self._report.add(n_screened=len(x_rows), n_candidates=int((candidates >= 0).sum()))
        parts = _parts(len(x_rows), self._plan.verified_rows)
        return torch.cat([self._verified(x_rows[part], candidates[part], excluded[part]) for part in parts])

    def _verified(self, x_rows: Tensor, candidates: Tensor, excluded: Tensor) -> Tensor:
        indices, distances = self._ordered(x_rows, candidates.to(excluded.device))
        radius = self._bound.upper(distances[:, self._plan.k - 1])
        certified = radius < excluded
        if bool(certified.all()):
            return self._settled(x_rows, indices, distances)[0]
        by_radius = ~certified & torch.isfinite(radius) & (excluded > -torch.inf)
        out = torch.empty(len(x_rows), self._plan.k, dtype=torch.int64, device=indices.device)
        _assign(out, certified, lambda i: self._settled(_rows(x_rows, i), indices[i], distances[i])[0])
        _assign(out, by_radius, lambda i: self._within(_rows(x_rows, i), radius[i]))
        _assign(out, ~certified & ~by_radius, lambda i: self._exhaust(_rows(x_rows, i)))
        return out

    def _within(self, x_rows: Tensor, radius: Tensor) -> Tensor:
        """Search all centres that the screen cannot prove to be farther than radius (r,)."""
        self._report.add(n_escalated=len(x_rows))
        parts = _parts(len(x_rows), self._plan.escalated_rows)
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
        return torch.cat([self._exhaust_block(x_rows[part]) for part in _parts(len(x_rows), self._plan.fallback_rows)])

    def _exhaust_block(self, x_rows: Tensor) -> Tensor:
        device = self._frame.shift.device
        kept = torch.empty(len(x_rows), 0, dtype=torch.int64, device=device)
        kth = torch.full((len(x_rows),), torch.nan, dtype=torch.float64, device=device)
        for start in range(0, len(self._ctrs), self._plan.fallback_ctrs):
            block = self._ctrs.block(start, start + self._plan.fallback_ctrs)
            distances = block_distances(x_rows, block, self._frame.verify_exponent)
            mask = self._may_enter(distances, kth, kept.shape[1])
            kept, kept_distances = self._fold(x_rows, kept, mask, start)
            if kept.shape[1] == self._plan.k:
                kth = kept_distances[:, -1]
        return kept

    def _may_enter(self, distances: Tensor, kth: Tensor, n_kept: int) -> Tensor:
        """Tell which centres of a block (r, b) may come among the first k, given the k-th D^ of those before it."""
        k = self._plan.k
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
        width = min(self._plan.k, kept.shape[1] + mask.shape[1])
        step = max(1, self._plan.fallback_pairs // max(1, kept.shape[1] + widest))
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
        compiled = self._screen is not self._portable and self._frame.in_float64
        return ordered(x_rows, self._ctrs, indices, self._frame.verify_exponent, compiled)

    def _settled(
        self, x_rows: Tensor, indices: Tensor, distances: Tensor, k: int | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return the first k in the exact order, and the D^ that stand at these places."""
        k = k or self._plan.k
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
