"""Few rows among the centres of a kept tree: what the kernel decides is the definition's, distances to the last bit."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from janelia_core.ml._knn.data.centres import Centres
from janelia_core.ml._knn.data.points import Points
from janelia_core.ml._knn.data.values import Reader
from janelia_core.ml._knn.distances.distances import distances
from janelia_core.ml._knn.metrics.metric import DISTANCE
from janelia_core.ml._knn.metrics.registry import metric_named
from janelia_core.ml._knn.screens.tree.few import Few, FewRows
from janelia_core.ml._knn.screens.tree.few_wide import FewWide
from janelia_core.ml._knn.screens.tree.forest import PreparedTrees
from janelia_core.ml._knn.screens.tree.planted import BoxTree
from janelia_core.ml._runtime.workers import Workers
from janelia_core.ml.neighbors import knn
from oracle import nearest
from problems import KINDS, PROBLEMS, gaussian

METRICS = ("euclidean", "sqeuclidean")
OTHERS = ("manhattan", "chebyshev")


def planted(ctrs: Tensor, k: int, metric: str = "euclidean") -> FewRows | None:
    """Return a tree over the finite ones of ctrs, for few rows."""
    finite, form = Centres(Points(ctrs)).finite(Reader()).points, metric_named(metric).form
    return FewRows.of(BoxTree(finite, min(k, len(finite))), form) if len(finite) else None


def checked(few: FewRows, x: Tensor, ctrs: Tensor, k: int, metrics: tuple[str, ...] = METRICS) -> list[int]:
    """Compare all rows that are decided with the oracle, and their distances with those rounded by themselves."""
    expected = nearest(x, ctrs, k, metric=metrics[0]).T
    doubtful: list[int] = []
    for metric in metrics:
        found = few.nearest(x.numpy(), k, metric == "euclidean")
        doubtful = found.doubtful.tolist()
        decided = [i for i in range(len(x)) if i not in doubtful]
        assert torch.equal(torch.from_numpy(found.indices)[decided], expected[decided])
        exact = distances(x[decided], ctrs, expected[decided], metric)
        assert found.distances[decided].tobytes() == exact.numpy().tobytes()
    return doubtful


FLOAT32 = [name for name in KINDS if PROBLEMS[name]().x.dtype == PROBLEMS[name]().ctrs.dtype == torch.float32]


@pytest.mark.parametrize("name", FLOAT32)
def test_every_problem_of_float32_is_decided_right_or_left_in_doubt(name: str) -> None:
    x, ctrs, k, _ = PROBLEMS[name]()
    for most in sorted({1, k, min(128, len(ctrs))}):
        few = planted(ctrs, most)
        for n in (1, min(len(x), 20)) if few else ():
            checked(few, x[:n].contiguous(), ctrs, most)


@pytest.mark.parametrize("name", FLOAT32)
@pytest.mark.parametrize("metric", OTHERS)
def test_every_problem_is_decided_right_or_left_in_doubt_without_squares(metric: str, name: str) -> None:
    x, ctrs, k, _ = PROBLEMS[name]()
    few = planted(ctrs, k, metric)
    if few:
        doubtful = checked(few, x[:8].contiguous(), ctrs, k, (metric,))
        assert not (doubtful and name in ("lattice", "word-counts", "line-torch.float32"))


CLEAR = ["gaussian-torch.float32", "lattice", "duplicates", "word-counts", "line-torch.float32"]


@pytest.mark.parametrize("name", CLEAR)
def test_plain_rows_lattices_and_copies_leave_no_doubt(name: str) -> None:
    x, ctrs, k, _ = PROBLEMS[name]()
    for most in (1, k, min(128, len(ctrs))):
        few = planted(ctrs, most)
        assert few is not None
        assert checked(few, x[:20].contiguous(), ctrs, most) == []


@pytest.mark.parametrize("k", [1, 2, 5, 6, 14, 40, 128])
def test_any_k_among_many_and_among_as_many_centres(k: int) -> None:
    problem = gaussian(n=9, n_ctrs=600, d=3)
    for ctrs in (problem.ctrs, problem.ctrs[:k]):
        few = planted(ctrs, 1)
        assert few is not None
        assert few.tree.serves(k)
        assert checked(few, problem.x, ctrs, k) == []


def test_rows_that_are_not_finite_extreme_or_subnormal_are_left_in_doubt_beside_others() -> None:
    problem = gaussian(n=8, n_ctrs=300, d=3)
    x = problem.x.clone()
    x[0, 1], x[2, 0], x[4, 2], x[6, 0] = torch.nan, torch.inf, 2.0**60, 1e-40
    few = planted(problem.ctrs, 5)
    assert few is not None
    assert checked(few, x, problem.ctrs, 5) == [0, 2, 4, 6]


def test_a_row_off_the_lattice_of_the_centres_is_decided_too() -> None:
    g = torch.Generator().manual_seed(0)
    ctrs = torch.randint(0, 50, (900, 3), generator=g).float()
    x = ctrs[:9] + torch.rand(9, 3, generator=g)
    few = planted(ctrs, 5)
    assert few is not None
    assert checked(few, torch.cat([x, ctrs[:9] + 0.25]), ctrs, 5) == []


def test_integers_too_large_for_keys_but_not_for_float64_are_decided_with_their_ties() -> None:
    side = torch.arange(0, 100_000, 9973).float()
    ctrs = torch.cartesian_prod(side, side, side)
    few = planted(ctrs, 7)
    assert few is not None
    assert checked(few, ctrs[[0, 500, 700]], ctrs, 7) == []
    assert checked(few, (ctrs[[0, 500]] + ctrs[[1, 511]]) / 2, ctrs, 7) == []


def test_k_copies_tie_at_the_last_place_of_a_tree_that_keeps_more() -> None:
    problem = gaussian(n=9, n_ctrs=300, d=3)
    shuffled = torch.randperm(600, generator=torch.Generator().manual_seed(0))
    ctrs = torch.cat([problem.ctrs, problem.ctrs[:3].repeat(100, 1)])[shuffled]
    few = planted(ctrs, 16)
    assert few is not None
    assert few.tree.live < len(ctrs)
    for k in (1, 5, 15, 16):
        assert few.tree.serves(k)
        assert checked(few, torch.cat([problem.x, problem.ctrs[:3]]), ctrs, k) == []


def test_a_list_that_is_not_full_names_no_centre_twice() -> None:
    ctrs = torch.cat([torch.full((100,), 0.1), -1000 - torch.rand(59), torch.tensor([1.3])])[:, None]
    few = planted(ctrs, 16)
    assert few is not None
    assert int(few.tree.boxes.ids[-1]) == 159  # the last place, which empty entries stand for
    assert checked(few, torch.tensor([[0.9], [0.8]]), ctrs, 2) == []


def test_centres_that_are_not_finite_keep_the_numbers_of_the_others() -> None:
    problem = gaussian(n=9, n_ctrs=300, d=3)
    ctrs = problem.ctrs.clone()
    ctrs[::7, 1] = torch.nan
    few = planted(ctrs, 5)
    assert few is not None
    assert checked(few, problem.x, ctrs, 5) == []


def test_trees_that_round_or_hold_subnormals_are_declined() -> None:
    ctrs = gaussian(n_ctrs=300).ctrs
    assert planted(ctrs.double() + 1e-12, 5) is None
    ctrs[7, 1] = 1e-40
    assert planted(ctrs, 5) is None


def test_prepared_trees_answer_few_rows_as_soon_as_one_stands_that_serves_k() -> None:
    problem = gaussian(n=9, n_ctrs=300, d=3)
    trees = PreparedTrees(Points(problem.ctrs))
    assert trees.few(5) is None
    trees.whole(5, Workers(1, pool=False))
    few = trees.few(5)
    assert few is not None
    assert trees.few(128) is few
    assert trees.few(129) is None
    crowd = PreparedTrees(Points(problem.ctrs[:2].repeat(200, 1)))
    crowd.whole(5, Workers(1, pool=False))
    assert crowd.few(4) is not None
    assert crowd.few(6) is None


def test_rows_are_answered_like_by_knn_in_one_call_or_many_and_by_threads() -> None:
    problem = gaussian(n=3000, n_ctrs=20_000, d=3)
    few = planted(problem.ctrs, 10)
    assert few is not None
    expected = knn(problem.x, problem.ctrs, 10)
    whole = [few.nearest(problem.x.numpy(), 10, root=True, threads=threads) for threads in (1, 2)]
    parts = [few.nearest(problem.x[i : i + 1].numpy(), 10, root=True) for i in range(200)]
    one_by_one = Few(*(np.concatenate(part) for part in zip(*parts, strict=True)))
    for found in (*whole, one_by_one):
        n = len(found.indices)
        assert len(found.doubtful) == 0
        assert torch.equal(torch.from_numpy(found.indices), expected.indices[:n])
        assert found.distances.tobytes() == expected.distances[:n].numpy().tobytes()


def checked_wide(x: Tensor, ctrs: Tensor, k: int) -> list[int]:
    """Compare all rows of float64 that are decided with the oracle; return the others, all where no tree serves."""
    finite = Centres(Points(ctrs)).finite(Reader()).points
    usual = k <= len(finite) and float(finite.block(0, len(finite)).abs().max()) <= 2.0**55  # or no tree is planted
    few = FewWide.of(BoxTree(finite, k), k, DISTANCE) if usual else None
    if few is None:
        return list(range(len(x)))
    found = few.nearest(x.numpy(), k, root=True)
    doubtful = found.doubtful.tolist()
    decided = [i for i in range(len(x)) if i not in doubtful]
    assert torch.equal(torch.from_numpy(found.indices)[decided], nearest(x, ctrs, k).T[decided])
    return doubtful


FLOATS = [name for name in KINDS if PROBLEMS[name]().x.is_floating_point() and PROBLEMS[name]().x.shape[1]]


@pytest.mark.parametrize("name", FLOATS)
def test_every_problem_is_decided_right_or_left_in_doubt_in_float64(name: str) -> None:
    x, ctrs, k, _ = PROBLEMS[name]()
    x, ctrs = x[:9].double().contiguous(), ctrs.double().contiguous()
    for most in sorted({1, min(k, len(ctrs)), min(40, len(ctrs))}):
        doubtful = checked_wide(x, ctrs, most)
        assert not (doubtful and name.startswith("gaussian"))
        checked_wide(x, ctrs + ctrs.roll(1, 0) * 2.0**-40, most)  # which no float32 holds


def test_rows_of_float64_that_are_not_finite_extreme_or_between_copies_are_left_in_doubt_beside_others() -> None:
    problem = gaussian(n=8, n_ctrs=300, d=3, dtype=torch.float64)
    x, ctrs = problem.x.clone(), problem.ctrs.clone()
    x[0, 1], x[2, 0], x[4, 2] = torch.nan, torch.inf, 2.0**60
    ctrs[7], x[6] = ctrs[9], ctrs[9]
    assert checked_wide(x, ctrs, 5) == [0, 2, 4, 6]
    assert checked_wide(x, ctrs.T.contiguous().T, 5) == checked_wide(x, ctrs * 2.0**52, 5) == list(range(8))


def test_threads_count_the_rows_in_doubt_from_the_first_of_all() -> None:
    problem = gaussian(n=3000, n_ctrs=2000, d=3)
    x, lost = problem.x.clone(), [3, 1490, 1501, 2999]
    x[lost, 1] = torch.nan
    few = planted(problem.ctrs, 10)
    assert few is not None
    assert sorted(few.nearest(x.numpy(), 10, root=True, threads=2).doubtful.tolist()) == lost


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 6), st.integers(1, 200), st.integers(1, 12), st.integers(1, 5), st.booleans(), st.integers(0, 2**31)
)
def test_random_small_worlds_full_of_ties(d: int, n_ctrs: int, k: int, side: int, scaled: bool, seed: int) -> None:
    g = torch.Generator().manual_seed(seed)
    x, ctrs = (torch.randint(0, side, (n, d), generator=g).float() for n in (6, n_ctrs))
    if scaled:
        x, ctrs = x * 0.1, ctrs * 0.1
    k = min(k, n_ctrs)
    few = planted(ctrs, k)
    assert few is not None
    doubtful = checked(few, x, ctrs, k)
    assert scaled or doubtful == []
    checked_wide(x.double(), ctrs.double() * 0.1, k)
