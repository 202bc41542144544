"""Cells never exclude wrongly, whatever their centres are like; they are taken for clusters, and for nothing else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from janelia_core.ml._knn.choose import make_plan
from janelia_core.ml._knn.data.points import Points
from janelia_core.ml._knn.plan.plan import Plan
from janelia_core.ml._knn.report import watch_knn
from janelia_core.ml._knn.screens.dense.cells import cost
from janelia_core.ml._knn.screens.dense.cells.ceilings import Ceilings
from janelia_core.ml._knn.screens.dense.cells.centres import CellCentres
from janelia_core.ml._knn.screens.dense.cells.grouping import group
from janelia_core.ml._knn.screens.dense.cells.screen import CellScreen
from janelia_core.ml._knn.screens.dense.formats import FORMATS
from janelia_core.ml._runtime.machine import this_machine
from janelia_core.ml._runtime.workers import Workers
from janelia_core.ml._simd.dot_tiles import TILE
from janelia_core.ml.extra_torch_functions import knn_mc
from oracle import nearest
from plans import changed, run
from problems import LOW_FORMATS
from structured import ROWS, N, Pair, Problem, any_of, assert_answers_as_without_it, clusters, normal
from test_screen_dense import assert_nothing_is_excluded_wrongly

CPU = this_machine(torch.device("cpu"))


def rows_between_clusters() -> Pair:
    x, ctrs = clusters()
    return (x + x.flip(0)) / 2, ctrs


def no_clusters() -> Pair:
    return normal(ROWS, 6, seed=0), normal(N, 6, seed=1)


def lattice() -> Pair:
    source = torch.Generator().manual_seed(0)
    points = torch.randint(0, 4, (N + ROWS, 5), generator=source).float()
    points[:, 0] += 64 * torch.randint(0, 3, (N + ROWS,), generator=source)
    return points[:ROWS].clone(), points[ROWS:].clone()


any_problem = any_of(clusters, rows_between_clusters, no_clusters, lattice)


def screen(ctrs: Tensor, chosen: str, k: int = 5) -> CellScreen:
    workers = Workers(1, pool=False)
    points = Points(ctrs)
    return CellScreen(CellCentres(points, group(points, workers), FORMATS[chosen], workers, float(ctrs.abs().max())), k)


@any_problem
@pytest.mark.parametrize("chosen", [*LOW_FORMATS[:1], "float32"])
def test_every_unlisted_centre_is_at_least_as_far_as_excluded_says(problem: Problem, chosen: str) -> None:
    x, ctrs = problem()
    assert_nothing_is_excluded_wrongly(x[:4], ctrs, 5, screen(ctrs, chosen))


def no_radii_of_tiles(centres: CellCentres) -> None:
    centres.radii *= 0.0


def no_radii_of_cells(centres: CellCentres) -> None:
    centres.reach *= 0.0


def no_errors_of_scores(centres: CellCentres) -> None:
    centres.tiles.parameters[:, 1:] -= np.abs(centres.tiles.parameters[:, 1:]) * 0.02


@pytest.mark.parametrize("loosen", [no_radii_of_tiles, no_radii_of_cells, no_errors_of_scores])
def test_a_loosened_bound_is_caught(loosen: Callable[[CellCentres], None]) -> None:
    x, ctrs = no_clusters()
    loosened = screen(ctrs, "float32")
    loosen(loosened.centres)
    loosened = CellScreen(loosened.centres, 5)
    with pytest.raises(AssertionError):
        assert_nothing_is_excluded_wrongly(x, ctrs, 5, loosened)


@pytest.mark.parametrize("smallness", [1e-23, 3e-24])
def test_no_centre_is_nearer_than_the_ceiling_of_its_cell_says_where_float32_underflows_too(smallness: float) -> None:
    x, ctrs = (smallness * points for points in clusters(d=3, n_ctrs=4 * N, wide=30.0))
    cells = screen(ctrs, "float32", k=1).centres
    ceilings, _ = Ceilings(cells).of(x)
    gaps = (x.double()[:, None] - ctrs.double()) * cells.scale
    halves = gaps.square().sum(2) / -2.0
    for g, ceiling in enumerate(ceilings.T):
        places = cells.numbers[cells.first_tiles[g] * TILE : cells.first_tiles[g + 1] * TILE]
        assert (halves[:, places[places >= 0]].amax(1).numpy() <= ceiling + 1e-9 * np.abs(ceiling)).all()


@any_problem
def test_the_answer_is_that_of_a_search_without_a_screen(problem: Problem) -> None:
    assert_answers_as_without_it("cells", *problem())


@pytest.mark.parametrize(("wide", "taken"), [(10.0, "cells"), (0.0, "dense")])
def test_cells_are_taken_for_clusters_and_for_nothing_else(
    wide: float, taken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cost, "_LEAST_WORK", 0.0)
    monkeypatch.setattr(cost, "_GAIN", 10.0)
    x, ctrs = clusters(1000, 9000, 40, wide)
    plan = make_plan.__wrapped__(1000, 9000, 40, 10, 9000, machine=CPU)
    with watch_knn() as reports:
        found = run(x, ctrs, plan)
    assert plan.screen == "cells"
    assert reports[0].plan.screen == taken
    assert torch.equal(found, run(x, ctrs, changed(plan, screen="portable")))


def test_clusters_of_many_columns_are_searched_in_small_cells_and_not_by_a_sieve() -> None:
    """Cells of some clusters each were too wide for bytes, and a sieve is for data that are smooth."""
    source = torch.Generator().manual_seed(0)
    which = torch.randint(0, 30, (18_000,), generator=source)
    points = 10.0 * torch.randn(30, 520, generator=source)[which] + torch.randn(18_000, 520, generator=source)
    x, ctrs = points[:8000], points[8000:]
    with watch_knn() as reports:
        found = knn_mc(x, ctrs, 4, 10_000)
    assert reports[0].plan.screen == "cells"
    assert reports[0].n_climbed == 0
    assert torch.equal(found[:, :1], nearest(x[:1], ctrs, 4))


def test_no_cells_where_products_may_be_cut() -> None:
    def screens(exact: bool) -> list[str]:
        plan: Plan | None = make_plan(50_000, 50_000, 50, 10, 4096, machine=replace(CPU, exact_products=exact))
        found = []
        while plan is not None:
            found.append(plan.screen)
            plan = plan.otherwise
        return found

    assert "cells" in screens(exact=True)
    assert "cells" not in screens(exact=False)
