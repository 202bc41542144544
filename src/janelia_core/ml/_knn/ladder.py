"""The ladder that a block of rows climbs: screen, then a proven radius, then every centre; it composes the stages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from janelia_core.ml._knn.answers import Answers
from janelia_core.ml._knn.contract import Candidates, Screen
from janelia_core.ml._knn.data.copies import without_spare_copies
from janelia_core.ml._knn.data.frame import Frame, levelled, survey
from janelia_core.ml._knn.data.mask import Mask
from janelia_core.ml._knn.data.points import Points, as_float64, has_infinities, is_wide
from janelia_core.ml._knn.data.values import Reader
from janelia_core.ml._knn.exact_order import ExactOrder
from janelia_core.ml._knn.exhaustive import Exhaustive
from janelia_core.ml._knn.metrics.metric import DISTANCE
from janelia_core.ml._knn.metrics.registry import metric_named
from janelia_core.ml._knn.plan.plan import Plan
from janelia_core.ml._knn.report import Report
from janelia_core.ml._knn.rows import Rows, assign, parts
from janelia_core.ml._knn.screens.dense.rungs import PROBE, Rungs
from janelia_core.ml._knn.screens.portable.screen import PortableScreen
from janelia_core.ml._knn.screens.tree.forest import Forest
from janelia_core.ml._knn.verify.verify import at_sight
from janelia_core.ml._runtime.workers import Workers

OPEN = -1  # in the result: no list has certified this row yet

if TYPE_CHECKING:
    from janelia_core.ml._knn.screens.tree.screen import TreeScreen


class Ladder:
    """Searches blocks of rows: screen first, then a proven radius, then every centre."""

    def __init__(
        self, x: Points, ctrs: Points, plan: Plan, report: Report, workers: Workers, mask: Mask | None
    ) -> None:
        self._ctrs = ctrs
        self.plan = plan
        self._report = report
        self._mask = mask
        reader = Reader(workers, plan.kernels)
        if plan.screen in ("portable", "none") and mask is None:
            ctrs = self._ctrs = self._without_copies(ctrs, workers)
        metric = metric_named(plan.metric)
        level = metric.levelled and x.values.is_floating_point()
        self._frame: Frame = survey(x, ctrs, metric.form == DISTANCE, reader, level)
        if metric.directed:
            self._frame = self._frame.of_directions()
        self._metric = metric_named(plan.metric, self._frame.verify_exponent, self._frame.exact)
        self._portable: PortableScreen | None = None
        self._rungs: Rungs[Screen] | None = None
        self.forest: Forest[TreeScreen] | None = None
        if metric.signed and not self._frame.ctrs_finite and workers.once(lambda: has_infinities(ctrs)):
            self._report.screen = "none: inner products with infinite centres may be of any sign"
        elif plan.screen != "none":
            self._use_screens(x, workers)
        self._order = ExactOrder(
            ctrs=ctrs,
            metric=self._metric,
            k=plan.k,
            in_float64=self._frame.in_float64,
            compiled=self._compiled(),
            kernels=plan.kernels,
            report=report,
        )
        self._exhaustive = Exhaustive(self._order, self.plan, mask)

    def _without_copies(self, ctrs: Points, workers: Workers) -> Points:
        """Leave out copies that cannot be answered; a tree does so itself."""
        if ctrs.device.type != "cpu" or is_wide(ctrs.values):
            return ctrs
        return workers.once(lambda: without_spare_copies(ctrs, self.plan.k, self.plan.workspace_bytes // 2))

    def _use_screens(self, x: Points, workers: Workers) -> None:
        if self.plan.screen in ("dense", "tree"):
            self._use_kernels(x, workers)
        self._portable = workers.once(lambda: PortableScreen(self._ctrs, self._frame, self.plan))

    def _use_kernels(self, x: Points, workers: Workers) -> None:
        """Take a compiled screen, unless the values are beyond what its kernels compute with."""
        ctrs = self._ctrs if self._frame.ctrs_finite else self._ctrs.finite()
        if self._mask is not None:
            self._report.screen = "portable: the compiled screens take no masks"
        elif not self._frame.in_float64:
            self._report.screen = "portable: values are of extreme magnitude"
        elif len(ctrs) < self.plan.k:
            self._report.screen = "portable: fewer than k centres are finite"
        elif self.plan.screen == "dense":
            self._use_dense(ctrs, workers)
        elif not (self._metric.form == DISTANCE and self._frame.x_finite and self._frame.fits_float32):
            self._report.screen = "dense: the tree wants Euclidean distances, finite rows and moderate magnitudes"
            self._use_dense(ctrs, workers)
        elif self.plan.look is not None and len(ctrs) < self.plan.look.trees.parts * self.plan.k:
            self._report.screen = "dense: fewer than k centres of a tree are finite"
            self._use_dense(ctrs, workers)
        elif not self._use_trees(x, ctrs, workers):
            self._use_dense(ctrs, workers)

    def _use_trees(self, x: Points, ctrs: Points, workers: Workers) -> bool:
        """Take trees, unless a few rows that walk one tell that all would take longer than the dense screen."""
        from janelia_core.ml._knn.screens.tree.screen import TreeScreen

        forest = Forest(TreeScreen, x, ctrs, self.plan.k, self.plan.look, workers)
        self._report.look = forest.told
        if forest.share <= 1.0:
            self.forest = forest
        return self.forest is not None

    def _use_dense(self, ctrs: Points, workers: Workers) -> None:
        from janelia_core.ml._knn.screens.dense.formats import FORMATS
        from janelia_core.ml._knn.screens.dense.screen import DenseScreen

        if self.plan.otherwise is not None:
            self.plan = self._report.plan = self.plan.otherwise
        plan = self.plan
        ctrs = self._without_copies(ctrs, workers)

        def make(name: str, before: Sequence[Screen]) -> DenseScreen:
            taken = sum(screen.bytes for screen in before if isinstance(screen, DenseScreen))
            # The first is made before rows are searched, others by the worker whose rows want them.
            packers = Workers(1, pool=False) if before else workers
            return DenseScreen(
                ctrs,
                plan.k,
                FORMATS[name],
                pack_bytes=plan.pack_bytes - taken,
                workers=packers,
                metric=plan.metric,
                panel=plan.panel,
            )

        self._rungs = Rungs(make, plan.formats)

    def search(self, rows: Rows, found: Tensor | None = None) -> Tensor:
        """Return (r, k) row numbers of centres, final unless trees are still to come.

        found (r, k) are the nearest among the centres of the trees before, OPEN in rows that no list can certify.
        """
        if self.forest is not None and self.forest.parts > 1:
            return self._merged(self.forest, rows, found)
        if self._frame.level is None:
            return self._classed(rows)
        values, near = levelled(rows.values, self._frame.level)
        rows = Rows(values, rows.numbers)
        if bool(near.all()):
            return self._classed(rows)
        out = torch.empty(len(values), self.plan.k, dtype=torch.int64, device=near.device)
        assign(out, near, lambda i: self._classed(rows.pick(i)))
        assign(out, ~near, lambda i: self._exhaust(rows.pick(i)))
        return out

    def _classed(self, rows: Rows) -> Tensor:
        """Search rows of which some may not be finite."""
        if self._frame.x_finite:
            return self._screened(rows)
        values = as_float64(rows.values)
        finite, undefined = torch.isfinite(values).all(dim=1), torch.isnan(values).any(dim=1)
        first = self._ctrs.row_numbers(torch.arange(self.plan.k, device=values.device))
        out = first.repeat(len(values), 1)  # the answer for NaN rows, if nothing is masked
        assign(out, finite, lambda i: self._screened(rows.pick(i)))
        exhausted = ~finite if self._mask is not None else ~finite & ~undefined
        assign(out, exhausted, lambda i: self._exhaust(rows.pick(i)))
        return out

    def _screened(self, rows: Rows) -> Tensor:
        """Search rows without infinities and NaN."""
        if self._rungs is not None:
            return self._climbed(self._rungs, 0, rows)
        screen = self._portable if self.forest is None else self.forest.tree
        return self._exhaust(rows) if screen is None else self._listed(screen, rows)

    def _climbed(self, rungs: Rungs[Screen], rung: int, rows: Rows) -> Tensor:
        """Search by the dense screen in one format; rows that it cannot certify are searched in the next."""
        rung, n = max(rung, rungs.start), len(rows.values)
        if rung == len(rungs) - 1:
            return self._listed(rungs[rung], rows)
        if rungs.is_new(rung) and n > 2 * PROBE:
            return torch.cat([self._climbed(rungs, rung, rows.pick(slice(*ends))) for ends in ((0, PROBE), (PROBE, n))])

        def above(rest: Rows) -> Tensor:
            rungs.note(rung, 0, len(rest.values))
            self._report.add(n_screened=-len(rest.values), n_climbed=len(rest.values))
            return self._climbed(rungs, rung + 1, rest)

        rungs.note(rung, n, 0)
        return self._listed(rungs[rung], rows, above)

    def answered(self, x: Points, positions: Tensor, answers: Answers) -> Tensor:
        """Answer rows that a single tree proves at once; return the positions of the others."""
        forest = self.forest
        if forest is None or forest.parts > 1 or not forest.tree.stored:
            return positions
        numbers, rows = forest.part.subset, x.row_numbers(positions)
        exact = self._frame.exact
        out, but_self = answers.out, answers.but_self
        doubtful = forest.tree.answer(
            x.values, rows, out, columns=positions, numbers=numbers, exact=exact, but_self=but_self
        )
        clear = len(positions) - len(doubtful)
        self._report.add(n_screened=clear, n_candidates=clear * self.plan.k)
        return positions[doubtful]

    def _merged(self, forest: Forest[TreeScreen], rows: Rows, found: Tensor | None) -> Tensor:
        """Search one of several trees, and merge what it lists with the k found in those before.

        What was not found in those is farther than the k that were, so this tree's `excluded` certifies both.
        """
        candidates, excluded, _ = forest.tree.candidates(rows.values)
        candidates = forest.part.row_numbers(candidates)
        if found is not None:
            candidates = torch.cat([found, candidates], dim=1)
        # Rows count tree by tree, so that whoever follows the report sees how far the search is.
        so_far = [len(candidates) * number // forest.parts for number in (forest.number, forest.number + 1)]
        self._report.add(n_screened=so_far[1] - so_far[0], n_candidates=int((candidates >= 0).sum()))
        cuts = parts(len(candidates), self.plan.verified_rows)
        merged = torch.cat([self._merged_lists(rows.pick(part), candidates[part], excluded[part]) for part in cuts])
        return merged if found is None else merged.masked_fill_(found[:, :1] == OPEN, OPEN)

    def _merged_lists(self, rows: Rows, candidates: Tensor, excluded: Tensor) -> Tensor:
        found = self._order.ordered(rows, candidates)
        certified = self._order.radius(found) < excluded
        return self._order.settled(rows, found).masked_fill(~certified[:, None], OPEN)

    def _listed(self, screen: Screen, rows: Rows, above: Callable[[Rows], Tensor] | None = None) -> Tensor:
        """Search by a screen's lists: verify, certify, settle; uncertified rows climb the ladder, or go to `above`."""
        candidates = self._candidates(screen, rows)
        if self.forest is not None:
            candidates = candidates._replace(indices=self.forest.part.row_numbers(candidates.indices))
        n = len(candidates.indices)
        self._report.add(n_screened=n, n_candidates=int((candidates.indices >= 0).sum()))
        if not self._compiled():
            return self._verified_in_parts(rows, candidates, above)
        out, doubtful = at_sight(rows.values, self._ctrs, candidates, self._metric, self.plan.k)
        if len(doubtful) == n:
            return self._verified_in_parts(rows, candidates, above)
        if len(doubtful):
            out[doubtful] = self._verified_in_parts(rows.pick(doubtful), candidates.rows(doubtful), above)
        return out

    def _verified_in_parts(
        self, rows: Rows, candidates: Candidates, above: Callable[[Rows], Tensor] | None = None
    ) -> Tensor:
        cuts = parts(len(candidates.indices), self.plan.verified_rows)
        return torch.cat([self._verified(rows.pick(part), candidates.rows(part), above) for part in cuts])

    def _verified(self, rows: Rows, candidates: Candidates, above: Callable[[Rows], Tensor] | None) -> Tensor:
        excluded = candidates.excluded
        found = self._order.ordered(rows, candidates.indices.to(excluded.device), candidates.at_least)
        radius = self._order.radius(found)
        # A list that is the whole answer needs no k-th distance, which may be infinite or missing.
        certified = (radius < excluded) | (excluded == torch.inf)
        if bool(certified.all()):
            return self._order.settled(rows, found)
        by_radius = ~certified & torch.isfinite(radius) & (excluded > -torch.inf)
        out = torch.empty(len(excluded), self.plan.k, dtype=torch.int64, device=found.indices.device)
        assign(out, certified, lambda i: self._order.settled(rows.pick(i), found.rows(i)))
        if above is not None:
            assign(out, ~certified, lambda i: above(rows.pick(i)))
            return out
        assign(out, by_radius, lambda i: self._within(rows.pick(i), radius[i]))
        assign(out, ~certified & ~by_radius, lambda i: self._exhaust(rows.pick(i)))
        return out

    def _candidates(self, screen: Screen, rows: Rows) -> Candidates:
        mask = self._mask
        if mask is None:
            return screen.candidates(rows.values)
        assert screen is self._portable
        assert self._portable is not None
        return self._portable.candidates(rows.values, lambda start, stop: mask.tile(rows.numbers, start, stop))

    def _within(self, rows: Rows, radius: Tensor) -> Tensor:
        """Search all centres that the screen cannot prove to be farther than radius (r,)."""
        assert self._portable is not None
        self._report.add(n_escalated=len(radius))
        return self._exhaustive.within(self._portable, rows, radius)

    def _exhaust(self, rows: Rows) -> Tensor:
        """Search all centres, in float64."""
        self._report.add(n_exhaustive=len(rows.values))
        return self._exhaustive.search(rows)

    def _compiled(self) -> bool:
        """Tell whether verification may use Numba kernels."""
        return (self.forest is not None or self._rungs is not None) and self._frame.in_float64
