"""A screen is added as docs/architecture.md says: an object that keeps the contract, and its name in one tuple."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from janelia_core.ml._knn import choose
from janelia_core.ml._knn.contract import Candidates
from janelia_core.ml._knn.data.centres import Centres
from janelia_core.ml._knn.data.frame import Place
from janelia_core.ml._knn.plan.demand import Cost, Demand
from janelia_core.ml._knn.plan.plan import Plan
from janelia_core.ml._knn.problem import Problem
from janelia_core.ml._knn.report import watch_knn
from janelia_core.ml._knn.rows import Rows
from janelia_core.ml._knn.screens.contract import Asked, Meeting
from janelia_core.ml._knn.screens.rungs import Rungs
from janelia_core.ml._runtime.workers import Workers
from janelia_core.ml.neighbors import knn
from oracle import nearest
from problems import PROBLEMS


class EveryCentre:
    """Lists every centre of every row, whatever the values: excluded is +inf."""

    name, parallel, looks, nbytes, stands = "every centre", False, True, 0, False
    prepared = 0

    def why_not(self, problem: Problem, workers: int) -> str:
        return "masks are not looked at" if problem.masked else ""

    def cost(self, problem: Problem) -> Cost:
        return Cost(0.0)

    def demand(self, problem: Problem, room: int, workers: int, rival: Cost) -> Demand:
        return Demand(0, 8 * problem.n_ctrs, problem.n_ctrs, "a toy")

    def why_not_here(self, asked: Asked) -> str:
        return ""

    def key(self, place: Place, plan: Plan) -> str:
        return self.name

    def prepare(self, centres: Centres, place: Place, plan: Plan, workers: Workers) -> EveryCentre:
        self.prepared += 1
        self.all = centres.points.row_numbers(torch.arange(len(centres)))
        return self

    def meet(self, asked: Asked) -> Meeting:
        return Meeting(Rungs(lambda _: self))

    def candidates(self, rows: Rows) -> Candidates:
        r = len(rows.values)
        return Candidates(self.all.expand(r, -1), torch.full((r,), torch.inf, dtype=torch.float64))


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> Iterator[EveryCentre]:
    screen = EveryCentre()
    monkeypatch.setattr(choose, "SCREENS", (screen, *choose.SCREENS))
    monkeypatch.setattr(choose.small, "pays", lambda problem, few: False)
    choose.make_plan.cache_clear()
    yield screen
    choose.make_plan.cache_clear()


@pytest.mark.parametrize("name", PROBLEMS)
def test_one_name_in_the_tuple_is_all_that_a_new_screen_takes(toy: EveryCentre, name: str) -> None:
    x, ctrs, k, _ = PROBLEMS[name]()
    k = min(k, len(ctrs) // 12)  # more are no screen's business: all are verified
    with watch_knn() as reports:
        found = knn(x, ctrs, k).indices
    assert torch.equal(found.T, nearest(x, ctrs, k))
    if len(x):
        assert (reports[0].plan.screen, reports[0].plan.reason) == ("every centre", "a toy")
        assert toy.prepared == 1


def test_a_search_that_it_declines_goes_to_the_next(toy: EveryCentre) -> None:
    x, ctrs = torch.rand(40, 3), torch.rand(300, 3)

    def allowed(rows: Tensor, start: int, stop: int) -> Tensor:
        return torch.ones(len(rows), stop - start, dtype=torch.bool)

    with watch_knn() as reports:
        found = knn(x, ctrs, 3, mask=allowed).indices
    assert torch.equal(found.T, nearest(x, ctrs, 3))
    assert reports[0].plan.screen == "direct"
    assert toy.prepared == 0
