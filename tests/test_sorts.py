"""Many neighbours: all distances of a row are sorted, and what rounding cannot tell apart is settled or climbs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from janelia_core.ml._knn.answers import Answers
from janelia_core.ml._knn.choose import make_plan
from janelia_core.ml._knn.data.centres import Centres
from janelia_core.ml._knn.data.points import Points
from janelia_core.ml._knn.metrics.registry import metric_named
from janelia_core.ml._knn.plan.plan import Plan
from janelia_core.ml._knn.report import watch_knn
from janelia_core.ml._knn.screens.sorted import screen as sorted_screen
from janelia_core.ml._knn.screens.sorted.cost import Sorting
from janelia_core.ml._knn.screens.sorted.distances import TILE
from janelia_core.ml._knn.screens.sorted.runs import Listed, room_for_runs, settle_runs
from janelia_core.ml._knn.search import search
from janelia_core.ml._runtime.machine import this_machine
from janelia_core.ml.extra_torch_functions import knn_mc
from oracle import nearest
from plans import changed
from problems import PROBLEMS, gaussian, nearly_equidistant

CPU = this_machine(torch.device("cpu"))
WAYS = {
    "all are sorted": Sorting(single=False, all_listed=True),
    "float64 leaves out": Sorting(single=False, all_listed=False),
    "float32 leaves out": Sorting(single=True, all_listed=False),
}
by_way = pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)


def planned(x: Tensor, n_ctrs: int, k: int, way: Sorting, **fields: object) -> Plan:
    plan = make_plan(len(x), n_ctrs, x.shape[1], k, n_ctrs, machine=CPU)
    return changed(plan, screen="sorted", at_once_rows=0, **fields | {"own": way})


def searched(x: Tensor, ctrs: Tensor, k: int, way: Sorting, **fields: object) -> Tensor:
    return search(Points(x), Centres(Points(ctrs)), planned(x, len(ctrs), k, way, **fields))


def in_float64(x: Tensor, ctrs: Tensor, k: int) -> Tensor:
    """Return the answer where distances are far enough apart for float64."""
    far = (x.double()[:, None] - ctrs.double()[None]).square().sum(dim=2)
    return far.sort(dim=1, stable=True).indices[:, :k].T


@by_way
@pytest.mark.parametrize("name", PROBLEMS)
def test_answers_are_those_of_the_definition_for_any_share_of_the_centres(name: str, way: Sorting) -> None:
    x, ctrs, k, _ = PROBLEMS[name]()
    x = x[:3]
    expected = nearest(x, ctrs, len(ctrs))
    for most in {k, len(ctrs) // 2, len(ctrs)}:
        assert torch.equal(searched(x, ctrs, most, way), expected[:most])


@by_way
@pytest.mark.parametrize(("d", "k"), [(1, 100), (6, 1500), (19, 900)])
def test_of_more_centres_than_a_sample_has_the_nearest_are_found(d: int, k: int, way: Sorting) -> None:
    x, ctrs, _ = gaussian(n=37, n_ctrs=5000, d=d)[:3]
    with watch_knn() as reports:
        found = searched(x, ctrs, k, way, workers=2, pooled=True)
    assert torch.equal(found, in_float64(x, ctrs, k))
    assert reports[0].n_exhaustive == 0


@pytest.mark.parametrize("name", ["lattice", "duplicates", "all-equal", "swapped-coordinates"])
def test_ties_and_near_ties_are_put_in_order_without_the_ladder(name: str) -> None:
    x, ctrs, k, _ = PROBLEMS[name]()
    ctrs = ctrs[:60] if name == "swapped-coordinates" else ctrs  # longer runs are the ladder's
    with watch_knn() as reports:
        searched(x, ctrs, min(len(ctrs), 3 * k), WAYS["float64 leaves out"])
    assert reports[0].n_exhaustive == 0


@by_way
def test_distances_of_all_magnitudes_are_sorted_without_the_ladder(way: Sorting) -> None:
    g = torch.Generator().manual_seed(0)
    ctrs = (
        torch.randn(3000, 2, generator=g)
        * 10.0 ** torch.linspace(-6, 9, 3000)[torch.randperm(3000, generator=g)][:, None]
    )
    x = torch.randn(4, 2, generator=g)
    with watch_knn() as reports:
        assert torch.equal(searched(x, ctrs, 3000, way), in_float64(x, ctrs, 3000))
    assert reports[0].n_exhaustive == 0


def test_rows_do_not_meet_themselves_whatever_they_are_called() -> None:
    ctrs = gaussian(n=2, n_ctrs=300, d=4).ctrs
    for subset in (None, torch.arange(5, 290)):
        k, points = 150, Points(ctrs, subset)
        plan = planned(ctrs, len(points), k, WAYS["float64 leaves out"])
        found = torch.empty(k - 1, 300, dtype=torch.int64)
        search(Points(ctrs), Centres(points), plan, None, Answers(found, but_self=True))
        every = in_float64(ctrs, ctrs[slice(None) if subset is None else subset], len(points))
        every = every if subset is None else subset[every]
        for i in range(300):
            assert found[:, i].tolist() == [j for j in every[:, i].tolist() if j != i][: k - 1]


def test_answers_go_into_memory_of_any_strides() -> None:
    x, ctrs, _ = gaussian(n=70, n_ctrs=400, d=4)[:3]
    memory = torch.full((2 * 70, 3 * 90), -5)
    plan = planned(x, 400, 90, WAYS["all are sorted"])
    out = memory.T[1::3, 1::2]
    search(Points(x), Centres(Points(ctrs)), plan, None, Answers(out))
    assert torch.equal(out, in_float64(x, ctrs, 90))
    assert int((memory == -5).sum()) == memory.numel() - out.numel()


def test_a_bound_of_float32_keys_that_is_too_small_loses_neighbours(monkeypatch: pytest.MonkeyPatch) -> None:
    x, ctrs, _ = nearly_equidistant(n=40, n_ctrs=3000)[:3]
    x, way = x / 8, WAYS["float32 leaves out"]
    expected = in_float64(x, ctrs, 300)
    assert torch.equal(searched(x, ctrs, 300, way), expected)
    monkeypatch.setattr(sorted_screen, "_of_float32", lambda d: (0.0, 0.0))
    assert not torch.equal(searched(x, ctrs, 300, way), expected)


def test_a_bound_of_float64_distances_that_is_too_small_gives_a_wrong_order(monkeypatch: pytest.MonkeyPatch) -> None:
    x, ctrs, _, _ = PROBLEMS["near-swapped"]()
    way, expected = WAYS["all are sorted"], nearest(x, ctrs, len(ctrs))
    assert torch.equal(searched(x, ctrs, len(ctrs), way), expected)
    monkeypatch.setattr(sorted_screen, "metric_named", lambda name, exponent, exact: metric_named(name, exponent, True))
    assert not torch.equal(searched(x, ctrs, len(ctrs), way), expected)


def test_many_neighbours_are_sorted_and_few_are_not() -> None:
    def chosen(n_smps: int, n_ctrs: int, d: int, k: int, **fields: object) -> str:
        return make_plan(n_smps, n_ctrs, d, k, n_ctrs, machine=CPU, **fields).screen

    assert chosen(500, 3000, 16, 3000) == chosen(5000, 5000, 100, 2500) == chosen(1000, 10_000, 3, 1000) == "sorted"
    assert chosen(10_000, 8192, 64, 10) == "leading"  # before dense, where directions tell enough
    assert "sorted" not in (chosen(500, 3000, 16, 3000, masked=True), chosen(500, 3000, 16, 3000, metric="dot"))
    x, ctrs, _ = gaussian(n=200, n_ctrs=1000, d=8)[:3]
    assert torch.equal(knn_mc(x, ctrs, 900, 1000), in_float64(x, ctrs, 900))


def test_a_run_too_long_to_settle_is_not_sorted_before_it_climbs() -> None:
    n, d = 100, 3
    tiles = np.zeros((1, d, TILE))
    tiles[0, 0, :n] = np.arange(n)
    listed = Listed(np.ones(n), np.arange(n, dtype=np.int32), tiles)
    slots = np.arange(n, dtype=np.uint64)[::-1].copy()
    assert settle_runs(np.zeros((1, d)), 0, listed, slots, n, 5, (1e-15, 0.0), room_for_runs(d)) == np.inf
    assert (slots[::-1] == np.arange(n)).all()
