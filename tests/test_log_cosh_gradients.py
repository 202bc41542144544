"""Derivatives of log cosh: every order, every mode of autograd, and the compiler."""

from __future__ import annotations

import shutil
from collections.abc import Callable

import mpmath
import numpy as np
import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck
from torch.utils.checkpoint import checkpoint

from janelia_core.ml import log_cosh
from janelia_core.ml._log_cosh import function as module
from janelia_core.ml._log_cosh.blocks import LARGE
from log_cosh_truth import ulp

# torch warns of itself: torch.func.jvp uses torch.jit.script, and the compiler instantiates Functions.
pytestmark = [
    pytest.mark.filterwarnings("ignore:`torch.jit.script:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning"),
]


@pytest.fixture
def x() -> Tensor:
    generator = torch.Generator().manual_seed(3)
    return (3 * torch.randn(7, dtype=torch.float64, generator=generator)).requires_grad_()


def test_first_derivatives_agree_with_finite_differences_in_every_mode(x: Tensor) -> None:
    assert gradcheck(log_cosh, x, check_forward_ad=True, check_batched_grad=True, check_batched_forward_grad=True)


def test_second_derivatives_agree_with_finite_differences_in_every_mode(x: Tensor) -> None:
    assert gradgradcheck(log_cosh, x, check_fwd_over_rev=True, check_rev_over_rev=True, check_batched_grad=True)


def test_third_and_fourth_derivatives_agree_with_finite_differences(x: Tensor) -> None:
    def second(v: Tensor) -> Tensor:
        (first,) = torch.autograd.grad(log_cosh(v).sum(), v, create_graph=True)
        return torch.autograd.grad(first.sum(), v, create_graph=True)[0]

    assert gradcheck(second, x)
    assert gradgradcheck(second, x)


@pytest.mark.parametrize(
    "transform", [torch.func.grad, lambda f: lambda v: torch.func.jvp(f, (v,), (torch.ones_like(v),))[1]]
)
@pytest.mark.parametrize("point", [0.0, 0.3, -1.7, 12.0])
def test_derivatives_to_the_sixth_order_are_right(
    transform: Callable[..., Callable[[Tensor], Tensor]], point: float
) -> None:
    f: Callable[[Tensor], Tensor] = log_cosh
    for order in range(1, 7):
        f = transform(f)
        with mpmath.workdps(80):
            expected = float(mpmath.diff(lambda t: mpmath.log(mpmath.cosh(t)), point, order))
        assert f(torch.tensor(point, dtype=torch.float64)).item() == pytest.approx(expected, rel=1e-13, abs=1e-18)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("n", [1000, LARGE])
def test_the_gradient_is_within_two_ulp_of_tanh(dtype: torch.dtype, n: int) -> None:
    generator = torch.Generator().manual_seed(4)
    v = torch.exp2(torch.rand(n, dtype=torch.float64, generator=generator) * 30 - 25).to(dtype)
    v[::2] *= -1
    v.requires_grad_()
    log_cosh(v).sum().backward()
    right = np.tanh(v.detach().numpy().astype(np.longdouble))
    assert v.grad is not None
    assert (np.abs(v.grad.numpy() - right) / ulp(np.abs(right), dtype)).max() <= 2


def test_the_second_derivative_stays_relatively_accurate_far_out() -> None:
    v = torch.tensor([5.0, 9.0, 15.0, 40.0])
    second = torch.func.vmap(torch.func.grad(torch.func.grad(log_cosh)))(v)
    torch.testing.assert_close(second.double(), 1 / v.double().cosh() ** 2, rtol=1e-6, atol=0)


@pytest.mark.parametrize("n", [5, LARGE])
def test_transforms_compose(n: int) -> None:
    v = torch.linspace(-4, 4, n, dtype=torch.float64)
    func = torch.func
    torch.testing.assert_close(func.vmap(func.grad(log_cosh))(v[:5]), v[:5].tanh())
    torch.testing.assert_close(func.grad(lambda u: func.vmap(log_cosh)(u).sum())(v), v.tanh())
    torch.testing.assert_close(func.jvp(log_cosh, (v,), (2 * v,))[1], 2 * v * v.tanh())
    torch.testing.assert_close(func.vmap(log_cosh, in_dims=1, out_dims=1)(v[None]), log_cosh(v[None]))
    square = v[:5]
    torch.testing.assert_close(func.jacrev(log_cosh)(square), square.tanh().diag())
    torch.testing.assert_close(func.jacfwd(log_cosh)(square), square.tanh().diag())
    torch.testing.assert_close(func.hessian(lambda u: log_cosh(u).sum())(square), (1 / square.cosh() ** 2).diag())


def test_batched_gradients_of_a_large_tensor_are_right() -> None:
    v = torch.randn(LARGE, requires_grad=True)
    g = torch.randn(2, LARGE)
    (batched,) = torch.autograd.grad(log_cosh(v), v, g, is_grads_batched=True)
    torch.testing.assert_close(batched, g * v.detach().tanh())


def test_checkpointing_gives_the_same_gradient(x: Tensor) -> None:
    for reentrant in (False, True):
        x.grad = None
        checkpoint(log_cosh, x, use_reentrant=reentrant).sum().backward()
        torch.testing.assert_close(x.grad, x.detach().tanh())


@pytest.mark.parametrize("layout", ["expanded", "strided", "same"])
def test_backward_takes_gradients_of_every_layout(layout: str) -> None:
    v = torch.randn(300, 400, requires_grad=True)
    g = {
        "expanded": torch.tensor(2.0).expand(300, 400),
        "strided": torch.randn(400, 300).T,
        "same": torch.randn(300, 400),
    }
    (gradient,) = torch.autograd.grad(log_cosh(v), v, g[layout])
    torch.testing.assert_close(gradient, g[layout] * v.detach().tanh())


def test_only_x_is_saved() -> None:
    v = torch.randn(LARGE, requires_grad=True)
    saved: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t) or t, lambda t: t):
        log_cosh(v)
    assert [t.data_ptr() for t in saved] == [v.data_ptr()]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_gradients_are_rounded_once(dtype: torch.dtype) -> None:
    for n in (1000, LARGE):
        v = torch.randn(n).to(dtype).requires_grad_()
        g = torch.randn(n).to(dtype)
        (gradient,) = torch.autograd.grad(log_cosh(v), v, g)
        right = (g.double() * v.detach().double().tanh()).to(dtype)
        assert (gradient != right).sum() <= n // 1000  # a tie decided by float32's last bit


def compilers() -> list[str]:
    return ["eager", "aot_eager"] + (["inductor"] if any(map(shutil.which, ("gcc", "g++", "clang++", "cl"))) else [])


@pytest.mark.parametrize("backend", compilers())
def test_it_compiles_whole_with_and_without_gradient(backend: str) -> None:
    torch._dynamo.reset()
    compiled = torch.compile(log_cosh, fullgraph=True, backend=backend)
    v = torch.linspace(-3, 3, 1001)
    torch.testing.assert_close(compiled(v), log_cosh(v), rtol=3e-7, atol=0)
    v.requires_grad_()
    y = compiled(v)
    torch.testing.assert_close(y, log_cosh(v), rtol=3e-7, atol=0)
    y.sum().backward()
    torch.testing.assert_close(v.grad, v.detach().tanh(), rtol=3e-7, atol=0)


def test_a_graph_is_recorded_only_when_asked_for(x: Tensor) -> None:
    with torch.no_grad():
        assert not log_cosh(x).requires_grad
    assert log_cosh(x).grad_fn is not None
    first = torch.autograd.grad(log_cosh(x).sum(), x)[0]
    assert not first.requires_grad
    assert module._times_sech2(first, x.detach()).grad_fn is None
