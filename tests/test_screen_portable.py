"""The portable screen: the largest scores of a row, tile by tile, and few candidates before many."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from janelia_core.ml._knn.choose import make_plan
from janelia_core.ml._knn.data.centres import Centres
from janelia_core.ml._knn.data.points import Points
from janelia_core.ml._knn.plan.plan import Plan
from janelia_core.ml._knn.report import Report, watch_knn
from janelia_core.ml._knn.screens.portable import cost, largest
from janelia_core.ml._knn.screens.portable import screen as screen_portable
from janelia_core.ml._knn.search import search
from janelia_core.ml._runtime.machine import this_machine
from oracle import nearest
from plans import changed

WITHOUT_KERNELS = replace(this_machine(torch.device("cpu")), threads=2, kernels=False)


def planned(x: torch.Tensor, ctrs: torch.Tensor, k: int, **fields: object) -> Plan:
    plan = make_plan(len(x), len(ctrs), x.shape[1], k, len(ctrs), machine=WITHOUT_KERNELS)
    return changed(plan, screen="portable", at_once_rows=0, **fields)


def searched(x: torch.Tensor, ctrs: torch.Tensor, plan: Plan) -> tuple[torch.Tensor, Report]:
    with watch_knn() as reports:
        found = search(Points(x), Centres(Points(ctrs)), plan)
    return found, reports[0]


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("kind", ["normal", "few values", "ascending", "hidden", "not numbers"])
@pytest.mark.parametrize(("columns", "width"), [(9, 9), (319, 20), (320, 20), (327, 20), (5003, 12), (700, 1)])
def test_the_largest_scores_are_those_of_topk(columns: int, width: int, kind: str) -> None:
    scores = normal(7, columns)
    if kind == "few values":
        scores = scores.round()
    elif kind == "ascending":
        scores = scores.sort(dim=1).values
    elif kind == "hidden":
        scores[:, torch.rand(columns, generator=torch.Generator().manual_seed(1)) < 0.98] = -torch.inf
    elif kind == "not numbers":
        scores[3, columns // 2] = scores[4, -1] = torch.nan
    values, places = largest.largest(scores, width)
    right = scores.topk(width, dim=1).values
    assert torch.equal(values.sort(dim=1, descending=True).values.nan_to_num(9), right.nan_to_num(9))
    assert torch.equal(scores.gather(1, places).nan_to_num(9), values.nan_to_num(9))
    assert all(len(set(row)) == width for row in places.tolist())


def test_a_group_left_out_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sought by sums of groups instead of maxima, neighbours get lost."""
    x, ctrs = normal(20, 4), normal(1000, 4, seed=1)
    plan = planned(x, ctrs, 5)
    right = nearest(x, ctrs, 5)
    assert torch.equal(searched(x, ctrs, plan)[0], right)
    monkeypatch.setattr(largest.torch, "unflatten", lambda scores, *how: scores.unflatten(*how).flip(2))
    assert not torch.equal(searched(x, ctrs, plan)[0], right)


@pytest.mark.parametrize("ctr_block", [64, 500, 4000])
@pytest.mark.parametrize("k", [1, 70])
def test_tiles_of_few_rows_and_blocks_of_centres_make_no_difference(
    ctr_block: int, k: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, ctrs = (normal(n, 3, seed=n).mul(8).round() for n in (60, 1300))
    right = nearest(x, ctrs, k)
    monkeypatch.setattr(cost, "_AT_ONCE", 10_000)
    monkeypatch.setattr(screen_portable, "MOST_CTRS", 300)
    for kept in (True, False):
        plan = planned(x, ctrs, k, ctr_block=ctr_block, keep_packed=kept)
        assert torch.equal(searched(x, ctrs, plan)[0], right)


def test_few_candidates_are_nearly_always_enough_and_other_rows_are_given_more() -> None:
    ctrs = normal(800, 8)
    ctrs[100:115] = ctrs[5] + 1e-6 * normal(15, 8, seed=3)  # more than few candidates, not more than are kept
    x = torch.cat([normal(280, 8, seed=1), ctrs[5] + 1e-3 * normal(20, 8, seed=2)])
    plan = planned(x, ctrs, 10, keep_packed=True)
    assert cost.narrow(plan.problem) < 16 < plan.width
    found, report = searched(x, ctrs, plan)
    assert torch.equal(found, nearest(x, ctrs, 10))
    assert 20 <= report.n_climbed < 40
    assert report.n_escalated < 10
    assert report.n_candidates < 14 * len(x)


def test_tiles_take_no_more_than_is_planned_for_all_rows() -> None:
    for n_ctrs, d, k in ((100, 3, 5), (4096, 384, 10), (10_000, 3, 10), (50_000, 64, 100), (50_000, 3, 1000)):
        for budget in (1 << 20, 1 << 24, 1 << 28):
            plan = make_plan(20_000, n_ctrs, d, k, n_ctrs, machine=WITHOUT_KERNELS, budget=budget)
            rows, products = plan.blocks.rows, plan.products
            at_once = cost.rows_at_once(products, rows)
            tile = at_once * cost._row_of_tile(products, products.ctr_block)
            assert 1 <= at_once <= rows
            assert tile <= rows * cost._row_of_tile(products, min(products.ctr_block, 4096)) or at_once == 1
