"""The codebook screen: many rows meet few centres in one pass, which answers those that its scores prove."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from janelia_core.ml._knn.answers import Answers
from janelia_core.ml._knn.choose import CODEBOOK, make_plan
from janelia_core.ml._knn.data.centres import Centres
from janelia_core.ml._knn.data.points import Points
from janelia_core.ml._knn.plan.plan import Plan
from janelia_core.ml._knn.report import Report, watch_knn
from janelia_core.ml._knn.screens.codebook import book, cost, screen
from janelia_core.ml._knn.screens.codebook.halves import Halves
from janelia_core.ml._knn.search import search
from janelia_core.ml._runtime.machine import this_machine
from janelia_core.ml._simd.row_halves import SERVES
from janelia_core.ml._simd.row_lanes import ROWS
from janelia_core.ml.extra_torch_functions import knn_mc
from oracle import nearest
from plans import changed
from problems import KINDS, PROBLEMS, gaussian

CPU = this_machine(torch.device("cpu"))
METRICS = ("euclidean", "dot", "cosine")
MANY = 5000


def planned(x: Tensor, n_ctrs: int, k: int, metric: str = "euclidean", **fields: object) -> Plan:
    plan = make_plan(len(x), n_ctrs, x.shape[1], k, n_ctrs, machine=CPU, metric=metric)
    return changed(plan, screen="codebook", at_once_rows=0, **fields)


def searched(x: Tensor, ctrs: Tensor, k: int, metric: str = "euclidean", **fields: object) -> tuple[Tensor, Report]:
    with watch_knn() as reports:
        found = search(Points(x), Centres(Points(ctrs)), planned(x, len(ctrs), k, metric, **fields))
    return found, reports[0]


def in_float64(x: Tensor, ctrs: Tensor, k: int, metric: str = "euclidean") -> Tensor:
    """Return answers by float64 values, for data without near-ties."""
    x, ctrs = x.double(), ctrs.double()
    if metric == "euclidean":
        values = ((x[:, None] - ctrs) ** 2).sum(dim=2)
    else:
        values = -(x @ (ctrs / ctrs.norm(dim=1, keepdim=True) if metric == "cosine" else ctrs).T)
    return values.argsort(dim=1, stable=True)[:, :k].T


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("name", KINDS)
def test_answers_are_those_of_the_definition(name: str, metric: str, monkeypatch: pytest.MonkeyPatch) -> None:
    x, ctrs, k, _ = PROBLEMS[name]()
    x = x[:5]
    expected = nearest(x, ctrs, len(ctrs), metric)
    for most in (1, k, len(ctrs)):
        assert torch.equal(searched(x, ctrs, most, metric)[0], expected[:most])
    monkeypatch.setattr(cost, "halved", lambda *_: True)
    assert torch.equal(searched(x, ctrs, 1, metric)[0], expected[:1])


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.int16])
def test_every_row_meets_every_centre_in_all_coordinates(dtype: torch.dtype, metric: str) -> None:
    for d, n_ctrs, k in ((1, 2, 1), (2, 5, 5), (3, 16, 1), (7, 33, 3), (17, 100, 1), (40, 65, 12)):
        some = gaussian(torch.float32, n=2 * ROWS + 3, n_ctrs=n_ctrs, d=d)
        x, ctrs = ((some.x * 50).to(dtype), (some.ctrs * 50).to(dtype))
        expected = nearest(x[-9:], ctrs, k, metric)
        for workers in (1, 2):
            found, report = searched(x, ctrs, k, metric, workers=workers, chunk=1 << 8)
            assert torch.equal(found[:, -9:], expected)
            if dtype in (torch.float32, torch.float64) and d > 1:
                assert torch.equal(found, in_float64(x, ctrs, k, metric))
                assert report.n_exhaustive <= 2


def test_rows_and_results_may_be_of_any_strides_and_centres_a_subset() -> None:
    x, ctrs, _ = gaussian(n=MANY, n_ctrs=90, d=6)[:3]
    expected = in_float64(x, ctrs[1::2], 2) * 2 + 1
    wide = torch.empty(MANY, 12)
    wide[:, ::2] = x
    for rows in (x, wide[:, ::2], x.T.contiguous().T):
        out = torch.full((MANY, 4), -7)
        odd = Centres(Points(ctrs, torch.arange(1, 90, 2)))
        search(Points(rows), odd, planned(x, 45, 2), answers=Answers(out[:, ::2].T))
        assert torch.equal(out[:, ::2].T, expected)
        assert bool((out[:, 1::2] == -7).all())


@pytest.mark.parametrize("k", [1, 3])
def test_near_ties_are_put_in_order_where_scores_alone_would_be_wrong(k: int, monkeypatch: pytest.MonkeyPatch) -> None:
    ctrs = gaussian(n=1, n_ctrs=40, d=5).ctrs
    g = torch.Generator().manual_seed(4)
    one, other = (torch.randint(0, 40, (600,), generator=g) for _ in range(2))
    x = ((ctrs[one].double() + ctrs[other].double()) / 2).float()  # one rounding from a tie, mostly of no first places
    near = in_float64(x, ctrs, 40).T[:, :1] == one[:, None]
    x = x[(near | (in_float64(x, ctrs, 40).T[:, :1] == other[:, None]))[:, 0]]
    expected = nearest(x, ctrs, k)
    found, report = searched(x, ctrs, k)
    assert torch.equal(found, expected)
    assert report.n_exhaustive < len(x) // 10
    monkeypatch.setattr(book, "_apart", lambda *_: (0.0, 0.0))
    assert not torch.equal(searched(x, ctrs, k)[0], expected)


def with_no_margin(halves: Callable[..., Halves], *given: object) -> Halves:
    return halves(*given)._replace(sure=np.zeros(3))


@pytest.mark.skipif(not SERVES, reason="scores in bfloat16 want AVX512-BF16")
@pytest.mark.parametrize("metric", METRICS)
def test_groups_that_bfloat16_scores_leave_out_hold_no_answer(metric: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for d, dtype in ((9, torch.float32), (32, torch.float64)):
        x, ctrs, _ = gaussian(dtype, n=2000, n_ctrs=300, d=d)[:3]
        expected = in_float64(x, ctrs, 1, metric)
        found, report = searched(x, ctrs, 1, metric)
        assert torch.equal(found, expected)
        assert report.n_exhaustive <= 10
        with monkeypatch.context() as patch:
            patch.setattr(book, "_halves", functools.partial(with_no_margin, book._halves))
            assert not torch.equal(searched(x, ctrs, 1, metric)[0], expected)


def test_far_from_the_origin_hardly_a_row_is_in_doubt() -> None:
    x, ctrs, _ = gaussian(torch.float64, n=MANY, n_ctrs=50, d=3)[:3]
    for dtype, off in ((torch.float32, 1e4), (torch.float64, 1e9)):
        far_x, far_ctrs = (x + off).to(dtype), (ctrs + off).to(dtype)
        found, report = searched(far_x, far_ctrs, 1)
        assert torch.equal(found, in_float64(far_x, far_ctrs, 1))
        assert report.n_exhaustive == 0


def test_rows_that_are_not_finite_or_of_extreme_magnitude_leave_the_others_alone() -> None:
    x, ctrs, _ = gaussian(n=MANY, n_ctrs=30, d=4)[:3]
    expected = in_float64(x, ctrs, 2)
    odd = torch.tensor([3, 64, 700, 2500, 4999])
    x[odd, torch.tensor([0, 1, 2, 3, 0])] = torch.tensor([torch.nan, torch.inf, -torch.inf, 3e38, 1e-45])
    found, report = searched(x, ctrs, 2)
    expected[:, odd] = nearest(x[odd], ctrs, 2)
    assert torch.equal(found, expected)
    assert report.n_exhaustive <= 5


@pytest.mark.parametrize("k", [1, 3])
def test_ties_on_a_lattice_and_copies_are_answered_by_the_pass(k: int) -> None:
    g = torch.Generator().manual_seed(2)
    for ctrs in (torch.randint(0, 8, (60, 3), generator=g) * 0.5, torch.randn(20, 3, generator=g).repeat(3, 1)):
        x = torch.randint(0, 8, (MANY, 3), generator=g) * 0.5
        found, report = searched(x, ctrs, k, sifts=True)
        assert torch.equal(found[:, :200], nearest(x[:200], ctrs, k))
        assert report.n_exhaustive == 0


def test_the_pass_gives_way_where_it_would_prove_little(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(screen, "_PROBED", 4096)
    g = torch.Generator().manual_seed(3)
    half, x = torch.randn(20, 4, generator=g), torch.randn(MANY, 4, generator=g)
    ctrs = torch.cat([half, half * torch.tensor([-1.0, 1.0, 1.0, 1.0])])
    x[:, 0] = 0.0  # as far from each centre as from its image
    for rows, gives_way in ((x, True), (x + 0.5, False)):
        with watch_knn() as reports:
            found = knn_mc(rows, ctrs, 1, 40)
        assert torch.equal(found[:, :50], nearest(rows[:50], ctrs, 1))
        assert ("too little" in reports[0].look) == gives_way
        assert (reports[0].plan.screen == "codebook") != gives_way


def test_plans_name_it_for_many_rows_and_few_centres_alone() -> None:
    named = {
        sizes: make_plan(*sizes, sizes[1], machine=CPU).screen
        for sizes in (
            (100_000, 16, 3, 1),
            (100_000, 256, 64, 1),
            (5_000, 100, 8, 1),
            (50, 100_000, 8, 1),
            (500, 16, 3, 1),
        )
    }
    assert [screen == CODEBOOK.name for screen in named.values()] == [True, True, True, False, False]
    assert make_plan(100_000, 16, 3, 1, 16, machine=CPU, masked=True).screen != CODEBOOK.name
