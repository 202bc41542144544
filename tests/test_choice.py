"""The choice between tree and dense follows the data, says why, and changes no answer."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from janelia_core.ml._knn.choose import make_plan
from janelia_core.ml._knn.data.centres import Centres
from janelia_core.ml._knn.data.frame import survey
from janelia_core.ml._knn.data.points import Points
from janelia_core.ml._knn.plan.plan import Plan
from janelia_core.ml._knn.problem import Problem
from janelia_core.ml._knn.report import Report, watch_knn
from janelia_core.ml._knn.screens.contract import Asked
from janelia_core.ml._knn.screens.dense import cost as dense
from janelia_core.ml._knn.screens.tree.cost import Look, Trees, Walk, plan_look, plan_trees
from janelia_core.ml._knn.screens.tree.forest import Forest, PreparedTrees
from janelia_core.ml._knn.search import search
from janelia_core.ml._runtime.machine import Machine, this_machine
from janelia_core.ml._runtime.workers import Workers
from janelia_core.ml.extra_torch_functions import knn_mc
from oracle import nearest
from plans import changed, run
from problems import KINDS, PROBLEMS

CPU = Machine(on_cpu=True, kernels=True, threads=2)
SHAPE = (4000, 20_000, 16, 5)


def gaussian(n: int, d: int, seed: int) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def on_a_line(n: int, d: int, seed: int) -> Tensor:
    return torch.rand(n, 1, generator=torch.Generator().manual_seed(seed)) * torch.arange(1.0, d + 1)


def clustered(n: int, d: int, seed: int) -> Tensor:
    return gaussian(40, d, 99)[torch.arange(n) % 40] + 0.01 * gaussian(n, d, seed)


def many_clusters(n: int, d: int, seed: int) -> Tensor:
    return gaussian(1500, d, 99)[torch.arange(n) % 1500] + 0.01 * gaussian(n, d, seed)


@pytest.mark.parametrize(
    ("data", "d", "screen"),
    [
        (gaussian, 3, "tree"),
        (gaussian, 32, "dense"),
        (on_a_line, 16, "tree"),
        (clustered, 32, "tree"),
        (lambda n, d, seed: torch.full((n, d), 0.1), 32, "tree"),
    ],
)
def test_the_data_decide_and_the_report_says_why(data: Callable[..., Tensor], d: int, screen: str) -> None:
    n, n_ctrs, _, k = SHAPE
    x, ctrs = data(n, d, 1), data(n_ctrs, d, 2)
    with watch_knn() as reports:
        found = knn_mc(x, ctrs, k, n_ctrs)
        again = knn_mc(x, ctrs, k, n_ctrs)
    assert [report.plan.screen for report in reports] == [screen] * 2
    assert reports[0].look == reports[1].look
    assert "of the dense product's work" in str(reports[0])
    plan = make_plan(n, n_ctrs, d, k, n_ctrs, machine=this_machine(x.device))
    other = plan.otherwise if screen == "tree" else replace(plan, own=None)  # a tree, without a look
    assert other is not None
    assert (other.screen == "dense") == (screen == "tree")
    some = slice(None, None, 8)  # of equal points the dense product certifies none: 4 ms a row
    assert torch.equal(run(x[some], ctrs, other), found[:, some])
    assert torch.equal(again, found)


@pytest.mark.parametrize(
    ("data", "d", "screen", "words"),
    [
        (gaussian, 24, "dense", "of the dense product's work"),
        (on_a_line, 24, "tree", "rows walked a box tree: "),
        (many_clusters, 24, "tree", "rows walked a box tree: "),
    ],
)
def test_a_tree_over_few_centres_tells_that_none_pays_unless_all_centres_hold_nearer_ones(
    data: Callable[..., Tensor], d: int, screen: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of many small clusters a sample holds a centre or two each, so that a tree over it looks as if it were none."""
    n, n_ctrs, k = 4000, 20_000, 5
    planted: list[int] = []
    plant = PreparedTrees._planted
    monkeypatch.setattr(
        PreparedTrees, "_planted", lambda self, ctrs, *rest: (planted.append(len(ctrs)), plant(self, ctrs, *rest))[1]
    )
    with watch_knn() as reports:
        knn_mc(data(n, d, 1), data(n_ctrs, d, 2), k, n_ctrs)
    assert reports[0].plan.screen == screen
    assert words in reports[0].look
    assert planted == [n_ctrs] * (screen == "tree")


def test_few_rows_look_at_one_centre_in_six_before_the_whole_tree() -> None:
    n, n_ctrs, d = 600, 60_000, 32
    plan = make_plan(n, n_ctrs, d, 5, n_ctrs, machine=CPU)
    assert plan.own.strides == (6, 1)
    plan = replace(plan, own=replace(plan.own, dense=1.0))
    with watch_knn() as reports:
        run(many_clusters(n, d, 1), many_clusters(n_ctrs, d, 2), plan)
    assert "1 in 6 centres" in reports[0].look
    assert reports[0].plan.screen == "dense"


@pytest.mark.parametrize(("kind", "screen"), [("gaussian", "dense"), ("line", "tree"), ("equal", "tree")])
def test_where_only_the_dense_screens_failure_makes_a_tree_pay_crowded_centres_tell(kind: str, screen: str) -> None:
    """Of points on a line float32 scores cannot tell dozens apart, in whatever dimensions."""
    n, n_ctrs, d, k = 300, 60_000, 32, 10

    def points(rows: int, seed: int) -> Tensor:
        if kind == "gaussian":
            return gaussian(rows, d, seed)
        along = torch.rand(rows, 1, generator=torch.Generator().manual_seed(seed))
        return along * torch.arange(1.0, d + 1) if kind == "line" else torch.full((rows, d), 0.1)

    x, ctrs = points(n, 1), points(n_ctrs, 2)
    plan = make_plan(n, n_ctrs, d, k, n_ctrs, machine=replace(CPU, formats=("int8", "float32")))
    assert plan.own.strides == ()
    plan = replace(plan, otherwise=changed(plan.otherwise or plan, formats=("float32",)))
    with watch_knn() as reports:
        found = run(x, ctrs, plan)
    assert reports[0].plan.screen == screen
    some = slice(None, None, 30)
    exhaustive = changed(plan, screen="none")
    assert torch.equal(run(x[some], ctrs, exhaustive), found[:, some])


def test_in_few_dimensions_and_for_many_rows_the_whole_tree_is_looked_at_at_once() -> None:
    for shape in ((300, 20_000, 3, 5), (20_000, 20_000, 32, 5)):
        plan = make_plan(*shape, m=10**6, machine=CPU)
        assert plan.screen == "tree"
        assert plan.own.strides == (1,)


def test_rows_looked_at_come_from_all_over_x() -> None:
    n = 150_000
    near = gaussian(n // 2, 2, 1)
    x, ctrs = torch.cat([near, near + 1000.0]), torch.cat([gaussian(4000, 2, 2), torch.rand(4000, 2) + 1000.0])
    plan = changed(make_plan(n, len(ctrs), 2, 5, n, machine=CPU), screen="tree", own=None)
    with Workers(1, pool=False) as workers:
        centres, frame = Centres(Points(ctrs)), survey(Points(x), Points(ctrs))
        asked = Asked(Points(x), centres, lambda: frame, plan, Report(plan), workers)
        forest = Forest(PreparedTrees(centres.points), asked)
        assert forest.pays()
        forest._rows = 1 << 14
        sample = forest._sampled()
    assert (sample < n // 2).sum() == (sample >= n // 2).sum()


def test_a_sample_of_fewer_than_k_centres_can_be_looked_at() -> None:
    x, ctrs, k = gaussian(3000, 4, 1), gaussian(900, 4, 2), 120
    plan = make_plan(3000, 900, 4, k, 900, machine=CPU)
    look = plan_look(plan.problem, dense.cost(plan.problem), Trees(1, 3000, 0))
    assert look is not None
    forced = changed(plan, screen="tree", own=replace(look, strides=(8, 1)))
    expected = run(x, ctrs, changed(plan, screen="none"))
    assert torch.equal(run(x, ctrs, forced), expected)


@pytest.mark.parametrize(
    ("shape", "screen"),
    [((10, 500_000, 32, 5), "direct"), ((20_000, 20_000, 33, 5), "leading"), ((20_000, 20_000, 3, 129), "sorted")],
)
def test_no_look_is_planned_where_no_data_make_a_tree_pay(shape: tuple[int, int, int, int], screen: str) -> None:
    plan: Plan | None = make_plan(*shape, m=10**6, machine=CPU, budget=2**30)
    named = []
    while plan is not None:
        named.append(plan.screen)
        plan = plan.otherwise
    assert (named[0], named[-1]) == (screen, "dense")
    assert "tree" not in named


def test_the_plan_promises_the_memory_of_whichever_screen_needs_more() -> None:
    plan = make_plan(*SHAPE, m=10**6, machine=CPU, budget=2**28)
    assert plan.otherwise is not None
    assert plan.workspace_bytes == plan.otherwise.workspace_bytes


def test_a_walk_that_opens_more_leaves_takes_a_larger_share() -> None:
    problem = Problem(*SHAPE, 10**6)
    look = plan_look(problem, dense.cost(problem), Trees(1, SHAPE[0], 0))
    assert look is not None
    shares = [look.share(Walk(boxes, 4 * boxes, 20.0), 1) for boxes in (1.0, 10.0, 1000.0)]
    assert shares == sorted(shares)
    assert shares[0] < 1.0 < shares[2]
    assert look.share(Walk(1.0, 4.0, 20.0), 8) > shares[0]


def test_a_choice_leaves_the_random_state_alone() -> None:
    before = torch.random.get_rng_state()
    knn_mc(gaussian(4000, 32, 1), gaussian(6000, 32, 2), 5, 6000)
    assert torch.equal(torch.random.get_rng_state(), before)


def in_parts(x: Tensor, ctrs: Tensor, k: int, trees: Trees) -> tuple[Tensor, Report]:
    """Search by several trees, whatever they cost."""
    plan = make_plan(len(x), len(ctrs), x.shape[1], k, len(ctrs), machine=this_machine(x.device))
    look = Look(len(x), len(ctrs), x.shape[1], k, rows=16, strides=(trees.parts,), dense=1e30, trees=trees)
    with watch_knn() as reports:
        tree = changed(plan, screen="tree", own=look, at_once_rows=0, workers=2)
        found = run(x, ctrs, replace(tree, otherwise=changed(plan, screen="dense", at_once_rows=0, workers=2)))
    return found, reports[0]


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("trees", [Trees(1, 7, 0), Trees(2, 10**6, 0), Trees(3, 5, 0)])
def test_trees_over_parts_of_the_centres_find_the_same(name: str, trees: Trees) -> None:
    x, ctrs, k, _ = PROBLEMS[name]()
    if k > len(ctrs) // trees.parts:
        k = len(ctrs) // trees.parts
    assert torch.equal(in_parts(x, ctrs, k, trees)[0], nearest(x, ctrs, k))


def test_rows_that_no_list_certifies_are_left_open_and_answered_at_the_end() -> None:
    steps = torch.arange(900)[torch.randperm(900, generator=torch.Generator().manual_seed(0))]
    ctrs = (1.0 + steps.double() * 2.0**-40)[:, None]  # float32 sees one point
    x = torch.tensor([[1.0], [2.0], [0.5]], dtype=torch.float64)
    found, report = in_parts(x, ctrs, 4, Trees(3, 2, 0))
    assert torch.equal(found, nearest(x, ctrs, 4))
    assert report.n_screened == 2 * len(x)  # once by trees, once more by the portable screen


def test_where_few_centres_are_finite_no_tree_is_left_with_fewer_than_k() -> None:
    x, ctrs, k = gaussian(50, 3, 1), gaussian(900, 3, 2), 4
    ctrs[:, 0] = torch.where(torch.arange(900) % 100 == 7, ctrs[:, 0], torch.inf)  # 9 are left for 3 trees
    found, report = in_parts(x, ctrs, k, Trees(3, 20, 0))
    assert torch.equal(found, nearest(x, ctrs, k))
    assert report.screen == "dense: fewer than k centres of a tree are finite"


def test_more_centres_than_the_memory_holds_are_split_between_trees() -> None:
    n, n_ctrs, d, k = 20_000, 400_000, 8, 5
    budget = (22 + 12) << 20
    plan = make_plan(n, n_ctrs, d, k, n_ctrs, machine=CPU, budget=budget)
    assert plan.screen == "tree"
    assert plan.own.trees.parts > 1
    assert plan.own.trees.bytes <= budget
    assert plan_trees(10**9, 10**6, 3, True, 64 << 20) == Trees(1, 2 * 10**6, 22 * 10**6 + 13 * 2 * 10**6)
    assert plan_trees(10**9, 10**6, 3, True, 32 << 20) == Trees(1, 322638, 22 * 10**6 + 13 * 322638)
    assert plan_trees(1000, 10**6, 32, True, 1 << 20) is None


def test_rows_are_put_in_order_chunk_by_chunk_where_their_order_takes_too_much() -> None:
    x, ctrs = gaussian(1000, 3, 1), gaussian(3000, 3, 2)
    whole, chunked = (in_parts(x, ctrs, 4, Trees(1, rows, 0))[0] for rows in (1000, 130))
    assert torch.equal(whole, chunked)


STANDS = (("tree", math.inf), ("dense", math.inf))


def test_a_tree_that_stands_is_looked_at_itself_and_takes_no_memory_of_the_call() -> None:
    for n, n_ctrs, d in ((600, 60_000, 32), (600, 1_000_000, 3)):
        shape, budget = (n, n_ctrs, d, 5, n_ctrs), 40 << 20
        fresh = make_plan(*shape, machine=CPU, budget=budget)
        standing = make_plan(*shape, machine=CPU, budget=budget, paid=STANDS)
        assert standing.screen == "tree"
        assert standing.own.strides == (1,)
        assert standing.own.trees == Trees(1, n, 13 * n)
        assert fresh.screen != "tree" or fresh.own.strides != (1,) or fresh.own.trees.parts > 1


def test_few_rows_among_kept_centres_go_by_what_rows_took_before() -> None:
    n_ctrs, d, k = 20_000, 3, 5
    ctrs, x = gaussian(n_ctrs, d, 2), gaussian(2000, d, 1)
    kept = Centres(Points(ctrs))
    for n, look in ((2000, "32 rows walked"), (300, "rows of a search before"), (2000, "32 rows walked")):
        plan = make_plan(n, n_ctrs, d, k, n_ctrs, machine=CPU, paid=STANDS)
        with watch_knn() as reports:
            found = search(Points(x[:n]), kept, plan)
        assert reports[0].plan.screen == "tree"
        assert look in reports[0].look
        assert torch.equal(found, run(x[:n], ctrs, changed(plan, screen="none")))


def test_where_rows_took_too_long_before_no_tree_is_walked_or_planted_again() -> None:
    n_ctrs, d, k = 20_000, 24, 5
    ctrs, x = gaussian(n_ctrs, d, 2), gaussian(4000, d, 1)
    kept = Centres(Points(ctrs))
    plan = make_plan(4000, n_ctrs, d, k, n_ctrs, machine=CPU)
    search(Points(x), kept, changed(plan, screen="tree", own=None, otherwise=None))  # plants the tree
    planted = [value for value in kept._made.values() if isinstance(value, PreparedTrees)]
    for n in (4000, 500):
        plan = make_plan(n, n_ctrs, d, k, n_ctrs, machine=CPU, paid=STANDS)
        plan = replace(plan, own=replace(plan.own, strides=(6, 1)))
        before = planted[0].standing(k)
        with watch_knn() as reports:
            search(Points(x[:n]), kept, plan)
        assert reports[0].plan.screen == "dense"
        assert "1 in 6" not in reports[0].look
        assert planted[0].standing(k) is before
    assert "rows of a search before" in reports[0].look
