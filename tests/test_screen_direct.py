"""The direct screen: few rows take one pass over the centres as they are stored, whatever these hold."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from torch import Tensor

from janelia_core.ml._knn.choose import make_plan
from janelia_core.ml._knn.data.centres import Centres
from janelia_core.ml._knn.data.points import Points
from janelia_core.ml._knn.data.values import Reader
from janelia_core.ml._knn.metrics.metric import DISTANCE
from janelia_core.ml._knn.metrics.registry import metric_named
from janelia_core.ml._knn.plan.plan import Plan
from janelia_core.ml._knn.problem import Problem
from janelia_core.ml._knn.report import watch_knn
from janelia_core.ml._knn.rows import Rows
from janelia_core.ml._knn.screens.direct import cost
from janelia_core.ml._knn.screens.direct.screen import DirectScreen
from janelia_core.ml._knn.screens.ready import Ready
from janelia_core.ml._knn.search import search
from janelia_core.ml._runtime.machine import this_machine
from janelia_core.ml._runtime.workers import Workers
from janelia_core.ml.extra_torch_functions import knn_do, knn_mc
from janelia_core.ml.neighbors import knn
from oracle import nearest
from plans import changed, rows_of
from problems import KINDS, PROBLEMS, gaussian

CPU = this_machine(torch.device("cpu"))
METRICS = ("euclidean", "dot", "cosine")
LONG = 37  # coordinates: two whole runs of float32, and a part of one
ALONE = Workers(1, pool=False)


def planned(x: Tensor, n_ctrs: int, k: int, metric: str = "euclidean", **fields: object) -> Plan:
    plan = make_plan(len(x), n_ctrs, x.shape[1], k, n_ctrs, machine=CPU, metric=metric)
    return changed(plan, screen="direct", at_once_rows=0, **fields)


def searched(x: Tensor, ctrs: Tensor, k: int, metric: str = "euclidean", **fields: object) -> Tensor:
    return search(Points(x), Centres(Points(ctrs)), planned(x, len(ctrs), k, metric, **fields))


def widened(values: Tensor, d: int = LONG) -> Tensor:
    """Return points with zeros for further coordinates, which change no order."""
    return torch.nn.functional.pad(values, (0, max(0, d - values.shape[1])))


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("name", KINDS)
def test_answers_are_those_of_the_definition_for_few_and_for_many_coordinates(name: str, metric: str) -> None:
    x, ctrs, k, _ = PROBLEMS[name]()
    x = x[:5]
    for most in (k, len(ctrs) - 1):
        expected = nearest(x, ctrs, most, metric)
        assert torch.equal(searched(x, ctrs, most, metric), expected)
        assert torch.equal(searched(widened(x), widened(ctrs), most, metric, workers=2, row_block=2), expected)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("d", [1, 2, 7, 16, 17, 32, 33, 50])
def test_every_number_of_coordinates_of_rows_and_of_centres_is_looked_at_whole(
    d: int, dtype: torch.dtype, metric: str
) -> None:
    for n_ctrs in (1, 3, 5, 257, 530):
        x, ctrs, _ = gaussian(dtype, n=6, n_ctrs=n_ctrs, d=d)[:3]
        swept = DirectScreen(Points(ctrs), metric_named(metric).form, 4).swept(rows_of(x), ALONE)
        listed, excluded, _ = swept.found
        value, error = metric_named(metric).pair_values(x[:, None], ctrs[None])
        first = value.argsort(dim=1)[:, : min(4, n_ctrs)]
        assert swept.largest == float(ctrs.abs().max())
        assert swept.moderate
        for i in range(len(x)):
            assert listed[i].tolist() == first[i].tolist() or metric == "cosine"  # of one coordinate, all tie
            others = value[i] + error[i]
            others[listed[i]] = torch.inf
            assert bool((others >= excluded[i]).all())
        if n_ctrs > 4:  # and the bound is as tight as float32 lets it be
            last = value.gather(1, listed).amax(dim=1)
            size = 1 + x.double().norm(dim=1) * float(ctrs.double().norm(dim=1).max())
            assert bool(((last - excluded).abs() <= 1e-5 * size).all())


@pytest.mark.parametrize("metric", METRICS)
def test_neither_threads_nor_chunks_nor_the_way_centres_are_stored_change_an_answer(metric: str) -> None:
    x, ctrs, _ = gaussian(n=9, n_ctrs=700, d=20)[:3]
    expected = nearest(x, ctrs, 6, metric)
    backwards = ctrs.flip(0).contiguous()
    for centres in (ctrs, ctrs.double(), ctrs.T.contiguous().T, torch.cat([ctrs, ctrs], dim=1)[:, :20]):
        for fields in ({}, {"workers": 2}, {"workers": 3, "chunk": 64}, {"chunk": 1}):
            assert torch.equal(searched(x, centres, 6, metric, **fields), expected)
    every_other = Points(torch.stack([backwards.flip(0), ctrs * 0], dim=1).flatten(0, 1), torch.arange(0, 1400, 2))
    found = search(Points(x), Centres(every_other), planned(x, 700, 6, metric, workers=2, chunk=64))
    assert torch.equal(found, expected * 2)


def test_centres_that_lie_closer_than_float32_can_tell_are_parted_by_float64() -> None:
    g = torch.Generator().manual_seed(0)
    middle = torch.randn(1, 40, generator=g)
    near = middle + 2.0**-20 * torch.randn(400, 40, generator=g)
    ctrs = torch.cat([near, torch.randn(3000, 40, generator=g) + 9.0])
    x = middle + torch.randn(4, 40, generator=g)
    with watch_knn() as reports:
        assert torch.equal(searched(x, ctrs, 5), nearest(x, ctrs, 5))
    assert (reports[0].n_climbed, reports[0].n_escalated, reports[0].n_exhaustive) == (4, 0, 0)


def test_copies_are_left_out_when_a_list_is_full_of_them() -> None:
    x, ctrs, _ = gaussian(n=4, n_ctrs=3000, d=20)[:3]
    ctrs[::3] = x[0]
    with watch_knn() as reports:
        assert torch.equal(searched(x, ctrs, 5), nearest(x, ctrs, 5))
    assert reports[0].n_escalated == reports[0].n_exhaustive == 0


@pytest.mark.parametrize("value", [torch.inf, -torch.inf, torch.nan])
@pytest.mark.parametrize("metric", METRICS)
def test_a_centre_that_is_not_finite_is_answered_where_the_definition_puts_it(metric: str, value: float) -> None:
    x, ctrs, _ = gaussian(n=5, n_ctrs=400, d=20)[:3]
    ctrs[[0, 333]] = ctrs[[1, 2]]
    ctrs[0, 3] = ctrs[333, 19] = value
    x[1, 2], x[2, 0] = torch.nan, torch.inf
    assert torch.equal(searched(x, ctrs, 6, metric, workers=2), nearest(x, ctrs, 6, metric))


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("exponent", [-140, -70, -30, 60, 100, 125])
def test_magnitudes_at_the_ends_of_float32_change_no_answer(exponent: int, metric: str) -> None:
    x, ctrs, _ = gaussian(n=4, n_ctrs=300, d=20)[:3]
    ctrs = (ctrs.double() * 2.0**exponent).float()
    for rows in (x, (x.double() * 2.0**exponent).float(), x.double() * 2.0**300):
        assert torch.equal(searched(rows, ctrs, 5, metric), nearest(rows, ctrs, 5, metric))


def test_one_pass_tells_all_that_is_asked_of_the_centres(monkeypatch: pytest.MonkeyPatch) -> None:
    x, ctrs, _ = gaussian(n=4, n_ctrs=3000, d=20)[:3]
    looked: list[int] = []
    for look in ("ends", "column_ends", "all_multiples"):
        own = getattr(Reader, look)

        def counting(self: Reader, points: Points, *rest: float, own: object = own) -> object:
            looked.append(len(points))
            return own(self, points, *rest)  # type: ignore[operator]

        monkeypatch.setattr(Reader, look, counting)
    for metric in METRICS:
        searched(x, ctrs, 5, metric)
        searched(x, ctrs.round(), 5, metric)
    assert set(looked) == {4}


def test_lists_are_handed_out_by_row_number_and_made_anew_for_rows_of_other_values() -> None:
    x, ctrs, _ = gaussian(n=7, n_ctrs=300, d=20)[:3]
    screen = DirectScreen(Points(ctrs), DISTANCE, 9)
    found, numbers = screen.candidates(Rows(x, torch.arange(7))), torch.arange(0, 70, 10)
    ready = Ready(x, numbers, found, screen)
    for picked in (torch.arange(7), torch.tensor([4, 1])):
        rows = Rows(x[picked], numbers[picked])
        assert all(torch.equal(a, b) for a, b in zip(ready.candidates(rows), found.rows(picked), strict=True))
        moved = Rows(x[picked].double() * 2.0, numbers[picked])
        expected = screen.candidates(moved)
        assert all(torch.equal(a, b) for a, b in zip(ready.candidates(moved), expected, strict=True))


@pytest.mark.parametrize("metric", METRICS)
def test_few_rows_among_many_centres_are_searched_so_by_every_door(metric: str) -> None:
    x, ctrs, _ = gaussian(n=6, n_ctrs=60_000, d=24)[:3]
    with watch_knn() as reports:
        found = knn(x.view(2, 3, 24), ctrs, 3, metric=metric)
    assert {report.plan.screen for report in reports} == {"direct"}
    assert not any(report.screen for report in reports)
    value, _ = metric_named(metric).pair_values(x[:, None], ctrs[None])
    assert torch.equal(found.indices.flatten(0, 1), value.topk(3, largest=False).indices)


def test_drawn_centres_are_read_where_they_lie() -> None:
    x, ctrs, _ = gaussian(n=3, n_ctrs=90_000, d=24)[:3]
    g = torch.Generator().manual_seed(3)
    used = torch.randperm(90_000, generator=torch.Generator().manual_seed(3))[:60_000]
    with watch_knn() as reports:
        found = knn_do(x, ctrs, 4, 60_000, 60_000, generator=g)
    assert reports[0].plan.screen == "direct"
    value = (x[:, None].double() - ctrs[used].double()).square().sum(-1)
    assert torch.equal(found.T, used[value.topk(4, largest=False).indices])


def test_few_rows_are_given_all_threads_where_centres_are_many() -> None:
    assert make_plan(1, 100_000, 128, 10, 10**6, machine=CPU).crew.workers == min(2, CPU.threads)
    assert make_plan(1, 1000, 128, 10, 10**6, machine=CPU).crew.workers == 1


@pytest.mark.parametrize("d", [1, 8, 16, 17, 300])
def test_more_rows_centres_or_neighbours_never_cost_less(d: int) -> None:
    def work(n_smps: int, n_ctrs: int, k: int) -> float:
        return cost.cost(Problem(n_smps, n_ctrs, d, k, n_ctrs, CPU)).work

    for n_smps, n_ctrs, k in ((1, 1000, 1), (3, 10_000, 10), (40, 10**6, 200)):
        here = work(n_smps, n_ctrs, k)
        assert here <= min(work(n_smps + 1, n_ctrs, k), work(n_smps, 2 * n_ctrs, k), work(n_smps, n_ctrs, k + 1))


def test_a_search_that_one_pass_cannot_serve_goes_to_the_next_screen() -> None:
    x, ctrs, _ = gaussian(torch.float64, n=4, n_ctrs=3000, d=20)[:3]
    ctrs *= 2.0**450
    plan = make_plan(4, 3000, 20, 5, 3000, machine=CPU, float32=False)
    plan = changed(plan, screen="direct", at_once_rows=0)
    with watch_knn() as reports:
        found = search(Points(x), Centres(Points(ctrs)), plan)
    assert reports[0].screen == "portable: values are of extreme magnitude"
    assert torch.equal(found, nearest(x, ctrs, 5))


def test_the_bound_of_a_list_holds_for_sums_that_round_as_badly_as_they_can() -> None:
    """A big first term, and then terms each of which is rounded off a sum: the worst of orders for float32."""
    n, d = 200, 400
    ctrs = torch.full((n, d), 2.0**-12)
    ctrs[:, 0] = 1.0 + torch.arange(n) * 2.0**-23
    x = torch.zeros(2, d)
    screen = DirectScreen(Points(ctrs), DISTANCE, 10)
    listed, excluded, at_least = screen.candidates(Rows(x, torch.arange(2)))
    truth = [sum(Fraction(v) ** 2 for v in centre) for centre in ctrs.tolist()]
    assert at_least is not None
    for i in range(2):
        own = listed[i].tolist()
        assert min(truth[j] for j in range(n) if j not in own) >= Fraction(float(excluded[i]))
        assert all(truth[j] >= Fraction(float(low)) for j, low in zip(own, at_least[i], strict=True))


def test_knn_mc_answers_few_rows_as_many() -> None:
    x, ctrs, _ = gaussian(n=700, n_ctrs=30_000, d=40)[:3]
    many = knn_mc(x, ctrs, 12, 30_000)
    assert torch.equal(
        torch.cat([knn_mc(x[i : i + 7], ctrs, 12, 30_000) for i in range(0, 70, 7)], dim=1), many[:, :70]
    )
