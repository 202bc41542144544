"""The sieve never excludes wrongly, whatever its centres are like; it is taken where few directions tell much."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from janelia_core.ml._knn.choose import make_plan
from janelia_core.ml._knn.data.centres import Centres
from janelia_core.ml._knn.data.leading import leading, refined
from janelia_core.ml._knn.data.points import Points
from janelia_core.ml._knn.report import watch_knn
from janelia_core.ml._knn.screens.dense.sieve import cost, screen
from janelia_core.ml._knn.screens.dense.sieve.image_kernels import QUARTERS
from janelia_core.ml._knn.screens.dense.sieve.images import Images
from janelia_core.ml._knn.screens.dense.sieve.prepared import meshes_of
from janelia_core.ml._knn.screens.dense.sieve.screen import Meshes, SieveScreen
from janelia_core.ml._runtime.machine import this_machine
from janelia_core.ml._runtime.workers import Workers
from janelia_core.ml._simd.dot_tiles import compiles
from plans import changed, rows_of, run
from structured import ROWS, N, Pair, Problem, any_of, assert_answers_as_without_it, few_directions, no_direction_leads
from test_screen_dense import assert_nothing_is_excluded_wrongly

if not compiles("int8"):
    pytest.skip("bytes are not multiplied here", allow_module_level=True)
CPU = this_machine(torch.device("cpu"))
COLUMNS, RANK = 70, 6
ALONE = Workers(1, pool=False)


def smooth(n: int = ROWS, n_ctrs: int = N, d: int = COLUMNS, rest: float = 0.3) -> Pair:
    return few_directions(n, n_ctrs, d, RANK, rest)


def none_leads() -> Pair:
    return no_direction_leads(COLUMNS)


def pixels() -> Pair:
    x, ctrs = (points.mul(40).round().clamp(-128, 127) for points in smooth())
    return x, ctrs


any_problem = any_of(smooth, none_leads, pixels)


def meshes(ctrs: Tensor, directions: int = RANK) -> Meshes:
    points = Points(ctrs)
    return meshes_of(Centres(points), Images(refined(leading(points, directions), points, 256, ALONE)), ALONE)


@any_problem
@pytest.mark.parametrize("directions", [1, RANK, COLUMNS])
def test_every_unlisted_centre_is_at_least_as_far_as_excluded_says(problem: Problem, directions: int) -> None:
    x, ctrs = problem()
    assert_nothing_is_excluded_wrongly(x[:4], ctrs, 5, SieveScreen(meshes(ctrs, directions), 5))


@any_problem
@pytest.mark.parametrize("directions", [1, RANK, COLUMNS])
def test_images_are_off_by_no_more_than_they_say(problem: Problem, directions: int) -> None:
    points = torch.cat([one.double() for one in problem()])
    images = Images(leading(Points(points), directions))
    found, off = images.of(points)
    v, turned = points - images.leading.middle, images.leading.directions
    y = v @ turned
    rest = (v - y @ turned.T).norm(dim=1)
    expected = torch.cat([y, (rest[:, None] / 2).expand(-1, QUARTERS)], dim=1)
    gap = (found.double() - expected).norm(dim=1)
    rounding = 1e-13 * (points.norm(dim=1) + v.norm(dim=1))  # of what is expected
    assert (gap <= off + rounding).all()
    assert (off <= 2e-2 * v.norm(dim=1) + rounding + 2.0**-99).all()


@pytest.mark.parametrize("problem", [smooth, pixels])
def test_images_of_columns_that_lead_by_far_are_off_by_little(problem: Problem) -> None:
    ctrs = problem()[1]
    images = Images(leading(Points(ctrs), RANK))
    v = ctrs.double() - images.leading.middle
    assert (images.of(ctrs)[1] <= 2e-3 * v.norm(dim=1)).all()


def test_thresholds_that_near_images_tell_spare_a_third_of_the_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    x, ctrs = smooth(n=200, n_ctrs=20 * N)
    stand, passed, sieve = meshes(ctrs), [], screen.sieve
    monkeypatch.setattr(screen, "sieve", lambda *arguments: passed.append(sieve(*arguments)))
    for _ in range(2):
        SieveScreen(stand, 5).candidates(rows_of(x))
        monkeypatch.setattr(screen, "raise_thresholds", lambda *arguments: None)
    assert passed[0] < 2 / 3 * passed[1]


def test_most_centres_are_left_out_unseen_where_few_directions_tell_much(monkeypatch: pytest.MonkeyPatch) -> None:
    passed, sieve = [], screen.sieve
    monkeypatch.setattr(screen, "sieve", lambda *arguments: passed.append(sieve(*arguments)))
    x, ctrs = smooth(n_ctrs=5 * N)
    assert assert_nothing_is_excluded_wrongly(x[:4], ctrs, 5, SieveScreen(meshes(ctrs), 5)) == 1.0
    assert sum(passed) < 4 * len(ctrs) / 8


def no_errors_of_images(stand: Meshes) -> Meshes:
    stand.fine.parameters[:, 1:] -= np.abs(stand.fine.parameters[:, 1:]) * 0.1
    return stand


def no_errors_over_all_columns(stand: Meshes) -> Meshes:
    stand.whole.parameters[:, 1:] -= np.abs(stand.whole.parameters[:, 1:]) * 0.1
    return stand


def directions_that_are_too_long(stand: Meshes) -> Meshes:
    stand.images.leading = stand.images.leading._replace(loss=-1.0)
    return stand


def images_nearer_than_they_are(stand: Meshes) -> Meshes:
    return stand._replace(off=-2.0)


@pytest.mark.parametrize(
    "loosen",
    [no_errors_of_images, no_errors_over_all_columns, directions_that_are_too_long, images_nearer_than_they_are],
)
def test_a_loosened_bound_is_caught(loosen: Callable[[Meshes], Meshes]) -> None:
    x, ctrs = smooth(rest=0.0)
    with pytest.raises(AssertionError):
        assert_nothing_is_excluded_wrongly(x, ctrs, 5, SieveScreen(loosen(meshes(ctrs)), 5))


@any_problem
def test_the_answer_is_that_of_a_search_without_a_screen(problem: Problem) -> None:
    assert_answers_as_without_it("sieve", *problem())


@pytest.mark.parametrize(("beside", "taken"), [(0.1, True), (10.0, False)])
def test_a_sieve_is_taken_where_few_directions_tell_much_and_nowhere_else(
    beside: float, taken: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cost, "_LEAST_WORK", 0.0)
    monkeypatch.setattr(cost, "MOST_WORK", 5.0)
    x, ctrs = smooth(800, 6000, 256, beside)
    plan = make_plan.__wrapped__(800, 6000, 256, 10, 6000, machine=CPU)
    while plan.screen != "sieve":
        assert plan.otherwise is not None
        plan = plan.otherwise
    with watch_knn() as reports:
        found = run(x, ctrs, plan)
    assert (reports[0].plan.screen == "sieve") == taken
    assert torch.equal(found, run(x, ctrs, changed(plan, screen="dense")))


@pytest.mark.parametrize("keeps", [0, 1 << 28, 1 << 30])
def test_blocks_of_rows_are_as_long_whatever_may_be_kept_of_the_centres(keeps: int) -> None:
    plan = make_plan(10_000, 60_000, 784, 10, 4096, machine=CPU, keeps=keeps)
    while plan.screen != "sieve":
        assert plan.otherwise is not None
        plan = plan.otherwise
    assert plan.blocks.rows >= 512


def test_a_sieve_is_weighed_against_all_that_the_dense_screen_has_still_to_do() -> None:
    plan = make_plan(3_000, 30_000, 784, 10, 4096, machine=CPU)
    problem, screens = plan.problem, []
    packed = problem._replace(paid=(("dense", math.inf),))
    assert cost.rival_work(packed) == cost.rows_work(problem) < cost.rival_work(problem)
    while plan is not None:
        screens.append(plan.screen)
        plan = plan.otherwise
    assert "sieve" in screens
