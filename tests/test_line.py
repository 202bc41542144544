"""Centres of one coordinate: sorted once, and every row walks outward, to the exact order."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from janelia_core.ml._knn.answers import Answers
from janelia_core.ml._knn.choose import make_plan
from janelia_core.ml._knn.data.centres import Centres
from janelia_core.ml._knn.data.points import Points
from janelia_core.ml._knn.report import watch_knn
from janelia_core.ml._knn.search import search
from janelia_core.ml._runtime.machine import this_machine
from janelia_core.ml.extra_torch_functions import knn_do, knn_mc
from oracle import nearest
from plans import changed

CPU = this_machine(torch.device("cpu"))


def searched(x: Tensor, ctrs: Tensor, k: int, subset: Tensor | None = None, **fields: object) -> Tensor:
    points = Points(ctrs, subset)
    plan = changed(
        make_plan(len(x), len(points), 1, k, len(points), machine=CPU), at_once_rows=0, screen="line", **fields
    )
    return search(Points(x), Centres(points), plan)


def numbers() -> dict[str, tuple[Tensor, Tensor]]:
    """Return rows and centres."""
    g = torch.Generator().manual_seed(0)
    x, c = torch.randn(40, 1, generator=g), torch.randn(90, 1, generator=g)
    scales = 2.0 ** torch.linspace(-120, 60, 90)[:, None]
    third, near = torch.full((1, 1), 1 / 3).double(), 1.0 + 2.0**-50
    halfway = torch.tensor([[1.0 + 2.0**-23], [-(2.0**-60)], [1.0], [-1.0], [2.0**-60], [0.0], [-0.0], [3.0]])
    return {
        "float32": (x, c),
        "float64": (x.double() * (1.0 + 2.0**-40), c.double()),
        "float16": (x.half(), c.half()),
        "integers": ((x * 4).long(), (c * 4).long()),
        "lattice": ((x * 4).round() / 4, (c * 4).round() / 4),
        "copies": (x, c[:7].repeat(9, 1)),
        "all alike": (torch.zeros(2, 1), torch.zeros(50, 1)),
        "many magnitudes": (x[:9] * scales[::10], c * scales),
        "subnormal": (x * 1e-44, c * 1e-44),
        "differences that round": (halfway, torch.cat([halfway, halfway * (1.0 + 2.0**-20), -halfway])),
        "the same in float64": (halfway * third, torch.cat([halfway * third, halfway * near, -halfway])),
        "not finite": (x.where(x < 1.0, torch.inf), c.where(c < 1.5, torch.nan).where(c > -1.5, -torch.inf)),
        "undefined rows": (x.where(x < 1.0, torch.nan), c),
        "huge": (x * 1e38, c * 1e38),
    }


@pytest.mark.parametrize("name", numbers())
def test_answers_are_those_of_the_definition(name: str) -> None:
    x, ctrs = numbers()[name]
    expected = nearest(x, ctrs, len(ctrs))
    for k in (1, 5, len(ctrs)):
        assert torch.equal(searched(x, ctrs, k, workers=2, pooled=True), expected[:k])


def test_nothing_is_in_doubt_but_rows_that_are_not_finite() -> None:
    for name, (x, ctrs) in numbers().items():
        with watch_knn() as reports:
            searched(x, ctrs, 7)
        finite = bool(torch.isfinite(x.double()).all()) and bool(torch.isfinite(ctrs.double()).all())
        assert (reports[0].n_exhaustive == 0) or not finite or name == "huge"


def test_differences_that_are_alike_when_rounded_are_told_apart() -> None:
    # 1 - 2^-60 to one side and 1 + 2^-60 to the other: both are 1 when rounded.
    x, ctrs = torch.zeros(1, 1, dtype=torch.float64), torch.tensor([[1.0], [-1.0]], dtype=torch.float64)
    x += 2.0**-60
    assert searched(x, ctrs, 2).T.tolist() == [[0, 1]]
    assert searched(-x, ctrs, 2).T.tolist() == [[1, 0]]
    assert searched(x, ctrs.flip(0), 2).T.tolist() == [[1, 0]]
    assert searched(-x, ctrs.flip(0), 2).T.tolist() == [[0, 1]]


def test_of_many_centres_and_of_some_of_them_the_nearest_are_found() -> None:
    g = torch.Generator().manual_seed(1)
    for n_ctrs in (1, 2, 3, 64, 65, 5000):
        x, ctrs = torch.randn(70, 1, generator=g), torch.randn(n_ctrs, 1, generator=g)
        k, far = min(9, n_ctrs), (x.double() - ctrs.double().T).abs()
        assert torch.equal(searched(x, ctrs, k), far.sort(dim=1, stable=True).indices[:, :k].T)
    some = torch.arange(3, 5000, 7)
    expected = some[far[:, some].sort(dim=1, stable=True).indices[:, :9]].T
    assert torch.equal(searched(x, ctrs, 9, some), expected)


def test_rows_do_not_meet_themselves() -> None:
    ctrs = torch.arange(60.0)[torch.randperm(60, generator=torch.Generator().manual_seed(2))][:, None].repeat(2, 1)
    found = torch.empty(4, 120, dtype=torch.int64)
    plan = changed(make_plan(120, 120, 1, 5, 120, machine=CPU), at_once_rows=0, screen="line")
    search(Points(ctrs), Centres(Points(ctrs)), plan, None, Answers(found, but_self=True))
    every = (ctrs - ctrs.T).abs().sort(dim=1, stable=True).indices
    for i in range(120):
        assert found[:, i].tolist() == [j for j in every[i].tolist() if j != i][:4]


def test_the_line_is_planned_for_one_coordinate_alone() -> None:
    def chosen(n_smps: int, n_ctrs: int, d: int, k: int, **fields: object) -> str:
        return make_plan(n_smps, n_ctrs, d, k, n_ctrs, machine=CPU, **fields).screen

    for n in (1000, 10_000, 100_000, 10**6):
        assert chosen(n, n, 1, 5) == "line"
    assert chosen(1000, 1000, 1, 1000) == "line"
    assert "line" not in (chosen(1000, 1000, 2, 5), chosen(1000, 1000, 1, 5, metric="dot"), chosen(1, 10**6, 1, 5))
    assert chosen(1000, 1000, 1, 5, masked=True) != "line"
    x = torch.randn(3000, 1, generator=torch.Generator().manual_seed(3))
    assert torch.equal(knn_mc(x, x, 4, 3000), (x - x.T).double().abs().sort(dim=1, stable=True).indices[:, :4].T)
    assert knn_do(x, x, 4, 3000, 1500).shape == (4, 3000)
