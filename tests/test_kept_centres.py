"""One `Centres` object, searched in every way, in turn and at once, answers as if made for each search."""

from __future__ import annotations

import gc
import itertools
import math
import random
import weakref
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from janelia_core.ml._knn import choose, meet
from janelia_core.ml._knn.choose import make_plan
from janelia_core.ml._knn.data.centres import Centres
from janelia_core.ml._knn.data.frame import Place
from janelia_core.ml._knn.data.points import Points
from janelia_core.ml._knn.plan.plan import Plan
from janelia_core.ml._knn.report import watch_knn
from janelia_core.ml._knn.screens.dense.centres import DenseCentres
from janelia_core.ml._knn.screens.dense.prepared import PreparedDense
from janelia_core.ml._knn.screens.tree.planted import BoxTree
from janelia_core.ml._knn.search import search
from janelia_core.ml._runtime.machine import this_machine
from janelia_core.ml._runtime.workers import Workers
from plans import SCREENS_HERE, changed
from problems import gaussian

CPU = this_machine(torch.device("cpu"))
SCREEN_NAMES = [*(screen.name for screen in SCREENS_HERE), "none"]


class Search(NamedTuple):
    """One search of the kept centres."""

    x: Tensor
    plan: Plan

    def among(self, centres: Centres) -> Tensor:
        return search(Points(self.x), centres, self.plan)


def crowded() -> Tensor:
    """Return centres of which some occur dozens of times and some are not finite."""
    ctrs = gaussian(n=2, n_ctrs=1500, d=5).ctrs
    ctrs = torch.cat([ctrs, ctrs[:9].repeat_interleave(40, 0)])
    ctrs[7::300, 2] = torch.nan
    return ctrs[torch.randperm(len(ctrs), generator=torch.Generator().manual_seed(3))]


FOR_DISTANCES = ("line", "sorted", "cells", "leading", "sieve")


def searches(ctrs: Tensor) -> Iterator[Search]:
    """Yield searches of all screens, metrics, k, memories and magnitudes of rows, as little alike as can be."""
    near = torch.cat([gaussian(n=20, n_ctrs=2, d=5).x, ctrs[torch.isfinite(ctrs).all(1)][:20]])
    kinds = itertools.product(SCREEN_NAMES, ("euclidean", "dot", "cosine"), (1, 60), (0, 100), (1, 64))
    for screen, metric, k, exponent, mebibytes in kinds:
        if metric != "euclidean" and screen in ("tree", *FOR_DISTANCES):
            continue
        if screen in FOR_DISTANCES and mebibytes == 1:  # which keep the same whatever the memory
            continue
        x = near[::5] * 2.0**exponent if exponent else near  # far off, every pair is compared exactly
        sizes = len(x), len(ctrs), x.shape[1], k, len(ctrs)
        plan = make_plan(*sizes, machine=CPU, metric=metric, budget=mebibytes << 20)
        yield Search(x, changed(plan, screen=screen, at_once_rows=0))


@pytest.fixture(scope="module")
def answered() -> tuple[Tensor, list[tuple[Search, Tensor]]]:
    """Centres, and searches of them with the answers of centres of their own, in an order at random."""
    ctrs = crowded()
    every = [(one, one.among(Centres(Points(ctrs)))) for one in searches(ctrs)]
    random.Random(1).shuffle(every)
    return ctrs, every


Answered = tuple[Tensor, list[tuple[Search, Tensor]]]


def differing(kept: Centres, every: list[tuple[Search, Tensor]]) -> str:
    """Return the first search that has another answer, or nothing."""
    return next((str(one.plan) for one, expected in every if not torch.equal(one.among(kept), expected)), "")


def in_turn(ctrs: Tensor, every: list[tuple[Search, Tensor]]) -> str:
    """Return a search that has another answer among centres that others used before, in one order or the other."""
    return differing(Centres(Points(ctrs)), every) or differing(Centres(Points(ctrs)), every[::-1])


def test_any_searches_in_turn_answer_as_if_each_had_centres_of_its_own(answered: Answered) -> None:
    ctrs, every = answered
    assert in_turn(ctrs, every) == ""


def test_any_searches_at_once_answer_as_if_each_had_centres_of_its_own(answered: Answered) -> None:
    ctrs, every = answered
    kept = Centres(Points(ctrs))
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda part: differing(kept, every[part::4]), range(4))) == [""] * 4


@pytest.mark.parametrize("screen", [choose.DENSE, choose.PORTABLE])
def test_what_another_form_of_metric_prepared_is_caught(
    screen: choose.Screen, answered: Answered, monkeypatch: pytest.MonkeyPatch
) -> None:
    ctrs, every = answered
    monkeypatch.setattr(meet, "key_of", lambda screen, place, plan: (screen.name, 0, screen.key(place, plan)))
    assert in_turn(ctrs, [one for one in every if one[0].plan.screen == screen.name]) != ""


def test_packed_centres_sifted_for_another_k_are_caught(answered: Answered, monkeypatch: pytest.MonkeyPatch) -> None:
    ctrs, every = answered
    monkeypatch.setattr(PreparedDense, "_key", staticmethod(lambda points, *rest: rest))
    assert in_turn(ctrs, [one for one in every if one[0].plan.screen == "dense"]) != ""


def packings(ctrs: Tensor, plans: list[tuple[Tensor, Plan]], monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, str]]:
    """Search the same centres by several plans; return form and format of each packing that was made."""
    made: list[tuple[int, str]] = []
    init = DenseCentres.__init__

    def counted(self: DenseCentres, *args: Any, **kwargs: Any) -> None:
        init(self, *args, **kwargs)
        made.append((self.form, self.format.name))

    kept = Centres(Points(ctrs))
    with monkeypatch.context() as patch:
        patch.setattr(DenseCentres, "__init__", counted)
        found = [search(Points(x), kept, plan) for x, plan in plans]
    expected = [search(Points(x), Centres(Points(ctrs)), plan) for x, plan in plans]
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))
    return made


def dense_plans(ctrs: Tensor, x: Tensor, ks: tuple[int, ...], metrics: tuple[str, ...]) -> list[tuple[Tensor, Plan]]:
    """Plans of the dense screen for several k, metrics, memories, m, and types and numbers of rows."""
    plans = []
    kinds = itertools.product(ks, metrics, (64, 256), (64, 1000), (torch.float32, torch.float64), (3, 300))
    for k, metric, mebibytes, m, dtype, rows in kinds:
        sizes = rows, *ctrs.shape, k, m
        kind = {"float32": dtype == torch.float32, "metric": metric, "budget": mebibytes << 20}
        plan = make_plan(*sizes, machine=CPU, paid=(("dense", math.inf),), **kind)
        if plan.screen != "dense":
            plan = changed(plan, screen="dense", at_once_rows=0, pack_bytes=1 << 24)
        plans.append((x[:rows].to(dtype), plan))
    return plans


def test_all_k_memories_and_types_of_rows_share_what_was_packed(monkeypatch: pytest.MonkeyPatch) -> None:
    """One packing for each form; float32 and bfloat16 where rows stay in doubt, and these once too."""
    x, ctrs, *_ = gaussian(n=300, n_ctrs=3000, d=24)
    plans = dense_plans(ctrs, x, (10, 3, 100), ("euclidean", "sqeuclidean", "dot", "cosine"))
    made = packings(ctrs, plans, monkeypatch)
    assert len(made) == len(set(made))
    first = plans[0][1].own.formats[0]
    assert sum(name == first for _, name in made) == 3


def test_of_centres_with_copies_classes_of_k_share_what_was_packed(monkeypatch: pytest.MonkeyPatch) -> None:
    ctrs = gaussian(n=2, n_ctrs=1500, d=24).ctrs.repeat_interleave(200, 0)[::67]
    ctrs = torch.cat([ctrs, ctrs[:9].repeat_interleave(200, 0)])
    made = packings(ctrs, dense_plans(ctrs, ctrs[:300] + 0.1, (2, 3, 10, 100, 40, 12), ("euclidean",)), monkeypatch)
    assert max(Counter(made).values()) == 3  # k = 2 as it came, up to 16, up to 128


@pytest.mark.parametrize("share", [0.4, 1.0, 1.5, 4.0])
def test_what_is_kept_takes_no_more_than_it_may_and_tells_so(share: float) -> None:
    """Rows climb to every format; those that do not fit are packed panel by panel, and only what rows ask is kept."""
    ctrs = gaussian(n=2, n_ctrs=5000, d=64).ctrs
    ctrs = ctrs[:1] + 1e-3 * ctrs
    kept, most = Centres(Points(ctrs)), int(share * ctrs.nbytes)
    paid = (("dense", math.inf),)
    plan = make_plan(300, *ctrs.shape, 60, len(ctrs), machine=CPU, paid=paid, keeps=most)
    plan = changed(plan, screen="dense", at_once_rows=0)
    found = [search(Points(rows), kept, plan) for rows in (ctrs[:300], ctrs[300:600])]
    assert torch.equal(torch.cat(found, 1), search(Points(ctrs[:600]), Centres(Points(ctrs)), plan))
    prepared: PreparedDense = kept._made[meet.key_of(choose.DENSE, Place(ctrs, 0), plan)]
    arrays = [(one.words, one.errs, one.packed.parameters) for one in prepared._packed.values()]
    assert prepared.nbytes == sum(array.nbytes for held in arrays for array in held) <= most
    words = 0
    for one in prepared._packed.values():  # the first formats first
        assert one.kept == (words + one.format.words_bytes(5000, 64) <= plan.own.pack_bytes)
        words += one.words.nbytes


def test_copies_that_no_memory_was_left_to_find_are_looked_for_again() -> None:
    kept, workers = Centres(Points(torch.zeros(100, 3))), Workers(1, pool=False)
    assert kept.without_copies(4, 10, workers) is kept
    assert [len(kept.without_copies(k, 1 << 20, workers)) for k in (4, 3, 5, 17, 100, 101)] == [4, 4, 16, 100, 100, 100]
    assert len(kept.without_copies(4, 10, workers)) == 4


def test_a_tree_that_serves_a_k_whose_copies_it_dropped_is_caught(
    answered: Answered, monkeypatch: pytest.MonkeyPatch
) -> None:
    ctrs, every = answered
    monkeypatch.setattr(BoxTree, "serves", lambda self, k: True)
    assert in_turn(ctrs, [one for one in every if one[0].plan.screen == "tree"]) != ""


@pytest.fixture
def planted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """For how many copies each tree of a test was planted."""
    copies: list[int] = []
    init = BoxTree.__init__

    def note(self: BoxTree, ctrs: Points, k: int, workers: Workers | None = None) -> None:
        copies.append(k)
        init(self, ctrs, k, workers)

    monkeypatch.setattr(BoxTree, "__init__", note)
    return copies


def asked_for(kept: Centres, most: int, x: Tensor) -> None:
    """Search for several k, memories and dtypes of rows by trees, and compare with searches of fresh centres."""
    for k, mebibytes, dtype in itertools.product((3, most, 1, 10, 40), (64, 100), (torch.float32, torch.float64)):
        sizes = len(x), len(kept), x.shape[1], k, len(kept)
        plan = changed(make_plan(*sizes, machine=CPU, budget=mebibytes << 20), at_once_rows=0)
        fresh = Centres(kept.points)
        exhaustive = search(Points(x.to(dtype)), fresh, changed(plan, screen="none"))
        assert torch.equal(search(Points(x.to(dtype)), kept, changed(plan, screen="tree")), exhaustive)


def test_one_tree_serves_every_k_memory_and_dtype_of_rows(planted: list[int]) -> None:
    problem = gaussian(n=50, n_ctrs=2000, d=3)
    asked_for(Centres(Points(problem.ctrs)), 128, problem.x)
    assert planted == [3]


def test_where_copies_are_dropped_classes_of_k_share_a_tree(planted: list[int]) -> None:
    problem = gaussian(n=50, n_ctrs=500, d=3)
    ctrs = torch.cat([problem.ctrs, problem.ctrs[:2].repeat(300, 1)])
    asked_for(Centres(Points(ctrs)), 128, torch.cat([problem.x, problem.ctrs[:2]]))
    assert planted == [3, 128, 16]


def test_copies_sifted_for_another_k_are_caught(answered: Answered, monkeypatch: pytest.MonkeyPatch) -> None:
    ctrs, every = answered
    sift = Centres.without_copies
    monkeypatch.setattr(Centres, "without_copies", lambda self, k, *rest: sift(self, 1, *rest))
    assert in_turn(ctrs, every) != ""


@pytest.mark.parametrize("screen", SCREEN_NAMES)
def test_nothing_of_a_call_is_alive_after_it_even_without_a_collector(screen: str) -> None:
    def alive() -> list[object]:
        x, ctrs = torch.randn(300, 5), crowded()
        plan = changed(make_plan(300, len(ctrs), 5, 4, len(ctrs), machine=CPU), screen=screen, at_once_rows=0)
        centres = Centres(Points(ctrs))
        search(Points(x), centres, plan)
        held = [weakref.ref(one) for one in (x, ctrs, centres, *centres._made.values()) if one is not None]
        del x, ctrs, centres
        return [one() for one in held if one() is not None]

    alive()  # what the first call loads may keep its frames
    gc.collect()
    gc.disable()
    try:
        assert alive() == []
    finally:
        gc.enable()


def test_a_tree_that_a_look_speaks_against_goes_unless_another_search_planted_it() -> None:
    problem = gaussian(n=4000, n_ctrs=20_000, d=16)
    x, ctrs = Points(problem.x), Points(problem.ctrs)
    plan = make_plan(4000, 20_000, 16, 5, 20_000, machine=CPU)
    key = meet.key_of(choose.TREE, Place(problem.x, 0), plan)
    kept, fresh = Centres(ctrs), Centres(ctrs)
    expected = search(x, kept, changed(plan, own=None, otherwise=None))  # a tree without a look
    with watch_knn() as reports:
        assert all(torch.equal(search(x, centres, plan), expected) for centres in (kept, fresh))
    assert [report.plan.screen for report in reports] == ["dense"] * 2
    assert kept.holds(key)
    assert not fresh.holds(key)


@pytest.mark.parametrize("n_smps", [1, 50, 2000, 10_000])
@pytest.mark.parametrize("d", [64, 784])
def test_what_may_be_kept_takes_no_memory_of_the_rows(n_smps: int, d: int) -> None:
    """Words of all formats, which would fill the memory of a call, made blocks of one row and plans beyond it."""
    plans = [make_plan(n_smps, 60_000, d, 10, 60_000, machine=CPU, keeps=most) for most in (1 << 26, 1 << 28, 1 << 30)]
    assert max(plan.workspace_bytes for plan in plans) <= plans[0].problem.budget
    assert {plan.blocks.rows for plan in plans} == {plans[0].blocks.rows}
