"""Integers of every kind count as integers; tensors of kinds that hold no block of values get one clear sentence."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from calls import (
    SECOND,
    TORCH_WARNS_OF_ITSELF,
    K,
    N,
    true_nearest,
)
from janelia_core.ml import LogCoshLoss, NearestCenters, PiecewiseLinear, knn, log_cosh
from janelia_core.ml._log_cosh.loss import log_cosh_loss
from janelia_core.ml.extra_torch_functions import knn_do, knn_mc
from janelia_core.ml.neighbors import knn_graph

pytestmark = TORCH_WARNS_OF_ITSELF


@pytest.mark.parametrize("three", [3, np.int64(3), np.uint8(3), np.array(3), torch.tensor(3), torch.tensor(3).byte()])
def test_integers_of_every_kind_count(three):
    x, c = SECOND
    indices = true_nearest(x, c, 3)[1]
    assert torch.equal(knn_mc(x, c, three, three), indices.T)
    assert knn_do(x, c, three, three, three).unique().numel() == 3
    assert torch.equal(knn(x, c, three, m=three).indices, indices)
    assert knn(x, c, three, sample=three).indices.unique().numel() == 3
    module = PiecewiseLinear(c, three, three, three, three)
    assert [type(n) for n in (module.nearest.k, module.nearest.m, module.nearest.n_ctrs_used)] == [int] * 3
    assert module(x).shape == (N, 3)
    assert torch.equal(torch.compile(lambda x, c: knn_mc(x, c, three, 7), backend="eager")(x, c), indices.T)


@pytest.mark.parametrize("memory", [np.int64(1 << 21), torch.tensor(1 << 21), np.array(1 << 21)])
def test_bytes_are_integers_too(memory):
    x, c = SECOND
    indices = true_nearest(x, c)[1]
    assert torch.equal(knn_mc(x, c, K, 7, max_memory=memory), indices.T)
    assert torch.equal(knn(x, c, K, max_memory=memory).indices, indices)
    assert type(NearestCenters(c, K, max_memory=memory).max_memory) is int


@pytest.mark.parametrize("three", [True, np.True_, torch.tensor(True), torch.tensor([3]), np.array([3]), 3.0, "3"])
def test_other_things_do_not(three):
    x, c = SECOND
    for call in (
        lambda: knn_mc(x, c, three, 7),
        lambda: knn_mc(x, c, 3, 7, max_memory=three),
        lambda: knn_do(x, c, 1, 7, three),
        lambda: knn(x, c, three),
        lambda: PiecewiseLinear(c, three, 2),
    ):
        with pytest.raises(TypeError, match="must be an int"):
            call()


@pytest.mark.parametrize(
    ("of", "says"),
    [
        (lambda t: torch.nested.nested_tensor([t, t[:2]]), "must be a dense tensor, got a nested one; pad it"),
        (
            lambda t: torch.nested.nested_tensor([t, t[:2]], layout=torch.jagged),
            "must be a dense tensor, got a nested one; pad it",
        ),
        (lambda t: torch.masked.masked_tensor(t, t > 0), "must be an ordinary tensor, got a MaskedTensor; take"),
        (Tensor.to_sparse, "must be a dense tensor, got layout torch.sparse_coo; call"),
        (Tensor.to_mkldnn, "must be a dense tensor, got layout torch._mkldnn; call"),
    ],
    ids=["nested", "jagged", "masked", "sparse", "mkldnn"],
)
def test_tensors_of_other_kinds_get_one_clear_sentence(of, says):
    x, c = SECOND
    other = of(x)
    for call in (
        lambda: knn_mc(other, c, 3, 7),
        lambda: knn_mc(x, other, 3, 7),
        lambda: knn_do(other, c, 3, 7, 10),
        lambda: knn(other, c, 3),
        lambda: knn_graph(other, 3),
        lambda: NearestCenters(c, 3)(other),
        lambda: PiecewiseLinear(c, 1, 3)(other),
        lambda: NearestCenters(other, 3),
        lambda: log_cosh(other),
        lambda: log_cosh_loss(other, x),
        lambda: LogCoshLoss()(x, other),
    ):
        with pytest.raises(TypeError, match=says):
            call()
