"""Every function works every way in which PyTorch runs code: compiled, traced, exported, transformed, on fake tensors.

A table: each call of CALLS goes each way of WAYS. A way meets the call with one pair of tensors (to compile, to trace)
and answers for another, which is compared with float64.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.export import Dim

import fresh_process
from calls import (
    CALLS,
    DRAWN,
    FIRST,
    LONGER,
    SECOND,
    TORCH_WARNS_OF_ITSELF,
    Call,
    D,
    K,
    N,
    check,
    seed,
    true_nearest,
)
from janelia_core.ml import knn, log_cosh
from janelia_core.ml.extra_torch_functions import knn_do, knn_mc
from janelia_core.ml.neighbors import knn_graph
from ways import WAYS, AsModule, compiled

pytestmark = TORCH_WARNS_OF_ITSELF

func = torch.func


@pytest.fixture(autouse=True)
def _forget_compiled_code():
    yield
    torch._dynamo.reset()


# A stand-in of torch.fx is not unpacked; both tracers want modules to be called, not functional_call: see below.
NOT = {("knn", "fx.symbolic_trace")} | {
    (name, way) for name in CALLS if name[0].isupper() for way in ("fx.symbolic_trace", "jit.trace")
}


TABLE = [(name, way) for name in CALLS for way in WAYS if (name, way) not in NOT]


@pytest.mark.parametrize(("name", "way"), TABLE)
def test_the_answer_is_the_same_every_way(name: str, way: str) -> None:
    check(WAYS[way](CALLS[name].run, FIRST, SECOND), CALLS[name], SECOND)


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


def test_inductor_takes_searches_whole():
    names = ["knn", "a loss of knn_mc"]
    fast = torch.compile(lambda x, c: [CALLS[name].run(x, c) for name in names], fullgraph=True, mode="reduce-overhead")
    fast(*FIRST)
    seed()
    for name, got in zip(names, fast(*SECOND), strict=True):
        check(tuple(got), CALLS[name], SECOND)


COLD = """
import os, sys
os.environ["NUMBA_CACHE_DIR"] = sys.argv[1]
import torch
from janelia_core.ml.extra_torch_functions import knn_do, knn_mc
torch.manual_seed(0)
x, ctrs = torch.randn(300, 16), torch.randn(500, 16)
right = (x.double()[:, None] - ctrs.double()).square().sum(-1).topk(5, largest=False).indices.T
for found in torch.compile(lambda *a: (knn_mc(*a, 5, 100), knn_do(*a, 5, 100, 500)), backend="eager")(x, ctrs):
    assert torch.equal(found, right)
"""


def test_code_is_compiled_before_any_kernel_is(tmp_path):
    done = fresh_process.run(COLD, tmp_path)
    assert done.returncode == 0, done.stderr
    assert any(tmp_path.rglob("*.nbi")), "no kernel was compiled: the cache was not cold"


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


@pytest.mark.parametrize(
    ("name", "transform"),
    [
        ("knn", func.grad),
        ("NearestCenters", func.jacfwd),
        ("PiecewiseLinear", lambda f: torch.vmap(func.grad(f))),
        ("log_cosh", func.hessian),
    ],
)
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
    names = ("func.grad", "vmap over both", "a subclass", "a function mode", "checkpoint")
    for way in (compiled(backend="eager"), *(WAYS[name] for name in names)):
        assert torch.equal(way(run, FIRST, SECOND)[0], right)


def test_each_of_a_batch_draws_its_own_centres_where_that_is_asked_for():
    x, c = SECOND
    got = torch.vmap(lambda x: knn_do(x, c, K, 7, DRAWN), randomness="different")(x.expand(9, N, D))
    assert len({indices.numpy().tobytes() for indices in got}) > 1
    assert all(indices.unique().numel() <= DRAWN for indices in got)


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
