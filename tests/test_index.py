"""An index answers as `knn` does, to the byte, whatever it keeps and was asked before."""

from __future__ import annotations

import copy
import itertools
import math
import os
import pickle
import random
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from janelia_core.ml import CenterIndex, Neighbors, knn
from janelia_core.ml._index import few_rows
from janelia_core.ml._index.saving import for_file, taken_apart
from janelia_core.ml._index.stored.errors import IndexFileError
from janelia_core.ml._index.stored.saved import save
from janelia_core.ml._knn.choose import SCREENS, building, make_plan, rows_alone, why_not
from janelia_core.ml._knn.kept import Kept
from janelia_core.ml._knn.plan.plan import Plan
from janelia_core.ml._knn.report import Report, watch_knn
from janelia_core.ml._knn.screens.tree.forest import PreparedTrees
from janelia_core.ml._runtime.machine import Machine
from oracle import nearest
from problems import PLANE, gaussian, lattice

CPU = Machine(on_cpu=True, kernels=True, formats=("int8", "float32"), threads=2)


def same(found: Neighbors, expected: Neighbors) -> bool:
    """Whether two answers are the same bytes."""
    pairs = zip(found, expected, strict=True)
    return all(a.dtype == b.dtype and a.numpy().tobytes() == b.numpy().tobytes() for a, b in pairs)


def crowded(n: int, d: int, seed: int = 0) -> Tensor:
    """Centres with copies, near-ties, a lattice and a far cluster among them."""
    g = torch.Generator().manual_seed(seed)
    ctrs = torch.randn(n, d, generator=g)
    ctrs[: n // 8] = (ctrs[: n // 8] * 4).round()
    ctrs[n // 8 : n // 6] = ctrs[n // 2 : n // 2 + n // 6 - n // 8]
    ctrs[n // 6 : n // 5] *= 1.0 + 2.0**-22
    ctrs[n // 5 : n // 4] += 1000.0
    return ctrs[torch.randperm(n, generator=g)]


def rows_of(ctrs: Tensor, n: int, seed: int) -> Tensor:
    """Rows at random, on centres, and between them."""
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(n, ctrs.shape[1], generator=g)
    some = torch.randint(len(ctrs), (n,), generator=g)
    x[::3] = ctrs[some[::3]]
    x[1::3] = ((ctrs[some[1::3]] * 4).round() + 0.5) / 4
    return x


def tree_and_dense() -> Iterator[tuple[Tensor, str]]:
    for d, metrics in ((3, ("cosine",)), (24, ("euclidean", "dot"))):
        for metric in metrics:
            yield crowded(20_000, d), metric


@pytest.mark.parametrize(
    ("ctrs", "metric"), [pytest.param(*one, id=f"{one[0].shape[1]}-{one[1]}") for one in tree_and_dense()]
)
def test_rows_few_and_many_are_answered_as_by_knn_before_and_after_anything_is_kept(ctrs: Tensor, metric: str) -> None:
    index = CenterIndex(ctrs, metric=metric)
    for turn, n in enumerate((1, 7, 100, 1500, 3000, 1, 2, 60, 700)):
        for k in (1, 10, 40):
            x = rows_of(ctrs, n, turn)
            assert same(index.knn(x, k), knn(x, ctrs, k, metric=metric)), (turn, n, k)
    assert 0 < index.nbytes <= len(ctrs) * max(6 * ctrs.shape[1], 80)
    assert any(f"{name} (" in repr(index) for name in ("tree", "dense"))


def test_the_first_rows_are_right_by_an_oracle_too() -> None:
    ctrs = crowded(1500, 3)
    index = CenterIndex(ctrs).prepare(100_000, 10)
    x = rows_of(ctrs, 9, 5)
    assert torch.equal(index.knn(x, 12).indices.T, nearest(x, ctrs, 12))
    problem = lattice()
    found = CenterIndex(problem.ctrs).prepare(100_000, problem.k).knn(problem.x, problem.k)
    assert torch.equal(found.indices.T, problem.answer)


def test_what_is_kept_serves_several_k_metrics_and_types_of_rows() -> None:
    ctrs = crowded(20_000, 24)
    index = CenterIndex(ctrs).prepare(100_000, 10)
    kept = index.nbytes
    for k in (1, 3, 10, 15):
        for metric in ("euclidean", "sqeuclidean"):
            for dtype in (torch.float32, torch.float64, torch.float16):
                x = rows_of(ctrs, 600, k).to(dtype)
                assert same(index.knn(x, k, metric=metric), knn(x, ctrs, k, metric=metric))
    assert index.nbytes <= 2.5 * kept  # finer formats, where rows stay in doubt


def call_at_random(index: CenterIndex, left: Tensor, choice: random.Random) -> None:
    """Ask an index something, and compare with `knn`."""
    ctrs, k = index.ctrs, choice.choice((1, 4, 10, 33))
    x = rows_of(ctrs, choice.choice((1, 2, 30, 500, 2500)), choice.randrange(1000))
    x = x.to(choice.choice((torch.float32, torch.float32, torch.float64)))
    mask = torch.zeros(len(ctrs), dtype=torch.bool)
    mask[left] = True
    settings: dict[str, Any] = {"metric": choice.choice(("euclidean", *PLANE))}
    asked = dict(settings)
    if choice.random() < 0.2:
        own = torch.rand(len(ctrs), generator=torch.Generator().manual_seed(choice.randrange(99))) < 0.5
        asked["mask"], mask = own, mask & own
    if choice.random() < 0.2:
        asked["m"], asked["max_memory"] = 100, 8 << 20
    if choice.random() < 0.3:
        x = x[: len(x) // 2 * 2].unflatten(0, (2, -1)) if len(x) > 1 else x[None]
    expected = knn(x, ctrs, k, mask=None if bool(mask.all()) else mask, **settings)
    assert same(index.knn(x, k, **asked), expected), (x.shape, k, asked.keys(), index)


Change = Callable[[CenterIndex, Tensor, random.Random], tuple[CenterIndex, Tensor]]


def add(index: CenterIndex, left: Tensor, choice: random.Random) -> tuple[CenterIndex, Tensor]:
    more = crowded(choice.choice((1, 20, 900, 5000)) + 8, index.ctrs.shape[1], choice.randrange(99))
    n = len(index.ctrs)
    return index.with_rows(more), torch.cat([left, torch.arange(n, n + len(more))])


def remove(index: CenterIndex, left: Tensor, choice: random.Random) -> tuple[CenterIndex, Tensor]:
    g = torch.Generator().manual_seed(choice.randrange(99))
    gone = left[torch.rand(len(left), generator=g) < choice.choice((0.0005, 0.01, 0.4))]
    return index.without(gone), left[~torch.isin(left, gone)]


def pickled(index: CenterIndex, left: Tensor, choice: random.Random) -> tuple[CenterIndex, Tensor]:
    return pickle.loads(pickle.dumps(index)), left


def copied(index: CenterIndex, left: Tensor, choice: random.Random) -> tuple[CenterIndex, Tensor]:
    return copy.deepcopy(index), left


def saved(index: CenterIndex, left: Tensor, choice: random.Random) -> tuple[CenterIndex, Tensor]:
    with tempfile.TemporaryDirectory() as folder:
        index.save(f"{folder}/index")
        return CenterIndex.load(f"{folder}/index", mmap=choice.random() < 0.7), left


CHANGES: list[Change] = [add, add, remove, remove, pickled, copied, saved, saved]


@pytest.mark.parametrize("d", [3, 20])
def test_a_walk_of_calls_and_changes_never_leaves_the_answers_of_knn(d: int) -> None:
    choice = random.Random(d)
    index, left = CenterIndex(crowded(6000, d)), torch.arange(6000)
    earlier: list[tuple[CenterIndex, Tensor]] = []
    for _ in range(20):
        for _ in range(choice.randrange(1, 4)):
            call_at_random(index, left, choice)
        earlier.append((index, left))
        index, left = choice.choice(CHANGES)(index, left, choice)
        assert len(index) == len(left)
        if choice.random() < 0.3:
            call_at_random(*choice.choice(earlier), choice)  # an older index goes on as it was


def test_rows_added_one_by_one_stay_in_few_parts_and_copy_no_centres() -> None:
    index = CenterIndex(crowded(5000, 4)).with_rows(torch.zeros(1, 4))
    where = index.ctrs.data_ptr()
    for i in range(300):
        index = index.with_rows(torch.full((1, 4), float(i)))
    assert index.ctrs.data_ptr() == where
    assert len(index._among.parts) <= 3
    assert index.knn(torch.full((1, 4), 299.0), 1).indices.tolist() == [[5300]]


def test_two_indices_that_grow_from_one_do_not_see_each_other() -> None:
    first = CenterIndex(torch.zeros(3, 2)).with_rows(torch.ones(1, 2))
    one, other = first.with_rows(torch.full((1, 2), 2.0)), first.with_rows(torch.full((2, 2), 3.0))
    assert one.ctrs[4:].tolist() == [[2.0, 2.0]]
    assert other.ctrs[4:].tolist() == [[3.0, 3.0]] * 2
    assert first.knn(torch.full((1, 2), 3.0), 9).indices.tolist() == [[3, 0, 1, 2, -1, -1, -1, -1, -1]]


def test_who_is_removed_is_no_neighbour_and_others_keep_their_numbers() -> None:
    index = CenterIndex(torch.arange(6.0)[:, None])
    fewer = index.without(torch.tensor([4, 1])).without(torch.tensor([1]))
    assert (len(index), len(fewer)) == (6, 4)
    assert (index.numbers.tolist(), fewer.numbers.tolist()) == ([0, 1, 2, 3, 4, 5], [0, 2, 3, 5])
    assert fewer.knn(torch.tensor([[1.2]]), 6).indices.tolist() == [[2, 0, 3, 5, -1, -1]]
    assert fewer.without(torch.arange(6)).knn(torch.tensor([[1.0]]), 1).indices.tolist() == [[-1]]
    assert fewer.with_rows(torch.tensor([[1.0]])).knn(torch.tensor([[1.2]]), 2).indices.tolist() == [[6, 2]]


def test_centres_among_themselves_are_not_their_own_neighbours() -> None:
    ctrs = crowded(3000, 3)
    index = CenterIndex(ctrs).prepare(100_000, 10)
    assert same(index.knn(k=5), knn(ctrs, k=5))
    more = index.with_rows(crowded(6000, 3, 1))
    assert same(more.knn(k=5), knn(more.ctrs, k=5))


def test_masks_samples_and_lengths_are_those_of_knn() -> None:
    ctrs = crowded(4000, 3)
    index = CenterIndex(ctrs).prepare(100_000, 5)
    x = rows_of(ctrs, 40, 1).view(2, 20, 3)
    pairs = torch.rand(2, 20, 4000, generator=torch.Generator().manual_seed(0)) < 0.3
    assert same(index.knn(x, 5, mask=pairs), knn(x, ctrs, 5, mask=pairs))
    lengths = torch.tensor([3, 20])
    assert same(index.knn(x, 5, lengths=lengths), knn(x, ctrs, 5, lengths=lengths))
    draws = [torch.Generator().manual_seed(7) for _ in range(2)]
    sampled = index.knn(x, 5, sample=50, generator=draws[0])
    assert same(sampled, knn(x, ctrs, 5, sample=50, generator=draws[1]))

    def odd(rows: Tensor, first: int, last: int) -> Tensor:
        return ((rows[:, None] + torch.arange(first, last)) % 2 == 1).expand(len(rows), -1)

    assert same(index.knn(x[0], 5, mask=odd), knn(x[0], ctrs, 5, mask=odd))


@pytest.mark.parametrize("metric", PLANE)
def test_distances_are_differentiable_in_rows_and_centres_as_those_of_knn(metric: str) -> None:
    ctrs, x = crowded(9000, 3).requires_grad_(), rows_of(crowded(9000, 3), 30, 2).requires_grad_()
    index = CenterIndex(ctrs, metric=metric).prepare(100_000, 4)
    grown = index.with_rows(torch.ones(4, 3)).without(torch.tensor([0]))
    for found, expected in (
        (index.knn(x, 4), knn(x, ctrs, 4, metric=metric)),
        (grown.knn(x, 4), knn(x, grown.ctrs, 4, metric=metric, mask=torch.arange(9004) != 0)),
    ):
        weights = torch.linspace(0, 1, 4)
        one, other = (torch.autograd.grad((each.distances * weights).sum(), (x, ctrs)) for each in (found, expected))
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_threads_ask_one_index_a_thousand_times_and_nothing_kept_is_written() -> None:
    ctrs = crowded(8000, 3)
    index = CenterIndex(ctrs)
    asked = [(rows_of(ctrs, n, n), k) for n, k in ((1, 10), (3, 1), (40, 20), (700, 5), (2500, 10))]
    expected = [knn(x, ctrs, k) for x, k in asked]
    grads = [
        (torch.autograd.grad(knn(a, ctrs, k).distances.sum(), a)[0])
        for a, k in ((x.requires_grad_(), k) for x, k in asked)
    ]
    asked = [(x.detach(), k) for x, k in asked]

    def ask(number: int) -> bool:
        place = random.Random(number).choices(range(5), (8, 8, 4, 1, 1))[0]
        x, k = asked[place]
        if number % 5:
            return same(index.knn(x, k), expected[place])
        x = x.clone().requires_grad_()
        return torch.equal(torch.autograd.grad(index.knn(x, k).distances.sum(), x)[0], grads[place])

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(ask, range(200)))
        before = arrays_of(index)
        assert before
        assert all(pool.map(ask, range(200, 1000)))
    after = arrays_of(index)
    assert all(after[place] == contents for place, contents in before.items() if place in after)


def arrays_of(of: object, seen: dict[int, bytes] | None = None, held: set[int] | None = None) -> dict[int, bytes]:
    """Return the contents of all arrays that something keeps, by their place in memory."""
    seen, held = {} if seen is None else seen, set() if held is None else held
    if id(of) in held or isinstance(of, type | threading.Thread):
        return seen
    held.add(id(of))
    if isinstance(of, np.ndarray):
        seen[of.ctypes.data] = of.tobytes()
    elif isinstance(of, dict):
        for value in list(of.values()):
            arrays_of(value, seen, held)
    elif isinstance(of, list | tuple):
        for value in of:
            arrays_of(value, seen, held)
    elif type(of).__module__.startswith("janelia_core"):
        arrays_of(vars(of) if hasattr(of, "__dict__") else {}, seen, held)
    return seen


def test_a_child_that_was_forked_while_a_thread_prepared_answers() -> None:
    if not hasattr(os, "fork"):
        pytest.skip("no fork here")
    ctrs = crowded(30_000, 3)
    index = CenterIndex(ctrs)
    x = rows_of(ctrs, 5, 1)
    expected = knn(x, ctrs, 3).indices.numpy().tobytes()
    with index._among.parts[0].kept.centres._making, index._among.parts[0].kept.centres._lock:
        child = threading.Thread(target=lambda: results.append(_child(index, x, expected)))
        results: list[int] = []
        child.start()
        child.join()
    assert results == [0]


def _child(index: CenterIndex, x: Tensor, expected: bytes) -> int:
    number = os.fork()
    if number == 0:
        torch.set_num_threads(1)
        os._exit(0 if index.knn(x, 3).indices.numpy().tobytes() == expected else 1)
    return os.waitstatus_to_exitcode(os.waitpid(number, 0)[1])


def test_with_no_memory_nothing_is_kept_and_answers_are_the_same() -> None:
    ctrs = crowded(20_000, 3)
    index = CenterIndex(ctrs, max_memory=0)
    for n in (3000, 1, 3000, 1):
        x = rows_of(ctrs, n, n)
        assert same(index.knn(x, 10), knn(x, ctrs, 10))
    assert index.nbytes == 0
    assert "nothing" in repr(index)


@pytest.mark.parametrize("share", [0.2, 0.6, 1.2])
def test_what_is_kept_fits_the_memory(share: float) -> None:
    ctrs = crowded(20_000, 16)
    index = CenterIndex(ctrs, max_memory=int(share * ctrs.nbytes))
    for metric in ("euclidean", "cosine", "dot", "euclidean"):
        for n in (2000, 1, 2000):
            x = rows_of(ctrs, n, n)
            assert same(index.knn(x, 10, metric=metric), knn(x, ctrs, 10, metric=metric))
            assert index.nbytes <= share * ctrs.nbytes


def test_centres_changed_in_place_are_an_error_never_an_old_answer() -> None:
    ctrs = crowded(1000, 3)
    index = CenterIndex(ctrs)
    index.knn(ctrs[:2], 1)
    ctrs[5] += 1.0
    for ask in (
        lambda: index.knn(ctrs[:2], 1),
        lambda: index.with_rows(ctrs),
        lambda: index.without(torch.tensor([1])),
    ):
        with pytest.raises(
            RuntimeError, match=r"changed in place since this CenterIndex was made.*CenterIndex\(ctrs\)"
        ):
            ask()


@pytest.mark.parametrize(
    ("wrong", "error", "says"),
    [
        (lambda c, i: CenterIndex(c[0]), ValueError, r"ctrs must have shape \(n_ctrs, d\), got \(3,\)"),
        (lambda c, i: CenterIndex(c.numpy()), TypeError, "torch.from_numpy"),
        (lambda c, i: CenterIndex(c, metric="l2"), ValueError, "'sqeuclidean'"),
        (lambda c, i: CenterIndex(c, max_memory=-1), ValueError, "max_memory must be at least 0 bytes.*got -1"),
        (lambda c, i: CenterIndex(c, max_memory=1.5), TypeError, "max_memory must be an int.*float"),
        (lambda c, i: i.knn(c, 0), ValueError, "k must be at least 1, got 0"),
        (lambda c, i: i.knn(c[:, :2], 1), ValueError, "same number of columns"),
        (lambda c, i: i.knn(c, 1, metric="ip"), ValueError, "'dot'"),
        (lambda c, i: i.with_rows(c.double()), TypeError, "more must be of ctrs' dtype torch.float32"),
        (lambda c, i: i.with_rows(c[:, :2]), ValueError, r"more must have shape \(n, 3\)"),
        (lambda c, i: i.without([1]), TypeError, "torch.as_tensor"),
        (lambda c, i: i.without(torch.tensor([50])), ValueError, "between 0 and 49"),
        (lambda c, i: i.without(torch.tensor([True])), TypeError, "mask.nonzero"),
        (lambda c, i: i.plan(5, 51), ValueError, "k must be at most n_ctrs = 50"),
        (lambda c, i: i.prepare(0), ValueError, "n_smps must be at least 1, got 0"),
        (lambda c, i: knn(c, i, 1), TypeError, r"got CenterIndex; call its own method: index.knn\(x, k\)"),
    ],
)
def test_errors_name_the_argument_the_value_and_the_remedy(wrong: Any, error: type[Exception], says: str) -> None:
    ctrs = torch.randn(50, 3)
    with pytest.raises(error, match=says):
        wrong(ctrs, CenterIndex(ctrs))


def test_a_plan_tells_what_would_run() -> None:
    ctrs = crowded(30_000, 3)
    index = CenterIndex(ctrs)
    assert index.plan(1).screen != "tree"
    assert index.prepare(100_000).plan(1).screen == "tree"
    with watch_knn() as reports:
        index.knn(ctrs[:1], 1)
    assert reports[0].plan.screen == "tree"


def _streams() -> Iterator[list[int]]:
    choice = random.Random(0)
    yield from ([1] * 3000, [5000] * 4, [1, 100_000], [16] * 400, [100_000])
    for _ in range(30):
        yield [choice.choice((1, 1, 1, 3, 10, 100, 1000, 20_000)) for _ in range(choice.choice((5, 60, 600)))]


@pytest.mark.parametrize(("n_ctrs", "d"), [(1_000_000, 3), (100_000, 384), (20_000, 16)])
def test_no_more_than_twice_the_work_of_the_best_choice_in_hindsight(n_ctrs: int, d: int) -> None:
    """By the costs that plans are made by, for the choice between a pass, packed words and a tree that stands."""
    for stream in _streams():
        spent, kept = 0.0, _Costed(n_ctrs, d)
        for n_smps in stream:
            spent += kept.search(n_smps)
        assert spent <= 2.0 * kept.best(stream) * (1 + 1e-9), (stream[:9], kept.standing)


class _Costed:
    """Kept centres of which only the costs are real."""

    def __init__(self, n_ctrs: int, d: int) -> None:
        self.n_ctrs, self.d, self.standing = n_ctrs, d, set[str]()
        self._kept = Kept(torch.empty(1, d), 1 << 40)
        self._kept.centres.prepared = lambda screen, form: [screen] if screen in self.standing else []  # type: ignore[method-assign]

    def plan(self, n_smps: int) -> Plan:
        paid, keeps = self._kept.terms("euclidean")
        return make_plan(
            n_smps, self.n_ctrs, self.d, 10, self.n_ctrs, machine=CPU, paid=paid, keeps=keeps, budget=1 << 34
        )

    def search(self, n_smps: int) -> float:
        plan = self.plan(n_smps)
        problem = plan.problem._replace(paid=())
        screen = next(one for one in SCREENS if one.name == plan.screen.replace("none", "direct"))
        work = rows_alone(screen, problem)
        if screen.name not in self.standing and building(screen, problem) > 0:
            work += building(screen, problem)
            self.standing.add(screen.name)
        self._kept.note(plan, Report(plan))
        return work

    def best(self, stream: list[int]) -> float:
        """What the best choice would take: what stands from the beginning, and for all rows the cheapest that does."""
        problems = [self.plan(n).problem._replace(paid=()) for n in stream]
        able = [one for one in SCREENS[:-1] if not why_not(one, problems[-1], 2)]
        ready = [one for one in able if building(one, problems[-1]) == 0]
        options = [[*ready, *some] for some in ([], *([one] for one in able if one not in ready))]
        return min(
            sum(building(one, problems[-1]) for one in option)
            + sum(min(rows_alone(one, problem) for one in option) for problem in problems)
            for option in options
            if option
        )


def test_inference_tensors_and_no_grad_are_served() -> None:
    with torch.inference_mode():
        ctrs = gaussian(n_ctrs=5000, d=3).ctrs * 1
        index = CenterIndex(ctrs)
        x = ctrs[:4] + 0.1
        found = index.knn(x, 3)
    with torch.no_grad():
        assert torch.equal(found.indices, index.knn(x, 3).indices)


def test_what_is_kept_is_saved_and_serves_at_once(tmp_path: Path) -> None:
    for d, metric in ((3, "euclidean"), (24, "cosine"), (24, "euclidean")):
        ctrs = crowded(20_000, d)
        index = CenterIndex(ctrs, metric=metric, max_memory=10**7).prepare(100_000, 10)
        index.save(tmp_path / "index")
        for mmap in (True, False):
            again = CenterIndex.load(tmp_path / "index", mmap=mmap)
            assert (again.metric, len(again), repr(again)) == (metric, 20_000, repr(index))
            assert torch.equal(again.ctrs, ctrs)
            for n in (1, 50, 600):
                x = rows_of(ctrs, n, n)
                assert same(again.knn(x, 10), knn(x, ctrs, 10, metric=metric))
            assert again.nbytes == index.nbytes > 0


def test_a_file_whose_parts_do_not_fit_is_one_error(tmp_path: Path) -> None:
    index = CenterIndex(crowded(20_000, 3)).prepare(100_000, 10).with_rows(torch.ones(5, 3)).without(torch.tensor([3]))
    whole = taken_apart(index.ctrs, "euclidean", None, index._among)
    other = torch.cat([whole.values[1:], whole.values[:1]])
    parts = dict(whole.parts)
    for wrong in (
        replace(whole, metric="l2"),
        replace(whole, settings={}),
        replace(whole, settings={"max_memory": -1, "parts": 2}),
        replace(whole, settings={"max_memory": None, "parts": 1}),
        replace(whole, removed=whole.removed[:0]),
        replace(whole, values=whole.values[:-1]),
        replace(whole, values=other),
        replace(whole, parts={name: part for name, part in parts.items() if name != "0/part"}),
        replace(whole, parts={**parts, "0/tree/0/0": replace(parts["0/tree/0/0"], arrays={})}),
    ):
        save(tmp_path / "index", for_file(wrong))
        with pytest.raises(IndexFileError, match=r"index: .*; save the index again") as raised:
            CenterIndex.load(tmp_path / "index")
        assert len(str(raised.value)) <= 300 + len(str(tmp_path))


def test_what_another_version_prepared_is_made_anew(tmp_path: Path) -> None:
    ctrs = crowded(20_000, 3)
    index = CenterIndex(ctrs).prepare(100_000, 10)
    whole = taken_apart(index.ctrs, "euclidean", None, index._among)
    piece = whole.parts["0/tree/0/0"]
    newer = replace(piece, facts={**piece.facts, "layout": 99})
    save(tmp_path / "index", for_file(replace(whole, parts={**whole.parts, "0/tree/0/0": newer})))
    again = CenterIndex.load(tmp_path / "index")
    assert again.nbytes == 0
    assert same(again.knn(ctrs[:9], 3), knn(ctrs[:9], ctrs, 3))


def test_what_an_index_grew_from_is_watched_as_well() -> None:
    first = crowded(5000, 3)
    grown = CenterIndex(first).with_rows(torch.ones(5, 3))
    again = grown.with_rows(torch.zeros(60, 3))
    assert same(grown.knn(first[:5], 3), knn(first[:5], grown.ctrs, 3))
    again.ctrs[0] += 1.0  # memory that both share
    for index in (grown, again):
        with pytest.raises(RuntimeError, match="changed in place"):
            index.knn(first[:5], 3)
    other = CenterIndex(first).with_rows(torch.ones(5, 3))
    first.zero_()
    with pytest.raises(RuntimeError, match="or the tensor that it grew from"):
        other.knn(torch.ones(5, 3), 3)


def test_indices_made_and_grown_in_and_out_of_inference_mode_are_right() -> None:
    with torch.inference_mode():
        ctrs = crowded(5000, 3) * 1
        index = CenterIndex(ctrs).with_rows(torch.ones(5, 3))
        ctrs.zero_()
        x = rows_of(index.ctrs, 20, 1)
        assert same(index.knn(x, 4), knn(x, index.ctrs, 4))
        assert bool(index.ctrs[:5000].any())
    grown = index.with_rows(torch.full((3, 3), 7.0))
    with torch.inference_mode():
        grown = grown.with_rows(torch.full((3, 3), 8.0))
    assert same(grown.knn(x, 4), knn(x, grown.ctrs, 4))


def test_what_had_to_go_is_paid_for_anew() -> None:
    ctrs = crowded(40_000, 8)
    index = CenterIndex(ctrs, max_memory=int(2.0 * ctrs.nbytes))
    for metric in ("euclidean", "cosine"):
        index.prepare(1_000_000, 10, metric=metric)
    kept = index._among.parts[0].kept

    def standing() -> set[int]:
        every = itertools.product(("tree", "dense"), range(3))
        return {id(one) for of in every for one in kept.centres.prepared(*of)}

    made = 0
    for turn in range(20):
        for metric in ("euclidean", "cosine"):
            before = standing()
            index.knn(ctrs[turn : turn + 1], 10, metric=metric)
            made += len(standing() - before)
    assert made <= 10


def test_a_part_begins_anew_only_when_a_quarter_of_what_it_was_made_with_is_gone() -> None:
    index = CenterIndex(crowded(20_000, 3)).without(torch.arange(8000)).prepare(100_000, 3)
    stood = index.nbytes
    fewer = index.without(torch.tensor([9000]))
    assert fewer.nbytes == stood > 0
    assert fewer.without(torch.arange(8000, 12_000)).nbytes == 0


def test_centres_that_are_not_finite_do_not_keep_others_from_being_prepared() -> None:
    ctrs = crowded(20_000, 3)
    ctrs[::3] = torch.nan
    assert CenterIndex(ctrs).prepare(100_000, 5).nbytes > 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_few_rows_whose_neighbours_were_removed_are_answered_as_by_knn(dtype: torch.dtype) -> None:
    ctrs = crowded(20_000, 3).to(dtype)
    ctrs += ctrs.roll(1, 0) / 1024
    index = CenterIndex(ctrs).prepare(100_000, 30)
    x = rows_of(ctrs, 40, 3).to(dtype)
    near = knn(x[:20], ctrs, 60).indices
    for gone in (near[:, 0], near[:5, :11].flatten(), near[0], near[:4].flatten()):
        fewer = index.without(gone)
        mask = torch.ones(20_000, dtype=torch.bool)
        mask[gone] = False
        for k in (1, 10, 40):
            assert same(fewer.knn(x, k), knn(x, ctrs, k, mask=mask))
            assert same(fewer.knn(x[:1], k), knn(x[:1], ctrs, k, mask=mask))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_kept_tree_answers_few_rows_without_a_plan_but_not_where_gradients_are_wanted(dtype: torch.dtype) -> None:
    ctrs = gaussian(dtype, n_ctrs=20_000, d=3).ctrs.requires_grad_()
    x = gaussian(dtype, d=3).x
    with torch.no_grad():
        index = CenterIndex(ctrs).prepare(100_000, 5)
        assert few_rows.are_few(x, ctrs)
        found = few_rows.answer(x, ctrs, index._among, 5, "euclidean")
        assert found is not None
        assert same(found, knn(x, ctrs, 5))
    assert index.knn(x, 5).distances.requires_grad


@pytest.mark.parametrize(("d", "metric"), [(3, "euclidean"), (24, "euclidean"), (24, "cosine")])
@pytest.mark.parametrize("n_smps", [100, 10**5, 10**6, 10**7])
def test_prepared_is_prepared_however_many_rows_are_to_come(d: int, metric: str, n_smps: int) -> None:
    index = CenterIndex(crowded(20_000, d), metric=metric).prepare(10**6, 10)
    assert index.nbytes > 0
    assert index.plan(1, 10).screen in repr(index)


@pytest.mark.parametrize("share", [0.2, 0.6, 1.0, 1.5])
def test_what_does_not_fit_whole_is_not_taken_for_what_stands(share: float) -> None:
    ctrs = crowded(30_000, 24)
    index = CenterIndex(ctrs, metric="cosine", max_memory=int(share * ctrs.nbytes))
    ran: list[Plan] = []
    for turn in range(60):
        with watch_knn() as reports:
            index.knn(ctrs[turn : turn + 1], 10)
        ran += [report.plan for report in reports]
    standing = ("dense", math.inf) in index._among.parts[0].kept.terms("cosine")[0]
    assert standing == (index.nbytes > 0)
    assert standing or sum(plan.screen == "dense" for plan in ran) <= 10


def test_after_a_build_that_failed_an_index_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    ctrs = crowded(20_000, 3)
    index = CenterIndex(ctrs)

    def fails(*_: object) -> None:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(PreparedTrees, "_planted", fails)
        with pytest.raises(MemoryError):
            index.prepare(10**6, 10)
        assert same(index.knn(ctrs[:2], 3), knn(ctrs[:2], ctrs, 3))
    assert same(index.prepare(10**6, 10).knn(ctrs[:2], 3), knn(ctrs[:2], ctrs, 3))
    assert index.nbytes > 0


def test_parts_share_the_bytes_that_may_be_kept() -> None:
    index = CenterIndex(crowded(9000, 3), max_memory=10**6).with_rows(crowded(30_000, 3)).without(torch.arange(20_000))
    assert sum(part.kept.max_memory for part in index._among.parts) <= 10**6
    index.prepare(10**6, 5)
    assert all(part.kept.nbytes > 0 for part in index._among.parts if len(part) > 5000)
    assert index.nbytes <= 10**6


def test_a_pickle_holds_the_centres_and_not_what_lies_beside_them() -> None:
    ctrs = crowded(50_000, 3)
    assert len(pickle.dumps(CenterIndex(ctrs[:1000]))) < 20_000
    assert len(pickle.dumps(CenterIndex(ctrs[:1000]).with_rows(ctrs[:10]))) < 30_000


def test_a_child_forked_while_a_tree_is_planted_answers() -> None:
    if not hasattr(os, "fork"):
        pytest.skip("no fork here")
    ctrs = crowded(30_000, 3)
    index, x = CenterIndex(ctrs).prepare(10**6, 10), rows_of(crowded(100, 3), 5, 1)
    expected = knn(x, ctrs, 3).indices.numpy().tobytes()
    (trees,) = index._among.parts[0].kept.centres.prepared("tree", 0)
    results: list[int] = []
    with trees._lock:
        child = threading.Thread(target=lambda: results.append(_child(index, x, expected)))
        child.start()
        child.join()
    assert results == [0]


@pytest.mark.parametrize("wrong", [{"progress": 1}, {"progress": 0}, {"progress": "yes"}, {"max_memory": 2.0**28}])
def test_switches_and_sizes_are_checked_before_any_number_is_drawn(wrong: dict[str, Any]) -> None:
    ctrs = crowded(5000, 3)
    index = CenterIndex(ctrs).prepare(100_000, 3)
    before = torch.get_rng_state()
    for ask in (lambda **more: index.knn(ctrs[:2], 3, **more), lambda **more: knn(ctrs[:2], ctrs, 3, **more)):
        for drawn in ({}, {"sample": 50}):
            with pytest.raises(TypeError, match=next(iter(wrong))):
                ask(**wrong, **drawn)
    assert torch.equal(torch.get_rng_state(), before)


def test_what_only_rows_can_tell_keeps_nothing_else_from_being_prepared() -> None:
    ctrs = torch.randn(20_000, 50, generator=torch.Generator().manual_seed(0))
    index = CenterIndex(ctrs)
    assert index.plan(20_000, 10).screen != "dense"  # but one that looks at rows first
    kept = index.prepare(20_000, 10).nbytes
    assert kept > ctrs.numel()
    assert index.plan(100, 10).screen == "dense"
