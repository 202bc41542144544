"""Centres that come in parts, one turn after the other: what each turn lists is merged with the k found so far."""

from __future__ import annotations

import torch
from torch import Tensor

from janelia_core.ml._knn.exact_order import ExactOrder
from janelia_core.ml._knn.plan.plan import Plan
from janelia_core.ml._knn.report import Report
from janelia_core.ml._knn.rows import Rows, parts
from janelia_core.ml._knn.screens.contract import Meeting

OPEN = -1  # in the result: no list has certified this row yet


class Fold:
    """Merges the lists of a meeting's turns; rows that no list certifies are left OPEN, for the ladder at the end.

    Args:
        meeting: The meeting, of several parts.
        order: Puts centres into order.
        plan: Sizes of blocks.
        report: Is told of rows, turn by turn, so that whoever follows it sees how far the search is.
    """

    def __init__(self, meeting: Meeting, order: ExactOrder, plan: Plan, report: Report) -> None:
        self._meeting, self._order, self._plan, self._report = meeting, order, plan, report

    def search(self, rows: Rows, found: Tensor | None) -> Tensor:
        """Return the k nearest (r, k) of rows among the parts so far; found (r, w): among those before this one.

        What was not found in those is farther than the k that were, so this part's `excluded` certifies both.
        """
        meeting = self._meeting
        candidates, excluded, _ = meeting.listers[0].candidates(rows)
        if found is not None:
            candidates = torch.cat([found, candidates], dim=1)
        so_far = [len(candidates) * number // meeting.parts for number in (meeting.number, meeting.number + 1)]
        self._report.add(n_screened=so_far[1] - so_far[0], n_candidates=int((candidates >= 0).sum()))
        cuts = parts(len(candidates), self._plan.blocks.verified_rows)
        merged = torch.cat([self._merged(rows.pick(part), candidates[part], excluded[part]) for part in cuts])
        return merged if found is None else merged.masked_fill_(found[:, :1] == OPEN, OPEN)

    def _merged(self, rows: Rows, candidates: Tensor, excluded: Tensor) -> Tensor:
        found = self._order.ordered(rows, candidates)
        certified = self._order.radius(found) < excluded
        return self._order.settled(rows, found).masked_fill(~certified[:, None], OPEN)
