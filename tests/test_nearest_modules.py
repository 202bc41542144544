"""The modules: centre dropout in train(), all centres in eval(), and the function they compute with its derivatives."""

from __future__ import annotations

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

import fresh_process
from janelia_core.ml import NearestCenters, PiecewiseLinear
from janelia_core.ml._neighbors.affine import sums as affine
from janelia_core.ml._neighbors.affine.gradients import affine_values
from janelia_core.ml._neighbors.derivatives import pair_blocks
from janelia_core.ml.neighbors import knn

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script:DeprecationWarning")  # torch warns of itself

SOME = torch.tensor([[0, 2], [4, -1], [3, 2], [1, 0]])


def random(*shape: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(sum(shape))).requires_grad_()


def plain(weight, bias, x, c, indices):
    """The sum of affine maps as anybody would write it."""
    there, j = (indices >= 0).to(x.dtype), indices.clamp(min=0)
    maps = torch.einsum("nkod,nkd->nko", weight[j], x[:, None] - c[j]) + bias[j]
    return (maps * there[..., None]).sum(1)


@pytest.fixture(params=[0, 1 << 60], ids=["kernels", "torch"])
def route(request, monkeypatch):
    """Both ways of summing over pairs: compiled, and in torch operations."""
    monkeypatch.setattr(pair_blocks, "FEWEST", request.param)


@pytest.mark.usefixtures("route")
def test_first_and_second_derivatives_of_affine_sums():
    inputs = random(5, 2, 3), random(5, 2), random(4, 3), random(5, 3)

    def function(*args):
        return affine_values(*args, SOME, 200)

    torch.testing.assert_close(function(*inputs), plain(*inputs, SOME))
    assert gradcheck(function, inputs, check_forward_ad=True, check_batched_grad=True)
    assert gradgradcheck(function, inputs, check_fwd_over_rev=True, fast_mode=True)
    seen = []
    for out in (function(*inputs), plain(*inputs, SOME)):
        first = torch.autograd.grad((out * random(4, 2)).sum(), inputs, create_graph=True)
        mixed = sum((g * random(7, *g.shape)[5].detach()).sum() for g in first)
        seen += [(*first, *torch.autograd.grad(mixed, inputs, allow_unused=True, materialize_grads=True))]
    for a, b in zip(*seen, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-11)
    got = torch.func.hessian(lambda x: function(*inputs[:2], x, inputs[3]).square().sum())(inputs[2])
    expected = torch.func.hessian(lambda x: plain(*inputs[:2], x, inputs[3], SOME).square().sum())(inputs[2])
    torch.testing.assert_close(got, expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_kernels_and_torch_operations_agree_whatever_the_memory(dtype, monkeypatch):
    n, m, d, o, k = 300, 40, 3, 2, 4
    weight, bias, x, c, g = (
        random(*shape, dtype=dtype).detach() for shape in ((m, o, d), (m, o), (n, d), (m, d), (n, o))
    )
    indices = torch.randint(-1, m, (n, k), generator=torch.Generator().manual_seed(0))
    results = []
    for fewest in (0, 1 << 60):
        monkeypatch.setattr(pair_blocks, "FEWEST", fewest)
        for budget in (1, 5000, 1 << 26):
            values = affine.values(weight, bias, x, c, indices, budget)
            results.append((values, *affine.maps(g, x, c, indices, budget), *affine.points(g, weight, indices, budget)))
    for other in results[1:]:
        for a, b in zip(other, results[0], strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4 if dtype == torch.float32 else 1e-12, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(3,), (6, 3), (2, 5, 3), (0, 3)])
def test_piecewise_linear_is_the_sum_over_the_nearest_centres_in_its_own_dtype(dtype, shape):
    f = PiecewiseLinear(torch.nn.Parameter(random(9, 3).detach().to(dtype)), 2, 4)
    assert not f(torch.ones(shape, dtype=dtype)).any()
    for parameter in (f.weight, f.bias):
        parameter.data.normal_(generator=torch.Generator().manual_seed(0))
    x = random(*shape).detach().to(dtype)
    out = f(x)
    assert out.shape == (*shape[:-1], 2)
    assert out.dtype == dtype
    rows, ctrs = x.reshape(-1, 3).double(), f.nearest.ctrs.double()
    expected = plain(f.weight.double(), f.bias.double(), rows, ctrs, knn(rows, ctrs, 4).indices)
    torch.testing.assert_close(out.reshape(-1, 2), expected.to(dtype))
    out.sum().backward()
    assert all(parameter.grad.dtype == dtype for parameter in f.parameters())


def test_a_pixel_number_is_a_fine_sample():
    f = PiecewiseLinear(torch.tensor([[0.0, 0.0], [4.0, 4.0]]), 1, 1)
    f.bias.data[1] = 5.0
    assert f(torch.tensor([[0, 1], [3, 4]])).tolist() == [[0.0], [5.0]]


@pytest.mark.parametrize("learned", [True, False])
def test_centres_are_learned_if_they_are_a_parameter_and_saved_in_any_case(learned):
    ctrs = random(6, 2).detach()
    f = NearestCenters(torch.nn.Parameter(ctrs) if learned else ctrs, 2)
    assert [name for name, _ in f.named_parameters()] == (["ctrs"] if learned else [])
    assert list(f.state_dict()) == ["ctrs"]
    other = NearestCenters(torch.zeros_like(ctrs), 2)
    other.load_state_dict(f.state_dict())
    for a, b in zip(other(ctrs + 0.1), f(ctrs + 0.1), strict=True):
        assert torch.equal(a, b)
    if learned:
        f(ctrs + 0.1).distances.sum().backward()
        assert f.ctrs.grad.abs().sum() > 0


def test_centres_drop_out_while_training_and_only_then():
    ctrs, x = random(50, 2).detach(), random(2, 20, 2).detach()
    f = NearestCenters(ctrs, 3, n_ctrs_used=10, m=7, metric="sqeuclidean")
    torch.manual_seed(5)
    first, second = f(x), f(x)
    torch.manual_seed(5)
    expected = knn(x.flatten(0, 1), ctrs, 3, sample=10, metric="sqeuclidean")
    assert first.indices.shape == (2, 20, 3)
    assert torch.equal(first.indices.flatten(0, 1), expected.indices)
    assert torch.equal(first.distances.flatten(0, 1), expected.distances)
    assert not torch.equal(first.indices, second.indices)
    assert first.indices.unique().numel() <= 10
    before = torch.get_rng_state()
    assert torch.equal(f.eval()(x).indices, knn(x, ctrs, 3).indices)
    assert torch.equal(torch.get_rng_state(), before)


def test_piecewise_linear_drops_centres_while_training():
    f = PiecewiseLinear(torch.arange(8.0)[:, None], 1, 1, n_ctrs_used=1)
    f.bias.data[:, 0] = torch.arange(8.0)
    torch.manual_seed(0)
    x = torch.arange(8.0)[:, None]
    seen = {f(x).unique().item() for _ in range(50)}  # one centre serves all samples of a call
    assert len(seen) > 4
    assert torch.equal(f.eval()(x), x)


def test_modules_print_their_settings():
    assert str(NearestCenters(torch.zeros(9, 3), 2)) == "NearestCenters(n_ctrs=9, d=3, k=2)"
    text = str(PiecewiseLinear(torch.zeros(9, 3), 4, 2, n_ctrs_used=5, m=3))
    assert "n_outputs=4" in text
    assert "n_ctrs=9, d=3, k=2, n_ctrs_used=5, m=3" in text
    assert "metric='dot'" in str(NearestCenters(torch.zeros(9, 3), 2, metric="dot"))


TRAIN = """
import resource, sys, torch
from janelia_core.ml import PiecewiseLinear

def peak():
    with open("/proc/self/status") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("VmHWM"))

n, k = 200_000, 8
x, f = torch.rand(n, 2), PiecewiseLinear(torch.nn.Parameter(torch.rand(2000, 2)), 32, k)

def step(x):
    f(x).square().mean().backward()

step(x[:20_000])
with open("/proc/self/clear_refs", "w") as file:
    file.write("5")
before = peak()
step(x)
print((peak() - before) * 1024)
"""


def test_a_training_step_holds_nothing_of_the_size_of_all_pairs():
    done = fresh_process.run(TRAIN)
    assert done.returncode == 0, done.stderr
    indices, outputs, all_pairs = 200_000 * 8 * 8, 200_000 * 32 * 4, 200_000 * 8 * 32 * 2 * 4
    # Indices as they are found and as they are returned; outputs, their squares and two gradients; and 64 MiB.
    assert int(done.stdout) < 2 * indices + 4 * outputs + 64 * 2**20 < all_pairs / 2
