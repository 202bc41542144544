"""Modules in eval mode keep an index by themselves: the same bytes as without, and never an old answer."""

from __future__ import annotations

import copy
import gc
import io
import pickle
import weakref
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from janelia_core.ml import NearestCenters, PiecewiseLinear, knn
from janelia_core.ml._knn.metrics.metric import UNKNOWN
from janelia_core.ml._knn.metrics.registry import metric_named
from test_index import crowded, rows_of, same

CTRS = crowded(20_000, 3)


def kept_of(module: NearestCenters) -> object:
    held = module._watched._held
    return held and held[0]


@pytest.mark.parametrize(
    ("metric", "learned"), [("euclidean", True), ("euclidean", False), ("dot", True), ("cosine", False)]
)
def test_answers_in_eval_mode_are_those_of_knn_and_come_from_what_is_kept(metric: str, learned: bool) -> None:
    module = NearestCenters(nn.Parameter(CTRS.clone()) if learned else CTRS.clone(), 5, metric=metric).eval()
    for n in (1, 1000, 1000, 40, 1):
        x = rows_of(CTRS, n, n)
        with torch.no_grad():
            assert same(module(x), knn(x, CTRS, 5, metric=metric))
        assert torch.equal(module(x[0]).indices, knn(x[:1], CTRS, 5, metric=metric).indices[0])
        assert module(x.view(1, n, 3)).distances.shape == (1, n, 5)
    index = kept_of(module)
    assert index is not None
    module(x)
    assert kept_of(module) is index
    assert index.nbytes > 0 or metric_named(metric).form == UNKNOWN


def test_gradients_in_eval_mode_are_those_of_knn() -> None:
    module, x = NearestCenters(nn.Parameter(CTRS.clone()), 5).eval(), rows_of(CTRS, 50, 1).requires_grad_()
    module(rows_of(CTRS, 3000, 2))
    found = torch.autograd.grad(module(x).distances.sum(), (x, module.ctrs))
    ctrs = CTRS.clone().requires_grad_()
    expected = torch.autograd.grad(knn(x, ctrs, 5).distances.sum(), (x, ctrs))
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def step(module: NearestCenters) -> None:
    optimizer = torch.optim.SGD(module.parameters(), lr=1.0)
    module(rows_of(CTRS, 50, 1)).distances.sum().backward()
    optimizer.step()


def load(module: NearestCenters) -> None:
    module.load_state_dict({"ctrs": module.ctrs.detach().flip(0)})


def assign(module: NearestCenters) -> None:
    module.load_state_dict({"ctrs": module.ctrs.detach().flip(0)}, assign=True)


def write(module: NearestCenters) -> None:
    with torch.no_grad():
        module.ctrs[17] = 0.25


def average(module: NearestCenters) -> None:
    module.ctrs.data.mul_(0.9).add_(torch.randn(CTRS.shape, generator=torch.Generator().manual_seed(0)), alpha=0.1)


def by_numpy(module: NearestCenters) -> None:
    module.ctrs.detach().numpy()[:] += 1.0


def other_data(module: NearestCenters) -> None:
    module.ctrs.data = module.ctrs.data.flip(0)


def other_parameter(module: NearestCenters) -> None:
    module.ctrs = nn.Parameter(module.ctrs.detach().flip(0))


def in_double(module: NearestCenters) -> None:
    module.double()


CHANGES = [step, load, assign, write, average, by_numpy, other_data, other_parameter, in_double]


@pytest.mark.parametrize("change", CHANGES)
def test_centres_that_change_are_never_answered_from_what_was_kept(change: Callable[[NearestCenters], None]) -> None:
    module = NearestCenters(nn.Parameter(CTRS.clone()), 5).eval()
    for n in (3000, 3000):
        module(rows_of(CTRS, n, 0))
    change(module)
    for n in (1, 60, 3000):
        x = rows_of(CTRS, n, n)
        with torch.no_grad():
            assert same(module(x), knn(x, module.ctrs, 5))


def test_a_few_rows_of_a_small_table_written_through_data_are_seen() -> None:
    module = NearestCenters(nn.Parameter(CTRS[:1000].clone()), 1).eval()
    module(CTRS[:5])
    module.ctrs.data[321] = torch.tensor([77.0, 77.0, 77.0])
    assert module(torch.full((1, 3), 77.0)).indices.tolist() == [[321]]


def test_training_drops_what_was_kept_and_eval_mode_begins_anew() -> None:
    module = NearestCenters(nn.Parameter(CTRS.clone()), 5, n_ctrs_used=100).eval()
    module(rows_of(CTRS, 3000, 0))
    index = weakref.ref(kept_of(module))
    module.train()
    gc.collect()
    assert kept_of(module) is None
    assert index() is None
    assert module(rows_of(CTRS, 30, 0)).indices.unique().numel() <= 100
    assert kept_of(module) is None


def test_what_is_kept_is_in_no_state_no_pickle_and_no_copy() -> None:
    module = NearestCenters(nn.Parameter(CTRS.clone()), 5).eval()
    module(rows_of(CTRS, 3000, 0))
    assert list(module.state_dict()) == ["ctrs"]
    file = io.BytesIO()
    torch.save(module, file)
    file.seek(0)
    for other in (copy.deepcopy(module), pickle.loads(pickle.dumps(module)), torch.load(file, weights_only=False)):
        assert kept_of(other) is None
        with torch.no_grad():
            assert same(other(CTRS[:9]), module(CTRS[:9]))
    assert len(pickle.dumps(module)) < 1.1 * CTRS.nbytes


@pytest.mark.parametrize("d", [2, 3])
def test_a_piecewise_linear_function_keeps_its_centres_too(d: int) -> None:
    def values(function: PiecewiseLinear, x: Tensor) -> tuple[Tensor, ...]:
        out = function(x)
        return out, *torch.autograd.grad(out.sum(), list(function.parameters()))

    function = PiecewiseLinear(nn.Parameter(crowded(5000, d)), 2, 3)
    with torch.no_grad():
        function.weight.normal_()
    for n in (1, 2000, 2000, 5):
        x = rows_of(function.nearest.ctrs.detach(), n, n)
        expected = values(function.train(), x)
        function.eval()
        for _ in range(2):
            assert all(torch.equal(a, b) for a, b in zip(values(function, x), expected, strict=True))
    function(rows_of(function.nearest.ctrs.detach(), 3000, 0))
    assert kept_of(function.nearest) is not None


def test_centres_of_inference_mode_whose_changes_nobody_counts_are_not_kept() -> None:
    with torch.inference_mode():
        module = NearestCenters(CTRS * 1, 5).eval()
        x = rows_of(CTRS, 30, 1)
        assert same(module(x), knn(x, CTRS, 5))
        module.ctrs[:10_000] = module.ctrs[10_000:].clone()
        expected = knn(x, module.ctrs, 5)
    assert same(module(x), expected)
    assert kept_of(module) is None
