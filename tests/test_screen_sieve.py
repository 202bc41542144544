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
from test_screen_dense import assert_nothing_is_excluded_wrongly

if not compiles("int8"):
    pytest.skip("bytes are not multiplied here", allow_module_level=True)
CPU = this_machine(torch.device("cpu"))
N, ROWS, COLUMNS, RANK = 900, 12, 70, 6
ALONE = Workers(1, pool=False)
Problem = tuple[Tensor, Tensor]


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def few_directions(n: int = ROWS, n_ctrs: int = N, d: int = COLUMNS, beside: float = 0.3) -> Problem:
    points = normal(n + n_ctrs, RANK, seed=1) @ normal(RANK, d, seed=2) + beside * normal(n + n_ctrs, d, seed=3)
    return points[:n].contiguous(), points[n:].contiguous()


def no_direction_leads() -> Problem:
    return normal(ROWS, COLUMNS, seed=0), normal(N, COLUMNS, seed=1)


def pixels() -> Problem:
    x, ctrs = (points.mul(40).round().clamp(-128, 127) for points in few_directions())
    return x, ctrs


def near_ties_beside_the_leading_directions() -> Problem:
    x, ctrs = few_directions()
    ring = normal(N // 2, COLUMNS, seed=3)
    ctrs[::2] = x[0] + ring / ring.norm(dim=1, keepdim=True)
    return x, ctrs


def duplicates() -> Problem:
    x, ctrs = few_directions(n_ctrs=30)
    return x, ctrs.repeat(N // 30, 1)


def far_origin() -> Problem:
    x, ctrs = few_directions()
    return x + 1e5, ctrs + 1e5


def in_float64() -> Problem:
    x, ctrs = few_directions()
    return x.double() * (1 + 2.0**-40), ctrs.double() * (1 + 2.0**-40)


def a_centre_and_a_row_far_out() -> Problem:
    x, ctrs = few_directions()
    ctrs[7] *= 1e6
    x[1] *= 1e9
    return x, ctrs


def tiny() -> Problem:
    x, ctrs = few_directions()
    return x * 2.0**-30, ctrs * 2.0**-30


def rows_are_centres_among_zeros() -> Problem:
    ctrs = few_directions()[1]
    ctrs[100:500] = 0.0
    return ctrs[:ROWS].clone(), ctrs


PROBLEMS = [
    few_directions,
    no_direction_leads,
    pixels,
    near_ties_beside_the_leading_directions,
    duplicates,
    far_origin,
    in_float64,
    a_centre_and_a_row_far_out,
    tiny,
    rows_are_centres_among_zeros,
]
any_problem = pytest.mark.parametrize("problem", PROBLEMS)


def meshes(ctrs: Tensor, directions: int = RANK) -> Meshes:
    points = Points(ctrs)
    return meshes_of(Centres(points), Images(refined(leading(points, directions), points, 256, ALONE)), ALONE)


@any_problem
@pytest.mark.parametrize("directions", [1, RANK, COLUMNS])
def test_every_unlisted_centre_is_at_least_as_far_as_excluded_says(
    problem: Callable[[], Problem], directions: int
) -> None:
    x, ctrs = problem()
    assert_nothing_is_excluded_wrongly(x[:4], ctrs, 5, SieveScreen(meshes(ctrs, directions), 5))


@any_problem
@pytest.mark.parametrize("directions", [1, RANK, COLUMNS])
def test_images_are_off_by_no_more_than_they_say(problem: Callable[[], Problem], directions: int) -> None:
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


@pytest.mark.parametrize("problem", [few_directions, pixels])
def test_images_of_columns_that_lead_by_far_are_off_by_little(problem: Callable[[], Problem]) -> None:
    ctrs = problem()[1]
    images = Images(leading(Points(ctrs), RANK))
    v = ctrs.double() - images.leading.middle
    assert (images.of(ctrs)[1] <= 2e-3 * v.norm(dim=1)).all()


def test_thresholds_that_near_images_tell_spare_a_third_of_the_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    x, ctrs = few_directions(n=200, n_ctrs=20 * N)
    stand, passed, sieve = meshes(ctrs), [], screen.sieve
    monkeypatch.setattr(screen, "sieve", lambda *arguments: passed.append(sieve(*arguments)))
    for _ in range(2):
        SieveScreen(stand, 5).candidates(rows_of(x))
        monkeypatch.setattr(screen, "raise_thresholds", lambda *arguments: None)
    assert passed[0] < 2 / 3 * passed[1]


def test_most_centres_are_left_out_unseen_where_few_directions_tell_much(monkeypatch: pytest.MonkeyPatch) -> None:
    passed, sieve = [], screen.sieve
    monkeypatch.setattr(screen, "sieve", lambda *arguments: passed.append(sieve(*arguments)))
    x, ctrs = few_directions(n_ctrs=5 * N)
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
    x, ctrs = few_directions(beside=0.0)
    with pytest.raises(AssertionError):
        assert_nothing_is_excluded_wrongly(x, ctrs, 5, SieveScreen(loosen(meshes(ctrs)), 5))


@any_problem
def test_the_answer_is_that_of_a_search_without_a_screen(problem: Callable[[], Problem]) -> None:
    x, ctrs = problem()
    plan = changed(make_plan(len(x), len(ctrs), x.shape[1], 5, len(ctrs), machine=CPU), at_once_rows=0)
    expected = run(x, ctrs, changed(plan, screen="none"))
    for workers in (1, 2):
        assert torch.equal(run(x, ctrs, changed(plan, screen="sieve", workers=workers, row_block=7)), expected)


@pytest.mark.parametrize(("beside", "taken"), [(0.1, True), (10.0, False)])
def test_a_sieve_is_taken_where_few_directions_tell_much_and_nowhere_else(
    beside: float, taken: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cost, "_LEAST_WORK", 0.0)
    monkeypatch.setattr(cost, "MOST_WORK", 5.0)
    x, ctrs = few_directions(800, 6000, 256, beside)
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
