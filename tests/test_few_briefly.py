"""A few rows among many centres, from the call to two kernels: decided right, or left to the general way."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from janelia_core.ml._knn.brief import few
from janelia_core.ml._knn.metrics.registry import metric_named
from janelia_core.ml._knn.report import watch_knn
from janelia_core.ml._knn.screens.direct import cost
from janelia_core.ml._knn.screens.direct import few as passes
from janelia_core.ml.extra_torch_functions import knn_mc
from janelia_core.ml.neighbors import knn
from oracle import nearest
from problems import KINDS, PROBLEMS, gaussian

LONG = 37  # coordinates: two whole runs of float32, and a part of one


def decided(x: Tensor, ctrs: Tensor, k: int, shares: int = 1) -> Tensor | None:
    within = metric_named("euclidean").bound(x.shape[1])
    found = few.nearest(x.numpy(), ctrs.numpy(), k, within, min(cost.width(k), len(ctrs) - 1), shares)
    return None if found is None else torch.from_numpy(found)


def answered(name: str, shares: int) -> int:
    """Check what is decided of rows of a problem, one by one; return how many rows are."""
    x, ctrs, k, _ = PROBLEMS[name]()
    count = 0
    for row in x[:5].float():
        for centres in (ctrs.float(), torch.nn.functional.pad(ctrs.float(), (0, LONG))):
            padded = torch.nn.functional.pad(row, (0, centres.shape[1] - len(row)))[None]
            found = decided(padded, centres, min(k, len(ctrs) - 2), shares)
            if found is not None:
                assert torch.equal(found.T, nearest(padded, centres, found.shape[1]))
                count += 1
    return count


@pytest.mark.parametrize("name", KINDS)
def test_every_problem_is_decided_right_or_left_in_doubt_by_threads_that_share_the_centres(name: str) -> None:
    answered(name, 3)


@pytest.mark.parametrize("name", ["gaussian-torch.float32", "lattice"])
def test_plain_rows_and_lattices_leave_no_doubt(name: str) -> None:
    assert answered(name, 1) == 10


@pytest.mark.parametrize("which", ["row", "centre"])
@pytest.mark.parametrize("value", [torch.inf, torch.nan])
def test_what_is_not_finite_is_left_to_others_or_listed_last(which: str, value: float) -> None:
    x, ctrs, _, _ = gaussian(n=2, n_ctrs=500, d=20, k=5)
    (x if which == "row" else ctrs)[0, 3] = value
    found = decided(x, ctrs, 5)
    assert (found is None) == (which == "row")
    assert torch.equal(knn_mc(x, ctrs, 5, 500), nearest(x, ctrs, 5))


@pytest.mark.parametrize("d", [9, 64])
def test_knn_mc_and_knn_take_it_for_few_plain_rows_and_nobody_else(monkeypatch: pytest.MonkeyPatch, d: int) -> None:
    x, ctrs, k, _ = gaussian(n=3, n_ctrs=30_000, d=d, k=5)
    expected, distances = knn_mc(x.double(), ctrs.double(), k, 30_000), knn(x.double(), ctrs.double(), k).distances
    taken, pass_over = [], passes.pass_over
    monkeypatch.setattr(passes, "pass_over", lambda *args: taken.append(len(args[0])) or pass_over(*args))
    assert torch.equal(knn_mc(x, ctrs, k, 30_000), expected)
    found = knn(x, ctrs, k)
    assert torch.equal(found.indices.T, expected)
    assert torch.equal(found.distances, distances.float())
    assert taken == [3, 3]
    with watch_knn() as reports:
        knn_mc(x, ctrs, k, 30_000)
    assert len(reports) == 1
    knn_mc(x.double(), ctrs, k, 30_000)
    knn(x, ctrs, k, metric="dot")
    knn_mc(torch.cat([x] * 30), ctrs, k, 30_000)
    assert taken == [3, 3]


@pytest.mark.parametrize("n", [1, 4])
def test_rows_that_want_gradients_are_searched_so_too(monkeypatch: pytest.MonkeyPatch, n: int) -> None:
    x, ctrs, k, _ = gaussian(n=n, n_ctrs=30_000, d=20, k=5)
    taken, pass_over = [], passes.pass_over
    monkeypatch.setattr(passes, "pass_over", lambda *args: taken.append(len(args[0])) or pass_over(*args))
    plain = knn(x, ctrs, k)
    for rows in (x.clone().requires_grad_(), torch.nn.Parameter(x)):
        found = knn(rows, ctrs, k)
        assert torch.equal(found.distances, plain.distances)
        found.distances.sum().backward()
        assert rows.grad is not None
        assert rows.grad.isfinite().all()
        assert torch.equal(knn_mc(rows, ctrs, k, 30_000), plain.indices.T)
    assert taken == [n] * 5


def test_lists_that_say_more_than_they_know_are_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """Centres nearer than those listed exist, since float32 keys cannot tell them apart."""
    source = torch.Generator().manual_seed(0)
    ctrs = (1.0 + 2.0**-22 * torch.randint(0, 2, (4000, 24), generator=source)).float()
    x = torch.full((1, 24), 3.0) + 2.0**-22 * torch.rand(1, 24, generator=source)
    expected = nearest(x, ctrs, 5)
    assert decided(x, ctrs, 5) is None
    monkeypatch.setattr(passes, "at_least_of", lambda keys, *_: keys + torch.inf)
    claimed = decided(x, ctrs, 5)
    assert claimed is not None
    assert not torch.equal(claimed.T, expected)
