"""The ladder that a block of rows climbs: listers one after the other, then a proven radius, then every centre."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from janelia_core.ml._knn.contract import Candidates
from janelia_core.ml._knn.data.frame import levelled
from janelia_core.ml._knn.data.points import as_float64
from janelia_core.ml._knn.exhaustive import Exhaustive
from janelia_core.ml._knn.meet import Chosen
from janelia_core.ml._knn.rows import Rows, assign, parts
from janelia_core.ml._knn.screens.contract import Asked, Lister
from janelia_core.ml._knn.screens.rungs import PROBE, Rungs
from janelia_core.ml._knn.verify.verify import at_sight

Above = Callable[[Rows, Tensor, Tensor], Tensor]
"""(rows, radius (r,), excluded (r,)) -> answers of rows whose lists could not certify the k-th within radius."""


class Ladder:
    """Searches blocks of rows: by lists, then within a proven radius, then among every centre.

    Args:
        chosen: Who lists candidates, and who tells which centres may lie within a radius.
        exhaustive: The last rungs.
        asked: The search.
    """

    def __init__(self, chosen: Chosen, exhaustive: Exhaustive, asked: Asked) -> None:
        self.order, self._exhaustive = exhaustive.order, exhaustive
        self._chosen, self._listers, self._plan = chosen, chosen.listers, chosen.plan
        self._frame, self._report, self._masked = asked.frame, asked.report, asked.mask is not None

    def search(self, rows: Rows) -> Tensor:
        """Return (r, k) row numbers of centres, nearest first."""
        if self._frame.level is None:
            return self._classed(rows)
        values, near = levelled(rows.values, self._frame.level)
        rows = Rows(values, rows.numbers)
        if bool(near.all()):
            return self._classed(rows)
        out = torch.empty(len(values), self._plan.k, dtype=torch.int64, device=near.device)
        assign(out, near, lambda i: self._classed(rows.pick(i)))
        assign(out, ~near, lambda i: self._exhaust(rows.pick(i)))
        return out

    def _classed(self, rows: Rows) -> Tensor:
        """Search rows of which some may not be finite."""
        if self._frame.x_finite:
            return self._listed(rows)
        values = as_float64(rows.values)
        finite, undefined = torch.isfinite(values).all(dim=1), torch.isnan(values).any(dim=1)
        first = self.order.ctrs.row_numbers(torch.arange(self._plan.k, device=values.device))
        out = first.repeat(len(values), 1)  # the answer for NaN rows, if nothing is masked
        assign(out, finite, lambda i: self._listed(rows.pick(i)))
        exhausted = ~finite if self._masked else ~finite & ~undefined
        assign(out, exhausted, lambda i: self._exhaust(rows.pick(i)))
        return out

    def _listed(self, rows: Rows) -> Tensor:
        """Search rows without infinities and NaN."""
        return self._exhaust(rows) if self._listers is None else self._climbed(self._listers, 0, rows)

    def _climbed(self, listers: Rungs[Lister], rung: int, rows: Rows) -> Tensor:
        """Search by the lists of one rung; rows that it cannot certify are searched in the next."""
        rung, n = max(rung, listers.start), len(rows.values)
        if rung == len(listers) - 1:
            return self._by_lists(listers[rung], rows, self._by_radius)
        if listers.is_new(rung) and n > 2 * PROBE:
            cuts = (slice(0, PROBE), slice(PROBE, n))
            return torch.cat([self._climbed(listers, rung, rows.pick(part)) for part in cuts])

        def above(rest: Rows, radius: Tensor, excluded: Tensor) -> Tensor:
            listers.note(rung, 0, len(rest.values))
            self._report.add(n_screened=-len(rest.values), n_climbed=len(rest.values))
            return self._climbed(listers, rung + 1, rest)

        listers.note(rung, n, 0)
        return self._by_lists(listers[rung], rows, above)

    def _by_lists(self, lister: Lister, rows: Rows, above: Above) -> Tensor:
        """List, verify, certify and settle; rows whose certificate fails are searched `above`."""
        candidates = lister.candidates(rows)  # Step 6: candidates are listed
        n = len(candidates.indices)
        self._report.add_listed(candidates.indices)
        if not self.order.compiled:
            return self._verified_in_parts(rows, candidates, above)
        out, doubtful = at_sight(rows.values, self.order.ctrs, candidates, self.order.metric, self._plan.k)
        if len(doubtful) == n:
            return self._verified_in_parts(rows, candidates, above)
        if len(doubtful):
            out[doubtful] = self._verified_in_parts(rows.pick(doubtful), candidates.rows(doubtful), above)
        return out

    def _verified_in_parts(self, rows: Rows, candidates: Candidates, above: Above) -> Tensor:
        cuts = parts(len(candidates.indices), self._plan.blocks.verified_rows)
        if len(cuts) == 1:
            return self._verified(rows, candidates, above)
        return torch.cat([self._verified(rows.pick(part), candidates.rows(part), above) for part in cuts])

    def _verified(self, rows: Rows, candidates: Candidates, above: Above) -> Tensor:
        excluded = candidates.excluded
        # Step 7: candidates are verified
        found = self.order.ordered(rows, candidates.indices.to(excluded.device), candidates.at_least)
        radius = self.order.radius(found)
        # Step 8: the list is certified
        # A list that is the whole answer needs no k-th distance, which may be infinite or missing.
        certified = (radius < excluded) | (excluded == torch.inf)
        if not rows.values.is_cpu and bool((certified & ~self.order.doubtful(found)).all()):
            return found.indices[:, : self._plan.k]  # all that an accelerator is waited for, as long as all is well
        if bool(certified.all()):  # Step 9: near-ties are settled
            return self.order.settled(rows, found)
        out = torch.empty(len(excluded), self._plan.k, dtype=torch.int64, device=found.indices.device)
        assign(out, certified, lambda i: self.order.settled(rows.pick(i), found.rows(i)))
        # Step 10: other rows climb
        assign(out, ~certified, lambda i: above(rows.pick(i), radius[i], excluded[i]))
        return out

    def _by_radius(self, rows: Rows, radius: Tensor, excluded: Tensor) -> Tensor:
        """Search within the distance (r,) of the k-th listed, where that is known and the lister could tell at all."""
        out = torch.empty(len(radius), self._plan.k, dtype=torch.int64, device=radius.device)
        if self._chosen.near is None:
            return self._exhaust(rows)
        known = torch.isfinite(radius) & (excluded > -torch.inf)
        assign(out, known, lambda i: self._within(rows.pick(i), radius[i]))
        assign(out, ~known, lambda i: self._exhaust(rows.pick(i)))
        return out

    def _within(self, rows: Rows, radius: Tensor) -> Tensor:
        """Search all centres that are not proven to be farther than radius (r,)."""
        near = self._chosen.near
        assert near is not None
        self._report.add(n_escalated=len(radius))
        return self._exhaustive.within(near, rows, radius)

    def _exhaust(self, rows: Rows) -> Tensor:
        """Search all centres, in float64."""
        self._report.add(n_exhaustive=len(rows.values))
        return self._exhaustive.search(rows)
