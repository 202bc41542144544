"""Plans for a GPU: pure arithmetic, which promises the memory that the Triton screen takes."""

from __future__ import annotations

import itertools

import pytest

from janelia_core.ml._knn.choose import make_plan
from janelia_core.ml._knn.plan.demand import Cost
from janelia_core.ml._knn.problem import Problem
from janelia_core.ml._knn.screens.triton import cost
from janelia_core.ml._knn.screens.triton.cost import Settings
from janelia_core.ml._runtime.gpu import Gpu
from janelia_core.ml._runtime.machine import Machine

H100 = Machine(gpu=Gpu())
SIZES = [
    Problem(n, n_ctrs, d, k, n_ctrs, machine=Machine(gpu=Gpu(chip, descriptors=chip >= 90)), masked=masked)
    for n, n_ctrs, d, k, chip, masked in itertools.product(
        (1, 100, 10**5), (5000, 10**6), (16, 128, 768), (1, 100, 1000), (80, 89, 90), (False, True)
    )
]
SERVED = [problem for problem in SIZES if not cost.why_not(problem, 1)]


def test_turns_ascend_and_end_with_the_last_tile() -> None:
    assert len(SERVED) > len(SIZES) // 2
    for problem in SERVED:
        assert problem.machine.gpu
        settings = cost._settings(problem, problem.machine.gpu)
        assert list(settings.edges) == sorted(set(settings.edges))
        assert settings.edges[-1] == -(-problem.n_ctrs // settings.tile.ctrs)
        assert settings.whole == (len(settings.edges) == 1)
        assert settings.groups * settings.edges[0] >= problem.k
        assert settings.whole or settings.groups == 8
        wider = cost.again(settings)
        assert wider.whole
        assert wider.edges == settings.edges[-1:]
        assert wider.cap >= settings.cap
        assert wider.keep > settings.keep > problem.k


@pytest.mark.parametrize("room", [1 << 24, 1 << 28, 1 << 34])
def test_memory_that_is_promised_covers_blocks_of_rows_and_fits(room: int) -> None:
    said = 0
    for problem in SERVED:
        demand = cost.demand(problem, room, 1, Cost(float("inf")))
        if isinstance(demand, str):
            said += 1
            continue
        settings = demand.own
        assert isinstance(settings, Settings)
        assert problem.machine.gpu
        held = cost._held(problem, problem.machine.gpu)
        assert held + settings.rows * cost.bytes_of_row(settings, problem) <= demand.held <= room
        assert held + settings.again * cost.bytes_of_row(cost.again(settings), problem) <= demand.held
        assert 1 <= settings.rows <= problem.n_smps
    assert (said > 0) == (room < 1 << 34)


def test_what_it_does_not_serve_has_a_reason() -> None:
    problem = Problem(100, 10**6, 64, 10, 10**6, machine=H100)
    assert cost.why_not(problem, 1) == ""
    for other, word in (
        (problem._replace(machine=Machine()), "GPU"),
        (problem._replace(machine=Machine(no_gpu="too old")), "too old"),
        (problem._replace(d=5000), "5000 coordinates"),
        (problem._replace(k=3000), "2048 neighbours"),
        (problem._replace(n_ctrs=500, k=400), "too many"),
    ):
        assert word in cost.why_not(other, 1)


def test_plans_of_large_searches_name_it_and_print() -> None:
    for masked, metric in itertools.product((False, True), ("euclidean", "cosine", "dot")):
        plan = make_plan(10**4, 10**6, 64, 10, 10**6, machine=H100, budget=1 << 34, metric=metric, masked=masked)
        assert plan.screen == "triton"
        assert "triton" in str(plan)
        assert plan.sifts


def test_more_of_anything_takes_no_less() -> None:
    for n, n_ctrs in itertools.product((1, 1000, 10**6), (10**5, 10**7)):
        problem = Problem(n, n_ctrs, 64, 10, n_ctrs, machine=H100)
        work = cost.cost(problem).work
        for more in (problem._replace(n_smps=2 * n), problem._replace(n_ctrs=2 * n_ctrs), problem._replace(d=128)):
            assert cost.cost(more).work > work
