"""Calls of every function of tensors (x, ctrs), with what they must give, in float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch
from torch import Tensor
from torch.func import functional_call

from janelia_core.ml import LogCoshLoss, NearestCenters, PiecewiseLinear, knn, log_cosh
from janelia_core.ml._log_cosh.loss import log_cosh_loss
from janelia_core.ml.extra_torch_functions import knn_do, knn_mc
from janelia_core.ml.neighbors import knn_graph

# Of what torch deprecates and uses, and of shapes that a trace looks at.
TORCH_WARNS_OF_ITSELF = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore:While compiling, we found certain side effects:UserWarning"),
    pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning"),
    pytest.mark.filterwarnings("ignore:The PyTorch API of MaskedTensors:UserWarning"),
    pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning"),
]

N, N_CTRS, D, K, DRAWN = 12, 20, 3, 3, 10
Pair = tuple[Tensor, Tensor]
Function = Callable[[Tensor, Tensor], tuple[Tensor, ...]]


def randn(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


FIRST: Pair = randn(N, D, seed=1), randn(N_CTRS, D, seed=2)
SECOND: Pair = randn(N, D, seed=3), randn(N_CTRS, D, seed=4)
LONGER: Pair = randn(N + 5, D, seed=5), randn(N_CTRS + 7, D, seed=6)
NEAREST = NearestCenters(torch.zeros(N_CTRS, D), K)
SOME_NEAREST = NearestCenters(torch.zeros(N_CTRS, D), K, n_ctrs_used=DRAWN)
MAPS = PiecewiseLinear(torch.zeros(N_CTRS, D), 2, K)


# Truth, in float64.


def seed() -> None:
    torch.manual_seed(11)


def true_nearest(x: Tensor, ctrs: Tensor, k: int = K, drawn: bool = False) -> Pair:
    """Distances and indices (n, k); if drawn, among the centres that a call after `seed()` draws."""
    squares = (x.double()[:, None] - ctrs.double()).square().sum(-1)
    if drawn:
        seed()
        out = torch.randperm(len(ctrs))[DRAWN:]
        squares[:, out] = torch.inf
    found = squares.topk(k, largest=False)
    return found.values.sqrt(), found.indices


def true_log_cosh(x: Tensor) -> Tensor:
    return x.double().cosh().log()


def maps_of(ctrs: Tensor) -> Pair:
    return torch.stack([ctrs, -2 * ctrs], 1), ctrs[:, :2] + 1


def true_maps(x: Tensor, ctrs: Tensor) -> Tensor:
    x, ctrs, j = x.double(), ctrs.double(), true_nearest(x, ctrs)[1]
    weight, bias = maps_of(ctrs)
    return (torch.einsum("nkod,nkd->nko", weight[j], x[:, None] - ctrs[j]) + bias[j]).sum(1)


def edges(indices: Tensor) -> Tensor:
    return torch.stack([indices.flatten(), torch.arange(len(indices)).repeat_interleave(K)])


class Call(NamedTuple):
    run: Function
    truth: Callable[[Tensor, Tensor], tuple[Tensor, ...]]


def maps(x: Tensor, ctrs: Tensor) -> tuple[Tensor]:
    weight, bias = maps_of(ctrs)
    return (functional_call(MAPS, {"nearest.ctrs": ctrs, "weight": weight, "bias": bias}, (x,)),)


CALLS = {
    "knn_mc": Call(lambda x, c: (knn_mc(x, c, K, 7),), lambda x, c: (true_nearest(x, c)[1].T,)),
    "knn_do": Call(lambda x, c: (knn_do(x, c, K, 7, DRAWN),), lambda x, c: (true_nearest(x, c, drawn=True)[1].T,)),
    "knn": Call(lambda x, c: tuple(knn(x, c, K)), true_nearest),
    "knn_graph": Call(lambda x, c: (knn_graph(x, K, c),), lambda x, c: (edges(true_nearest(x, c)[1]),)),
    "log_cosh": Call(lambda x, c: (log_cosh(x),), lambda x, c: (true_log_cosh(x),)),
    "log_cosh_loss": Call(lambda x, c: (log_cosh_loss(x, 3 * x),), lambda x, c: (true_log_cosh(2 * x).mean(),)),
    "LogCoshLoss": Call(lambda x, c: (LogCoshLoss("sum")(x, 3 * x),), lambda x, c: (true_log_cosh(2 * x).sum(),)),
    "NearestCenters": Call(lambda x, c: tuple(functional_call(NEAREST, {"ctrs": c}, (x,))), true_nearest),
    "NearestCenters, some": Call(
        lambda x, c: tuple(functional_call(SOME_NEAREST, {"ctrs": c}, (x,))),
        lambda x, c: true_nearest(x, c, drawn=True),
    ),
    "PiecewiseLinear": Call(maps, lambda x, c: (true_maps(x, c),)),
    # README's first example: a loss from looked-up centres.
    "a loss of knn_mc": Call(
        lambda x, c: (log_cosh(x - c[knn_mc(x, c, 1, 7)[0]]),),
        lambda x, c: (true_log_cosh(x - c[true_nearest(x, c, 1)[1][:, 0]]),),
    ),
}


def check(got: tuple[Tensor, ...], call: Call, at: Pair) -> None:
    right = call.truth(*at)
    assert len(got) == len(right)
    for value, truth in zip(got, right, strict=True):
        assert type(value) is Tensor
        assert value.shape == truth.shape
        if truth.dtype == torch.int64:
            assert torch.equal(value, truth)
        else:
            assert value.dtype == torch.float32
            torch.testing.assert_close(value.detach().double(), truth, rtol=2e-6, atol=2e-6)
