"""Every function works every way in which PyTorch runs code: compiled, traced, exported, transformed, on fake tensors.

A table: each call of CALLS goes each way of WAYS. A way meets the call with one pair of tensors (to compile, to trace)
and answers for another, which is compared with float64.
"""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.export import Dim
from torch.func import functional_call
from torch.fx.experimental.proxy_tensor import make_fx
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map
from torch.utils.checkpoint import checkpoint

import fresh_process
from janelia_core.ml import LogCoshLoss, NearestCenters, PiecewiseLinear, knn, log_cosh
from janelia_core.ml._log_cosh_loss import log_cosh_loss
from janelia_core.ml.extra_torch_functions import knn_do, knn_mc
from janelia_core.ml.neighbors import knn_graph

# torch warns of itself: of what it deprecates and uses, and of shapes that a trace looks at.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning"),
    pytest.mark.filterwarnings("ignore:The PyTorch API of MaskedTensors:UserWarning"),
    pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning"),
]

N, N_CTRS, D, K, DRAWN = 12, 20, 3, 3, 10
Pair = tuple[Tensor, Tensor]
Function = Callable[[Tensor, Tensor], tuple[Tensor, ...]]
Way = Callable[[Function, Pair, Pair], tuple[Tensor, ...]]


def randn(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


FIRST: Pair = randn(N, D, seed=1), randn(N_CTRS, D, seed=2)
SECOND: Pair = randn(N, D, seed=3), randn(N_CTRS, D, seed=4)
LONGER: Pair = randn(N + 5, D, seed=5), randn(N_CTRS + 7, D, seed=6)
NEAREST = NearestCenters(torch.zeros(N_CTRS, D), K)
SOME_NEAREST = NearestCenters(torch.zeros(N_CTRS, D), K, n_ctrs_used=DRAWN)
MAPS = PiecewiseLinear(torch.zeros(N_CTRS, D), 2, K)


@pytest.fixture(autouse=True)
def _forget_compiled_code():
    yield
    torch._dynamo.reset()


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


# The ways.


class AsModule(nn.Module):
    def __init__(self, run: Function) -> None:
        super().__init__()
        self.run = run

    def forward(self, x: Tensor, ctrs: Tensor) -> tuple[Tensor, ...]:
        return self.run(x, ctrs)


class Labelled(Tensor):
    """A subclass with torch's default behaviour."""


class Wrapped(Tensor):
    """A subclass that wraps a tensor, as those of quantization and sharding do: it has no memory of its own."""

    inner: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor) -> Wrapped:
        made: Any = Tensor._make_wrapper_subclass(cls, inner.shape, dtype=inner.dtype, strides=inner.stride())
        made.inner = inner
        return made

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        bare = tree_map(lambda a: a.inner if isinstance(a, Wrapped) else a, (args, kwargs or {}))
        return tree_map(lambda a: Wrapped(a) if isinstance(a, Tensor) else a, func(*bare[0], **bare[1]))


class SeesOperations(TorchDispatchMode):
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return func(*args, **(kwargs or {}))


class SeesFunctions(TorchFunctionMode):
    def __torch_function__(self, func, types, args=(), kwargs=None):
        return func(*args, **(kwargs or {}))


def compiled(**how: Any) -> Way:
    def way(run: Function, first: Pair, second: Pair) -> tuple[Tensor, ...]:
        fast = torch.compile(run, **how)
        fast(*first)
        seed()
        return fast(*second)

    return way


def compiled_training(run: Function, first: Pair, second: Pair) -> tuple[Tensor, ...]:
    fast = torch.compile(run, backend="aot_eager", fullgraph=True)
    for pair in (first, second):
        pair = [t.clone().requires_grad_() for t in pair]
        seed()
        out = fast(*pair)
        if out[0].requires_grad:
            out[0].sum().backward()
            assert pair[0].grad.isfinite().all()
    return out


def compiled_vmap(run: Function, first: Pair, second: Pair) -> tuple[Tensor, ...]:
    fast = torch.compile(torch.vmap(run, randomness="same"), backend="aot_eager", fullgraph=True)
    seed()
    return tuple(o[1] for o in fast(*(torch.stack(pair) for pair in zip(first, second, strict=True))))


def traced(run: Function, first: Pair, second: Pair) -> tuple[Tensor, ...]:
    trace, file = torch.jit.trace(run, first, check_trace=False), io.BytesIO()
    torch.jit.save(trace, file)
    file.seek(0)
    seed()
    return tuple(torch.jit.load(file)(*second))


def exported(strict: bool) -> Way:
    def way(run: Function, first: Pair, second: Pair) -> tuple[Tensor, ...]:
        dynamic = {"x": {0: Dim("n", min=2)}, "ctrs": None}
        program, file = torch.export.export(AsModule(run), first, dynamic_shapes=dynamic, strict=strict), io.BytesIO()
        torch.export.save(program, file)
        file.seek(0)
        seed()
        return torch.export.load(file).module()(*second)

    return way


def graphed(**how: Any) -> Way:
    def way(run: Function, first: Pair, second: Pair) -> tuple[Tensor, ...]:
        graph = make_fx(run, **how)(*first)
        seed()
        return graph(*second)

    return way


def symbolic(run: Function, first: Pair, second: Pair) -> tuple[Tensor, ...]:
    graph = torch.fx.symbolic_trace(AsModule(run))
    seed()
    return graph(*second)


def batched(in_dims: tuple[int | None, int | None], out_dim: int = 0) -> Way:
    def way(run: Function, first: Pair, second: Pair) -> tuple[Tensor, ...]:
        args = [
            there if dim is None else torch.stack([other, there], dim)
            for other, there, dim in zip(first, second, in_dims, strict=True)
        ]
        seed()
        out = torch.vmap(run, in_dims, out_dim, randomness="same")(*args)
        return tuple(o.select(out_dim, 1) for o in out)

    return way


def nested(run: Function, first: Pair, second: Pair) -> tuple[Tensor, ...]:
    xs, ctrs = (torch.stack(pair) for pair in zip(first, second, strict=True))
    inner = lambda x: torch.vmap(lambda c: run(x, c), randomness="same")(ctrs)  # noqa: E731
    seed()
    return tuple(o[1, 1] for o in torch.vmap(inner, randomness="same")(xs))


def around(transform: Callable[[Callable[[Tensor], Any], Tensor], tuple[Tensor, ...]]) -> Way:
    """Take a derivative of what the results add up to, and hand out the results."""

    def way(run: Function, first: Pair, second: Pair) -> tuple[Tensor, ...]:
        def value(x: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
            out = run(x, second[1])
            return sum((o.sum() if o.is_floating_point() else 0 * o.sum().float()) for o in out), out

        seed()
        return transform(value, second[0])

    return way


def converted(convert: Callable[[Tensor], Tensor], back: Callable[[Tensor], Tensor]) -> Way:
    def way(run: Function, first: Pair, second: Pair) -> tuple[Tensor, ...]:
        seed()
        return tuple(map(back, run(convert(second[0]), second[1])))

    return way


def within(context: Callable[[], Any]) -> Way:
    def way(run: Function, first: Pair, second: Pair) -> tuple[Tensor, ...]:
        seed()
        with context():
            return run(*second)

    return way


def recomputed(run: Function, first: Pair, second: Pair) -> tuple[Tensor, ...]:
    x, ctrs = (t.clone().requires_grad_() for t in second)
    seed()
    out = checkpoint(run, x, ctrs, use_reentrant=False)
    if out[0].requires_grad:
        out[0].sum().backward()
    return out


func = torch.func
WAYS: dict[str, Way] = {
    "as it is": lambda run, first, second: (seed(), run(*second))[1],
    "compile": compiled(backend="eager"),
    "compile fullgraph": compiled(backend="aot_eager", fullgraph=True),
    "compile dynamic": compiled(backend="aot_eager", fullgraph=True, dynamic=True),
    "compile and train": compiled_training,
    "compile vmap": compiled_vmap,
    "jit.trace": traced,
    "export": exported(strict=False),
    "export strict": exported(strict=True),
    "make_fx": graphed(),
    "make_fx symbolic": graphed(tracing_mode="symbolic"),
    "make_fx pre_dispatch": graphed(pre_dispatch=True),
    "functionalize": lambda run, first, second: (seed(), func.functionalize(run)(*second))[1],
    "fx.symbolic_trace": symbolic,
    "vmap over x": batched((0, None)),
    "vmap over centres": batched((None, 0)),
    "vmap over both": batched((0, 0)),
    "vmap over other dimensions": batched((1, 2), out_dim=-1),
    "vmap in vmap": nested,
    "func.grad": around(lambda value, x: func.grad(value, has_aux=True)(x)[1]),
    "func.vjp": around(lambda value, x: func.vjp(value, x, has_aux=True)[2]),
    "func.jvp": around(lambda value, x: func.jvp(value, (x,), (x,), has_aux=True)[2]),
    "func.jacrev": around(lambda value, x: func.jacrev(value, has_aux=True)(x)[1]),
    "func.jacfwd": around(lambda value, x: func.jacfwd(value, has_aux=True, randomness="same")(x)[1]),
    "vmap of func.grad": around(
        lambda value, x: tuple(o[0] for o in torch.vmap(func.grad(value, has_aux=True), randomness="same")(x[None])[1])
    ),
    "a subclass": converted(lambda t: t.as_subclass(Labelled), lambda t: t.as_subclass(Tensor)),
    "a wrapper": converted(Wrapped, lambda t: t.inner),
    "a dispatch mode": within(SeesOperations),
    "a function mode": within(SeesFunctions),
    "another default device": within(lambda: torch.device("meta")),
    "inference_mode": within(torch.inference_mode),
    "autocast": within(lambda: torch.autocast("cpu", dtype=torch.bfloat16)),
    "checkpoint": recomputed,
    "gradients wanted": converted(lambda t: t.clone().requires_grad_(), lambda t: t),
    "a negative view": converted(lambda t: torch.complex(t, -t).conj().imag, lambda t: t),
}
# A stand-in of torch.fx is not unpacked; both tracers want modules to be called, not functional_call: see below.
NOT = {("knn", "fx.symbolic_trace")} | {
    (name, way) for name in CALLS if name[0].isupper() for way in ("fx.symbolic_trace", "jit.trace")
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", CALLS)
def test_the_answer_is_the_same_every_way(name: str, way: str) -> None:
    if (name, way) in NOT:
        pytest.skip("not a way for this")
    check(WAYS[way](CALLS[name].run, FIRST, SECOND), CALLS[name], SECOND)


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


SHAPED = {name: call.run for name, call in CALLS.items()} | {
    "knn, masks": lambda x, c: tuple(knn(x, c, K, mask=x[:, :1] < c[:, 0])),
    "knn, a mask that is a function": lambda x, c: tuple(knn(x, c, K, mask=lambda i, a, b: x[i, :1] < c[a:b, 0])),
    "knn, batches": lambda x, c: tuple(
        knn(x, c, K, x_batch=torch.zeros_like(x[:, 0]).long(), ctrs_batch=torch.zeros_like(c[:, 0]).long())
    ),
    "knn, lengths": lambda x, c: tuple(knn(x[None], k=K, lengths=torch.ones_like(x[:1, 0]).long())),
    "knn_graph, distances": lambda x, c: knn_graph(x, K, mode="distance"),
}


@pytest.mark.parametrize("name", SHAPED)
def test_tensors_without_values_give_results_without_values(name):
    run = SHAPED[name]
    right = run(*SECOND)
    without = [("meta", run(*(t.to("meta") for t in SECOND)))]
    without += [("meta", run(*(t.to("meta").requires_grad_() for t in SECOND)))]
    with FakeTensorMode() as mode:
        without += [("cpu", run(*map(mode.from_tensor, SECOND)))]
    for device, got in without:
        assert [(t.shape, t.dtype, t.stride(), t.device.type) for t in got] == [
            (t.shape, t.dtype, t.stride(), device) for t in right
        ]


def test_a_module_without_values_says_so():
    late = NearestCenters(torch.zeros(5, 2, device="meta"), 2)
    assert late(torch.zeros(7, 2, device="meta")).indices.shape == (7, 2)
    with pytest.raises(ValueError, match="on one device, got x on cpu and ctrs on meta"):
        late(torch.zeros(7, 2))


@pytest.mark.parametrize("way", ["jit.trace", "make_fx", "vmap over both", "vmap in vmap", "func.grad", "export"])
def test_a_mask_that_is_a_function_is_asked_where_torch_traces_or_transforms(way):
    def allowed(rows: Tensor, first: int, last: int) -> Tensor:
        return (rows[:, None] + torch.arange(first, last)) % 3 > 0

    def truth(x: Tensor, c: Tensor) -> tuple[Tensor]:
        squares = (x.double()[:, None] - c.double()).square().sum(-1)
        squares[~allowed(torch.arange(len(x)), 0, len(c))] = torch.inf
        return (squares.topk(K, largest=False).indices,)

    call = Call(lambda x, c: (knn(x, c, K, mask=allowed).indices,), truth)
    check(WAYS[way](call.run, FIRST, SECOND), call, SECOND)


def test_compiled_and_exported_code_takes_other_sizes_and_other_numbers():
    fast = torch.compile(lambda x, c, k, m: knn_mc(x, c, k, m), backend="aot_eager", fullgraph=True, dynamic=True)
    for (x, c), k, m in ((FIRST, 3, 7), (LONGER, 5, 2), (SECOND, 20, 30)):
        assert torch.equal(fast(x, c, k, m), true_nearest(x, c, k)[1].T)
    half = AsModule(lambda x, c: (knn_mc(x, c, c.shape[0] // 2, c.shape[0]),))
    sizes = {"x": {0: Dim.AUTO}, "ctrs": {0: Dim.AUTO}}
    program = torch.export.export(half, FIRST, dynamic_shapes=sizes).module()
    assert torch.equal(program(*LONGER)[0], true_nearest(*LONGER, len(LONGER[1]) // 2)[1].T)


@pytest.mark.parametrize("mode", ["default", "reduce-overhead"])
def test_inductor_takes_everything_whole(mode):
    def everything(x: Tensor, c: Tensor) -> list[tuple[Tensor, ...]]:
        return [CALLS[name].run(x, c) for name in names]

    names = [name for name in CALLS if "some" not in name]  # one draw for a seed
    fast = torch.compile(everything, fullgraph=True, mode=mode)
    fast(*FIRST)
    for pair in (SECOND, LONGER):
        pair = pair[0], pair[1][:N_CTRS]
        seed()
        for name, got in zip(names, fast(*pair), strict=True):
            check(tuple(got), CALLS[name], pair)


COLD = """
import torch
from janelia_core.ml import knn, log_cosh
from janelia_core.ml.extra_torch_functions import knn_do, knn_mc
torch.manual_seed(0)
x, ctrs, long = torch.randn(300, 16), torch.randn(500, 16), torch.randn(1 << 17)
right = (x.double()[:, None] - ctrs.double()).square().sum(-1).topk(5, largest=False).indices
fast = torch.compile(lambda *a: (knn_mc(*a, 5, 100), knn_do(*a, 5, 100, 500), knn(*a, 5).indices, log_cosh(long)),
                     backend="eager", fullgraph=FULLGRAPH)
mc, do, both, values = fast(x, ctrs)
assert torch.equal(mc, right.T) and torch.equal(do, right.T) and torch.equal(both, right)
torch.testing.assert_close(values.double(), long.double().cosh().log())
"""


@pytest.mark.parametrize("fullgraph", [False, True])
def test_code_compiled_before_any_kernel_is(fullgraph, tmp_path):
    start = f"import os; os.environ['NUMBA_CACHE_DIR'] = {str(tmp_path)!r}\n"
    done = fresh_process.run(start + COLD.replace("FULLGRAPH", str(fullgraph)))
    assert done.returncode == 0, done.stderr
    assert any(tmp_path.rglob("*.nbi")), "no kernel was compiled: the cache was not cold"


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


def test_derivatives_around_indices_are_those_of_the_loss():
    x, c = SECOND
    gap = (x - c[true_nearest(x, c, 1)[1][:, 0]]).double()

    def loss(x: Tensor) -> Tensor:
        return log_cosh(x - c[knn_mc(x, c, 1, 7)[0]]).sum()

    right = gap.tanh()
    for gradient in (
        func.grad(loss)(x),
        func.jacrev(loss)(x),
        func.jacfwd(loss)(x),
        func.vjp(loss, x)[1](torch.tensor(1.0))[0],
        torch.vmap(func.grad(loss))(x[:, None])[:, 0],
        torch.compile(func.grad(loss), backend="aot_eager", fullgraph=True)(x),
        torch.autograd.functional.jacobian(loss, x, vectorize=True),
        torch.autograd.functional.jacobian(loss, x, vectorize=True, strategy="forward-mode"),
    ):
        torch.testing.assert_close(gradient.double(), right, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(func.jvp(loss, (x,), (x,))[1].double(), (right * x).sum(), rtol=1e-5, atol=1e-6)
    second = func.hessian(loss)(x).reshape(x.numel(), -1)
    torch.testing.assert_close(second.double(), (1 - right.square()).flatten().diag(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["knn", "PiecewiseLinear", "log_cosh"])
@pytest.mark.parametrize("transform", [func.grad, lambda f: torch.vmap(func.grad(f)), func.jacfwd, func.hessian])
def test_a_compiled_derivative_of_torch_func_is_right_without_fullgraph(name, transform):
    run, (x, c) = CALLS[name].run, SECOND
    x = x[:5, None].expand(5, 2, 3) * torch.tensor([[1.0], [2.0]])
    derivative = transform(lambda x: run(x.reshape(-1, 3), c)[0].square().sum())
    right = derivative(x.double())
    fast = torch.compile(derivative, backend="aot_eager")(x)
    torch.testing.assert_close(fast.double(), right.double(), rtol=1e-4, atol=1e-4)


def test_what_dynamo_cannot_take_whole_is_one_sentence_with_fullgraph():
    x, c = SECOND
    generator = torch.Generator()
    for run, says in (
        (func.grad(lambda x: knn(x, c).distances.sum()), "torch.compile takes no derivative by torch.func of knn"),
        (lambda x: knn(x, c, mask=lambda i, a, b: i[:, None] >= 0), "takes no mask that is a function"),
        (lambda x: knn_do(x, c, 1, 7, 5, generator=generator), "torch.compile takes no generator"),
        (torch.vmap(func.grad(lambda x: log_cosh(x).sum())), "torch.compile cannot nest"),
    ):
        with pytest.raises(torch._dynamo.exc.Unsupported, match=says):
            torch.compile(run, backend="eager", fullgraph=True)(x)


def test_draws_from_a_generator_are_the_same_every_way_that_takes_one():
    def run(x: Tensor, c: Tensor) -> tuple[Tensor]:
        return (knn_do(x, c, K, 7, DRAWN, generator=generator.manual_seed(5)),)

    generator = torch.Generator()
    right = run(*SECOND)[0]
    for way in ("compile", "func.grad", "vmap over both", "a subclass", "a function mode", "checkpoint"):
        assert torch.equal(WAYS[way](run, FIRST, SECOND)[0], right)


def test_each_of_a_batch_draws_its_own_centres_where_that_is_asked_for():
    x, c = SECOND
    got = torch.vmap(lambda x: knn_do(x, c, K, 7, DRAWN), randomness="different")(x.expand(9, N, D))
    assert len({indices.numpy().tobytes() for indices in got}) > 1
    assert all(indices.unique().numel() <= DRAWN for indices in got)


@pytest.mark.parametrize("three", [3, np.int64(3), np.uint8(3), np.array(3), torch.tensor(3), torch.tensor(3).byte()])
def test_integers_of_every_kind_count(three):
    x, c = SECOND
    indices = true_nearest(x, c, 3)[1]
    assert torch.equal(knn_mc(x, c, three, three, max_memory=three << 20), indices.T)
    assert knn_do(x, c, three, three, three).unique().numel() == 3
    assert torch.equal(knn(x, c, three, m=three).indices, indices)
    assert knn(x, c, three, sample=three).indices.unique().numel() == 3
    module = PiecewiseLinear(c, three, three, three, three)
    assert [type(n) for n in (module.nearest.k, module.nearest.m, module.nearest.n_ctrs_used)] == [int] * 3
    assert module(x).shape == (N, 3)
    assert torch.equal(torch.compile(lambda x, c: knn_mc(x, c, three, 7), backend="eager")(x, c), indices.T)


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


@pytest.mark.parametrize("way", ["compile dynamic", "vmap over both", "jit.trace", "export", "func.jacrev"])
def test_no_rows_are_fine_every_way(way):
    none = SECOND[0][:0], SECOND[1]
    first = none if way.startswith("vmap") else FIRST
    if way == "export":  # torch takes 0 and 1 for special
        first = none = none[0], none[1]
        got = torch.export.export(AsModule(CALLS["knn_mc"].run), none).module()(*none)
    else:
        got = WAYS[way](CALLS["knn_mc"].run, first, none)
    assert got[0].shape == (K, 0)
