"""What log cosh takes, what it gives back, and what it leaves alone."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

import fresh_process
from janelia_core.ml import log_cosh
from janelia_core.ml._log_cosh import blocks, formulas
from janelia_core.ml._log_cosh.blocks import LARGE
from janelia_core.ml._runtime import team

DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]


def expected(x: Tensor) -> Tensor:
    """Element by element, through the torch formula."""
    values = blocks._widened(formulas.log_cosh, [x.detach().contiguous().reshape(-1)], formulas.FLOATS)
    return values.reshape(x.shape)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (0,), (3, 0), (1,), (5, 7), (300, 500), (2, 1, 300, 400)])
def test_shape_and_dtype_are_kept(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    x = torch.randn(shape).to(dtype)
    before = x.clone()
    y = log_cosh(x)
    assert (y.shape, y.dtype, y.device, y.stride()) == (x.shape, dtype, x.device, x.stride())
    torch.testing.assert_close(y, expected(x))
    assert torch.equal(x, before)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "view",
    [
        lambda t: t.T,
        lambda t: t[::2, 1::3],
        lambda t: t[:, None].expand(-1, 3, -1),
        lambda t: t[5:, :],
        lambda t: t.unfold(0, 3, 1),
        lambda t: t.flip(0)[:1].T,
        lambda t: t.reshape(2, -1, 4, 10).contiguous(memory_format=torch.channels_last),
    ],
)
def test_every_layout_gives_the_same_values(view: object, dtype: torch.dtype) -> None:
    for n in (10, 1200):
        x = view(torch.randn(n * 4, 400 if n > 10 else 40).to(dtype))
        y = log_cosh(x)
        torch.testing.assert_close(y, expected(x))
        assert y.stride() == x.tanh().stride()


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.int16, torch.int32, torch.int64, torch.bool])
@pytest.mark.parametrize("default", [torch.float32, torch.float64])
def test_integers_and_booleans_take_the_default_dtype(dtype: torch.dtype, default: torch.dtype) -> None:
    before = torch.get_default_dtype()
    torch.set_default_dtype(default)
    try:
        y = log_cosh(torch.tensor([0, 1, 1], dtype=dtype))
    finally:
        torch.set_default_dtype(before)
    assert y.dtype == default
    torch.testing.assert_close(y[1].item(), 0.4337808304830271, rtol=1e-6, atol=0)


@pytest.mark.parametrize(
    "x", [[1.0], 1.0, torch.tensor([1j]), torch.eye(2).to_sparse(), torch.ones(2).to(torch.float8_e5m2)]
)
def test_other_types_are_refused_with_the_argument_named(x: object) -> None:
    with pytest.raises(TypeError, match=r"^x must be"):
        log_cosh(x)  # type: ignore[arg-type]


class Labelled(Tensor):
    """A subclass with torch's default behaviour."""


@pytest.mark.parametrize("n", [10, LARGE])
def test_subclasses_and_parameters(n: int) -> None:
    values = torch.randn(n)
    assert type(log_cosh(values.as_subclass(Labelled))) is Labelled
    torch.testing.assert_close(log_cosh(values.as_subclass(Labelled)).as_subclass(Tensor), log_cosh(values))
    parameter = torch.nn.Parameter(values)
    log_cosh(parameter).sum().backward()
    torch.testing.assert_close(parameter.grad, values.tanh())


def test_modes_see_the_function_and_its_operations() -> None:
    seen: list[object] = []

    class Functions(TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            seen.append(func)
            return func(*args, **(kwargs or {}))

    class Operations(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            seen.append(func)
            return func(*args, **(kwargs or {}))

    with Functions():
        log_cosh(torch.ones(2))
    assert log_cosh in seen
    with Operations():
        log_cosh(torch.ones(LARGE))
    assert torch.ops.aten.log1p_.default in seen


def test_inference_mode_and_meta_tensors() -> None:
    with torch.inference_mode():
        for dtype, n in itertools.product(DTYPES, (10, 5 * LARGE)):
            x = torch.randn(n).to(dtype)
            torch.testing.assert_close(log_cosh(x), expected(x))
    assert log_cosh(torch.empty(3, LARGE, device="meta")).shape == (3, LARGE)


@pytest.fixture
def thread_count() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("threads", [1, 2])
def test_a_call_leaves_torch_as_it_was(threads: int, thread_count: None) -> None:
    x = torch.randn(8 * LARGE, requires_grad=True)
    torch.set_num_threads(threads)
    state = torch.get_rng_state()
    alive = threading.enumerate()
    log_cosh(x).sum().backward()
    assert torch.get_num_threads() == threads
    waiting = [thread for thread in threading.enumerate() if thread not in alive]
    assert len(waiting) < threads
    assert all(thread.daemon and thread.name == team.NAME for thread in waiting)
    assert torch.is_grad_enabled()
    assert torch.equal(torch.get_rng_state(), state)


def test_threads_are_bounded_by_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    used: set[int] = set()
    barrier = threading.Barrier(3, timeout=20)

    def block(start: int, stop: int) -> None:
        used.add(threading.get_ident())
        if start < 3 * LARGE:
            barrier.wait()  # three blocks at once need three threads

    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    blocks._run(block, 100 * LARGE, LARGE)
    assert len(used) == 3
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    used.clear()
    blocks._run(lambda start, stop: used.add(threading.get_ident()), 100 * LARGE, LARGE)
    assert used == {threading.get_ident()}


def test_an_error_in_a_helper_thread_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    def block(start: int, stop: int) -> None:
        if start == 7 * LARGE:
            raise ArithmeticError("block 7")

    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    with pytest.raises(ArithmeticError, match="block 7"):
        blocks._run(block, 20 * LARGE, LARGE)


def test_concurrent_callers_get_their_own_answers() -> None:
    xs = [torch.randn(6 * LARGE + i) for i in range(12)]
    right = [log_cosh(x) for x in xs]
    with ThreadPoolExecutor(6) as pool:
        for got, y in zip(pool.map(log_cosh, xs), right, strict=True):
            assert torch.equal(got, y)


def test_the_number_of_threads_changes_no_bit(thread_count: None) -> None:
    x = torch.randn(7 * LARGE + 13)
    results = []
    for threads in (1, 2, 5):
        torch.set_num_threads(threads)
        results.append(log_cosh(x))
    assert all(torch.equal(y, results[0]) for y in results)


@pytest.mark.parametrize("dtype", DTYPES)
def test_without_numba_large_tensors_use_torch_in_blocks(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "may_serve", lambda: False)
    monkeypatch.setattr(blocks, "_kernel_block", None)
    x = torch.randn(3 * LARGE + 5).to(dtype).requires_grad_()
    y = log_cosh(x)
    y.sum().backward()
    torch.testing.assert_close(y, expected(x))
    torch.testing.assert_close(x.grad, x.detach().tanh())


def test_importing_and_small_tensors_leave_numba_alone() -> None:
    code = (
        "import sys, torch\n"
        "from janelia_core.ml import log_cosh\n"
        "x = torch.randn(1000, requires_grad=True)\n"
        "log_cosh(x).sum().backward()\n"
        "sys.exit('numba' in sys.modules)"
    )
    done = fresh_process.run(code)
    assert done.returncode == 0, done.stderr
