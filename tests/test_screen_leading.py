"""Leading directions never exclude wrongly, whatever they miss; they are taken where few tell nearly all."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import pytest
import torch
from torch import Tensor

from janelia_core.ml._knn.choose import make_plan
from janelia_core.ml._knn.data.leading import Leading, leading, least_outside
from janelia_core.ml._knn.data.points import Points
from janelia_core.ml._knn.report import watch_knn
from janelia_core.ml._knn.screens.tree.leading import cost
from janelia_core.ml._knn.screens.tree.leading.look import MOST_REST
from janelia_core.ml._knn.screens.tree.leading.screen import Images, LeadingScreen
from janelia_core.ml._knn.screens.tree.planted import BoxTree
from janelia_core.ml._runtime.machine import this_machine
from janelia_core.ml._runtime.workers import Workers
from plans import changed, rows_of, run
from structured import (
    ROWS,
    N,
    Pair,
    Problem,
    any_of,
    assert_answers_as_without_it,
    few_directions,
    no_direction_leads,
    normal,
)
from test_screen_dense import exact_distances

CPU = this_machine(torch.device("cpu"))
D = 40


def none_leads() -> Pair:
    return no_direction_leads(D)


def one_direction_only() -> Pair:
    return few_directions(rest=0.0)


def a_direction_that_a_sample_misses() -> Pair:
    x, ctrs = few_directions(rest=0.0)
    ctrs[1::97, 7] += 50.0
    x[:4, 7] += 50.0
    return x, ctrs


def images_alike_of_points_that_differ() -> Pair:
    x, ctrs = few_directions(rest=0.0)
    ctrs[: N // 2] = ctrs[0]
    ctrs[: N // 2, 30:] += normal(N // 2, D - 30, seed=5).sign()
    return x, ctrs


def clumps_finer_than_float32() -> Pair:
    x, ctrs = (normal(n, D, seed=n).double() * 1e-3 for n in (ROWS, N))
    return x + 3e4 * (-1.0) ** torch.arange(ROWS)[:, None], ctrs + 3e4 * (-1.0) ** torch.arange(N)[:, None]


def all_alike() -> Pair:
    return torch.ones(ROWS, D), torch.ones(N, D)


any_problem = any_of(
    few_directions,
    one_direction_only,
    none_leads,
    a_direction_that_a_sample_misses,
    images_alike_of_points_that_differ,
    clumps_finer_than_float32,
    all_alike,
)


def screen(
    ctrs: Tensor, p: int = 3, k: int = 5, change: Callable[[Leading], Leading] = lambda found: found
) -> LeadingScreen:
    workers, points = Workers(1, pool=False), Points(ctrs)
    found = change(leading(points, p))
    images, off = found.of_all(points, workers)
    return LeadingScreen(found, Images(BoxTree(Points(images), len(images)), k, k + 4, 0.0), off, points)


def assert_nothing_is_excluded_wrongly(x: Tensor, ctrs: Tensor, lister: LeadingScreen) -> None:
    found = lister.candidates(rows_of(x))
    for i, distances in enumerate(exact_distances(x, ctrs)):
        kept = {j for j in found.indices[i].tolist() if j >= 0}
        assert len(kept) == int((found.indices[i] >= 0).sum())
        assert len(kept) < len(ctrs)
        bound = float(found.excluded[i])
        assert bound < torch.inf
        if bound > -torch.inf:
            assert all(distance >= Fraction(bound) for j, distance in enumerate(distances) if j not in kept)


@any_problem
@pytest.mark.parametrize("p", [1, 5, D])
def test_every_unlisted_centre_is_at_least_as_far_as_excluded_says(problem: Problem, p: int) -> None:
    x, ctrs = problem()
    assert_nothing_is_excluded_wrongly(x[:4], ctrs, screen(ctrs, p))


def no_error_of_images(found: Leading) -> Leading:
    return found._replace(unit=0.0)


def directions_that_are_too_long(found: Leading) -> Leading:
    return found._replace(directions=found.directions * 1.1)


@pytest.mark.parametrize(
    ("problem", "loosen"),
    [(clumps_finer_than_float32, no_error_of_images), (none_leads, directions_that_are_too_long)],
)
def test_a_loosened_bound_is_caught(problem: Problem, loosen: Callable[[Leading], Leading]) -> None:
    x, ctrs = problem()
    with pytest.raises(AssertionError):
        assert_nothing_is_excluded_wrongly(x, ctrs, screen(ctrs, D, change=loosen))


@any_problem
def test_the_answer_is_that_of_a_search_without_a_screen(problem: Problem) -> None:
    assert_answers_as_without_it("leading", *problem())


@pytest.mark.parametrize(("rest", "taken"), [(0.01, "leading"), (10.0, "dense")])
def test_leading_directions_are_taken_for_few_of_them_and_for_nothing_else(
    rest: float, taken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cost, "_LEAST_WORK", 0.0)
    x, ctrs = few_directions(4000, 4000, 64, rest=rest)
    plan = make_plan.__wrapped__(4000, 4000, 64, 10, 4000, machine=CPU)
    with watch_knn() as reports:
        found = run(x, ctrs, plan)
    assert plan.screen == "leading"
    assert reports[0].plan.screen == taken
    assert torch.equal(found, run(x, ctrs, changed(plan, screen="portable")))


@pytest.mark.parametrize("rank", [5, 20, 200])
def test_a_few_points_tell_of_no_more_outside_the_leading_directions_than_a_sample_does(rank: int) -> None:
    d, most = 200, 15
    points = Points(normal(2000, rank, seed=1) @ normal(rank, d, seed=2) + 3.0)
    told, outside = least_outside(points, most), float(leading(points, most).share[-1])
    assert told <= outside + 1e-6
    assert (told > MOST_REST) == (rank == 200)


def test_points_of_fewer_directions_than_are_sought_are_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    """LAPACK finds no eigenvectors of some such points."""

    def fails(_: Tensor) -> Tensor:
        raise torch.linalg.LinAlgError("did not converge")

    monkeypatch.setattr(torch.linalg, "eigh", fails)
    source = torch.Generator().manual_seed(0)
    values = torch.cat([torch.randn(500, 9, generator=source), torch.zeros(500, 55)], dim=1)
    found = leading(Points(values), 15)
    assert found.loss < 1e-10
    assert float(found.share[-1]) < 1e-5
