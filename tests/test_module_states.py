"""Modules are built late, moved, saved, traced and stacked, as torch.nn's own are."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from calls import (
    CALLS,
    DRAWN,
    FIRST,
    LONGER,
    N_CTRS,
    SECOND,
    TORCH_WARNS_OF_ITSELF,
    D,
    K,
    check,
    maps_of,
    randn,
    seed,
    true_log_cosh,
    true_nearest,
)
from janelia_core.ml import LogCoshLoss, NearestCenters, PiecewiseLinear, knn
from janelia_core.ml._log_cosh.loss import log_cosh_loss

pytestmark = TORCH_WARNS_OF_ITSELF


def filled(module: nn.Module) -> nn.Module:
    """The module with the centres of SECOND, and for each centre the maps that `true_maps` speaks of."""
    ctrs = SECOND[1]
    state = {name: ctrs for name in module.state_dict() if name.endswith("ctrs")}
    if isinstance(module, PiecewiseLinear):
        state["weight"], state["bias"] = maps_of(ctrs)
    module.load_state_dict(state)
    return module.eval()


KINDS: dict[str, tuple[type[nn.Module], dict[str, int]]] = {
    "NearestCenters": (NearestCenters, {"k": K, "n_ctrs_used": DRAWN}),
    "PiecewiseLinear": (PiecewiseLinear, {"n_outputs": 2, "k": K, "n_ctrs_used": DRAWN}),
}


def made(kind: str, ctrs: Tensor, **options: Any) -> nn.Module:
    of, settings = KINDS[kind]
    return of(ctrs, **settings, **options)


def check_module(module: Callable[[Tensor], Any], kind: str, x: Tensor) -> None:
    out = module(x)
    check(tuple(out) if isinstance(out, tuple) else (out,), CALLS[kind], (x, SECOND[1]))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("trace", [torch.fx.symbolic_trace, lambda module: torch.jit.trace(module, FIRST[0])])
def test_modules_are_traced_as_modules(kind, trace):
    for x in (SECOND[0], LONGER[0]):
        check_module(trace(filled(made(kind, torch.zeros(N_CTRS, D)))), kind, x)


def test_a_traced_loss_module_takes_other_tensors():
    graph = torch.fx.symbolic_trace(LogCoshLoss("sum"))
    torch.testing.assert_close(graph(LONGER[0], 3 * LONGER[0]).double(), true_log_cosh(2 * LONGER[0]).sum())
    assert [node.target for node in graph.graph.nodes if node.op == "call_function"] == [log_cosh_loss]


def test_symbolic_traces_hold_one_node_and_take_other_sizes():
    graph = torch.fx.symbolic_trace(lambda x, c: knn(x, c, K, metric="sqeuclidean").indices)
    assert torch.equal(graph(*LONGER), true_nearest(*LONGER)[1])
    assert knn in [node.target for node in graph.graph.nodes]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "late",
    [
        lambda kind: made(kind, torch.empty(N_CTRS, D, device="meta")).to_empty(device="cpu"),
        lambda kind: made(kind, torch.randn(N_CTRS, D), device="meta").to_empty(device="cpu"),
        lambda kind: nn.utils.skip_init(KINDS[kind][0], torch.randn(N_CTRS, D), **KINDS[kind][1]),
        lambda kind: copy.deepcopy(made(kind, torch.randn(N_CTRS, D))).to("meta").to_empty(device="cpu"),
    ],
    ids=["meta centres", "device=meta", "skip_init", "deepcopy to meta"],
)
def test_modules_are_initialised_late(kind, late):
    module = filled(late(kind))
    check_module(module, kind, SECOND[0])
    for again in (copy.deepcopy(module), pickle.loads(pickle.dumps(module)), saved_and_loaded(module)):
        check_module(again, kind, LONGER[0])


def saved_and_loaded(module: nn.Module) -> nn.Module:
    file = io.BytesIO()
    torch.save(module, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


@pytest.mark.parametrize("learned", [False, True])
def test_a_device_keeps_what_is_learned_and_what_is_not(learned):
    ctrs = nn.Parameter(torch.zeros(4, 2), requires_grad=False) if learned else torch.zeros(4, 2, requires_grad=True)
    module = NearestCenters(ctrs, 2, device="meta")
    assert isinstance(module.ctrs, nn.Parameter) is learned
    assert (module.ctrs.is_meta, module.ctrs.requires_grad) == (True, False)
    assert PiecewiseLinear(torch.zeros(4, 2), 3, 2, device="meta").weight.is_meta


def test_a_module_without_values_says_so():
    late = NearestCenters(torch.zeros(5, 2, device="meta"), 2)
    assert late(torch.zeros(7, 2, device="meta")).indices.shape == (7, 2)
    with pytest.raises(ValueError, match="on one device, got x on cpu and ctrs on meta"):
        late(torch.zeros(7, 2))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("training", [False, True])
def test_an_ensemble_of_modules_is_the_loop_over_them(kind, training):
    models = [made(kind, randn(N_CTRS, D, seed=i)).train(training) for i in range(3)]
    for i, model in enumerate(models):
        for j, parameter in enumerate(model.parameters()):
            parameter.data = randn(*parameter.shape, seed=10 * i + j)
    parameters, buffers = torch.func.stack_module_state(models)
    base, x = copy.deepcopy(models[0]).to("meta"), SECOND[0]

    def out(parameters, buffers, x):
        found = functional_call(base, (parameters, buffers), (x,))
        return found.distances if kind == "NearestCenters" else found

    got = torch.vmap(out, (0, 0, None), randomness="same")
    seed()
    values = got(parameters, buffers, x)
    for i, model in enumerate(models):
        seed()
        right = model(x)
        torch.testing.assert_close(values[i], right.distances if kind == "NearestCenters" else right)
    if not training and kind == "PiecewiseLinear":
        gradient = torch.func.grad(lambda p: got(p, buffers, x).square().sum())(parameters)["weight"]
        for model, g in zip(models, gradient, strict=True):
            torch.testing.assert_close(torch.autograd.grad(model(x).square().sum(), model.weight)[0], g)
    if training:
        several = torch.vmap(out, (0, 0, None), randomness="different")(parameters, buffers, x)
        assert several.shape == values.shape
