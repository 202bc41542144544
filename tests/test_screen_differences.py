"""The screen by differences finds what the definition says, however it is cut up, and its bound is needed."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from janelia_core.ml import CenterIndex, knn
from janelia_core.ml._knn.choose import make_plan
from janelia_core.ml._knn.data.points import Points
from janelia_core.ml._knn.metrics.metric import CHEBYSHEV, MANHATTAN
from janelia_core.ml._knn.screens.differences.screen import DifferencesScreen
from janelia_core.ml._runtime.machine import this_machine
from janelia_core.ml.neighbors import watch_knn
from oracle import nearest
from plans import changed, rows_of, run
from problems import PROBLEMS

CPU = this_machine(torch.device("cpu"))
HARD = ["gaussian-torch.float64", "lattice", "duplicates", "near-swapped", "far-offset", "not-finite-torch.float32"]
by_metric = pytest.mark.parametrize("metric", ["manhattan", "chebyshev"])


def points(n: int, d: int, seed: int, step: float = 0.0) -> Tensor:
    values = torch.randn(n, d, generator=torch.Generator().manual_seed(seed))
    return (values / step).round() * step if step else values


def truth(x: Tensor, ctrs: Tensor, k: int, metric: str) -> Tensor:
    """Return the nearest (n, k) by float64 distances, which are exact here or far apart."""
    far = torch.cdist(x.double(), ctrs.double(), p=1.0 if metric == "manhattan" else torch.inf)
    return far.argsort(dim=1, stable=True)[:, :k]


def searched(x: Tensor, ctrs: Tensor, k: int, metric: str, **changes: Any) -> Tensor:
    """Search with a plan whose fields were changed."""
    plan = make_plan(len(x), len(ctrs), x.shape[1], k, len(ctrs), machine=CPU, metric=metric)
    return run(x, ctrs, changed(plan, at_once_rows=0, **changes))


@by_metric
@pytest.mark.parametrize("name", HARD)
def test_neither_screen_nor_blocks_nor_workers_change_the_result(name: str, metric: str) -> None:
    x, ctrs, k, _ = PROBLEMS[name]()
    x = x[:8]
    expected = nearest(x, ctrs, k, metric=metric)
    for changes in (
        {"screen": "differences"},
        {"screen": "differences", "workers": 2, "row_block": 3},
        {"screen": "differences", "chunk": 50},
        {"screen": "tree"},
        {"screen": "tree", "workers": 2, "row_block": 3},
        {"screen": "none"},
    ):
        assert torch.equal(searched(x, ctrs, k, metric, **changes), expected), changes


@by_metric
@pytest.mark.parametrize(
    ("n", "n_ctrs", "d", "k"), [(3, 700, 1, 4), (9, 500, 16, 1), (70, 1030, 37, 300), (5, 90, 40, 90)]
)
@pytest.mark.parametrize("step", [0.0, 0.5])
def test_rows_and_centres_of_any_number_are_told_apart(
    n: int, n_ctrs: int, d: int, k: int, step: float, metric: str
) -> None:
    x, ctrs = points(n, d, 0, step), points(n_ctrs, d, 1, step)
    assert torch.equal(searched(x, ctrs, k, metric, screen="differences").T, truth(x, ctrs, k, metric))


@by_metric
def test_ties_of_integers_need_no_second_look(metric: str) -> None:
    x, ctrs = points(300, 40, 0, 1.0), points(2000, 40, 1, 1.0)
    with watch_knn() as reports:
        found = searched(x, ctrs, 20, metric, screen="differences")
    assert torch.equal(found.T, truth(x, ctrs, 20, metric))
    assert (reports[0].n_climbed, reports[0].n_exhaustive) == (0, 0)
    assert reports[0].n_candidates == 20 * len(x)


@by_metric
def test_float64_climbs_no_further_than_to_a_longer_list(metric: str) -> None:
    x, ctrs = (values.double() * (1.0 + 2.0**-40) for values in (points(300, 40, 0), points(2000, 40, 1)))
    with watch_knn() as reports:
        found = searched(x, ctrs, 20, metric, screen="differences")
    assert torch.equal(found.T, truth(x, ctrs, 20, metric))
    assert (reports[0].plan.screen, reports[0].n_exhaustive) == ("differences", 0)


@by_metric
def test_an_index_answers_few_rows_and_many_as_a_search_does(metric: str) -> None:
    for d in (3, 40):
        x, ctrs = points(300, d, 0), points(2000, d, 1)
        expected = knn(x, ctrs, 6, metric=metric)
        assert torch.equal(expected.indices, truth(x, ctrs, 6, metric))
        index = CenterIndex(ctrs, metric=metric).prepare(10**6, 6)
        for n in (1, 7, 300):
            found = index.knn(x[:n], 6)
            assert torch.equal(found.indices, expected.indices[:n])
            assert torch.equal(found.distances, expected.distances[:n])
    assert "none" not in str(index.plan(10**5, 6))


def test_masks_and_extreme_values_are_left_to_others() -> None:
    x, ctrs = points(40, 40, 0), points(2000, 40, 1)
    for factor in (1.0, 2.0**70, 2.0**-60):
        with watch_knn() as reports:
            found = searched(x * factor, ctrs * factor, 3, "manhattan", screen="differences")
        assert torch.equal(found.T, truth(x, ctrs, 3, "manhattan"))
        assert ("extreme" in reports[0].screen) == (factor != 1.0)
    mask = torch.arange(2000) % 2 == 0
    found = knn(x, ctrs, 3, metric="manhattan", mask=mask).indices
    assert torch.equal(found, 2 * truth(x, ctrs[::2], 3, "manhattan"))


@pytest.mark.parametrize("form", [MANHATTAN, CHEBYSHEV])
def test_a_bound_that_forgets_what_float32_has_lost_is_caught(form: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The centres are all at 1 in float32, and a little nearer in truth."""
    g = torch.Generator().manual_seed(1)
    ctrs = 1.0 - torch.rand(900, 3, generator=g, dtype=torch.float64) * 2.0**-26
    x = torch.full((1, 3), 1.0 - 2.0**-20, dtype=torch.float64)
    gaps = ctrs - x[0]  # exact
    far = gaps.sum(dim=1) if form == MANHATTAN else gaps.amax(dim=1)
    screen = DifferencesScreen(Points(ctrs), form, 10, False)

    def excludes_rightly() -> bool:
        found = screen.candidates(rows_of(x))
        others = far.clone()
        others[found.indices[0]] = torch.inf
        return bool(others.min() * (1.0 + 2.0**-50) >= found.excluded[0])

    assert excludes_rightly()
    monkeypatch.setattr(screen, "_norm", 0.0)
    assert not excludes_rightly()
