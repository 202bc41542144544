"""On a CUDA device a call keeps to the caller's device, stream, flags and memory, and leaves no trace in any."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest
import torch
from torch import Tensor

import fresh_process
from calls import TORCH_WARNS_OF_ITSELF
from janelia_core.ml import PiecewiseLinear, knn, log_cosh
from janelia_core.ml.extra_torch_functions import knn_do, knn_mc

pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here"),
    *TORCH_WARNS_OF_ITSELF,
]

MIB = 1 << 20


def random(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def problem() -> tuple[Tensor, Tensor]:
    return random(200, 40).cuda(), random(5000, 40).cuda()


def everything(x: Tensor, ctrs: Tensor) -> list[Tensor]:
    """What the package computes from x and ctrs, with gradients."""
    x, ctrs = x.clone().requires_grad_(), ctrs.clone().requires_grad_()
    found = knn(x, ctrs, 5, metric="cosine", mask=torch.arange(len(ctrs), device=x.device) % 7 > 0)
    layer = PiecewiseLinear(ctrs.detach(), 2, 3)
    layer.weight.data.fill_(0.5)
    out = log_cosh(layer(x)).sum() + found.distances.square().sum() + knn(x, k=3).distances.sum()
    gradients = torch.autograd.grad(out, (x, ctrs, layer.weight))
    return [knn_mc(x, ctrs, 4, 1000), *found, *gradients]


def state() -> tuple[object, ...]:
    matmul = torch.backends.cuda.matmul
    return (
        torch.cuda.current_device(),
        torch.cuda.current_stream(),
        torch.get_num_threads(),
        torch.is_grad_enabled(),
        torch.get_default_dtype(),
        torch.get_float32_matmul_precision(),
        matmul.allow_tf32,
        matmul.allow_fp16_reduced_precision_reduction,
        getattr(matmul, "allow_fp16_accumulation", None),
        torch.backends.cudnn.allow_tf32,
        torch.is_autocast_enabled("cuda"),
        torch.are_deterministic_algorithms_enabled(),
        torch.cuda.get_sync_debug_mode(),
        torch.get_rng_state().tolist(),
        torch.cuda.get_rng_state().tolist(),
    )


def test_global_state_inputs_and_memory_are_as_before() -> None:
    x, ctrs = problem()
    everything(x, ctrs)  # libraries keep workspace for themselves
    copies, before, held = (x.clone(), ctrs.clone()), state(), torch.cuda.memory_allocated()
    everything(x, ctrs)
    assert state() == before
    assert torch.cuda.memory_allocated() == held
    assert torch.equal(x, copies[0])
    assert torch.equal(ctrs, copies[1])


def late(values: Tensor) -> Tensor:
    """A tensor whose values arrive on the current stream only after some tenth of a second."""
    out = torch.full_like(values, torch.nan)
    torch.cuda._sleep(200_000_000)
    return out.copy_(values)


@pytest.mark.parametrize("part", [0, 1], ids=["x", "ctrs"])
def test_work_is_ordered_on_the_callers_stream(part: int) -> None:
    pair = problem()
    expected = everything(*pair)
    torch.cuda.synchronize()
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        got = everything(*(late(t) if i == part else t for i, t in enumerate(pair)))
        assert torch.cuda.current_stream() == stream
        arrived = [t.cpu() for t in got]
    for one, other in zip(arrived, expected, strict=True):
        assert torch.equal(one, other.cpu())


@pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype:UserWarning")
def test_log_cosh_waits_for_nothing() -> None:
    x = random(10_000).cuda()
    try:
        torch.cuda.set_sync_debug_mode("error")
        log_cosh(x)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="no second CUDA device here")
def test_tensors_of_a_device_that_is_not_the_current_one_stay_there() -> None:
    x, ctrs = problem()
    expected = everything(x, ctrs)
    for got, right in zip(everything(x.to("cuda:1"), ctrs.to("cuda:1")), expected, strict=True):
        assert got.device == torch.device("cuda:1")
        torch.testing.assert_close(got.cpu(), right.cpu())
    assert torch.cuda.current_device() == 0


def test_points_on_two_devices_are_refused() -> None:
    x, ctrs = problem()
    with pytest.raises(ValueError, match=r"cuda.*cpu|cpu.*cuda"):
        knn_mc(x, ctrs.cpu(), 1, 10)
    with pytest.raises(ValueError, match="generator"):
        knn_do(x, ctrs, 1, 10, 5, generator=torch.Generator())


FLAGS = {
    "allow_tf32": lambda on: setattr(torch.backends.cuda.matmul, "allow_tf32", on),
    "high": lambda on: torch.set_float32_matmul_precision("high" if on else "highest"),
    "medium": lambda on: torch.set_float32_matmul_precision("medium" if on else "highest"),
    "fp16 sums": lambda on: setattr(torch.backends.cuda.matmul, "allow_fp16_accumulation", on),
    "fp16 reductions": lambda on: setattr(torch.backends.cuda.matmul, "allow_fp16_reduced_precision_reduction", on),
    "float64 by default": lambda on: torch.set_default_dtype(torch.float64 if on else torch.float32),
}


@pytest.mark.parametrize("name", FLAGS)
def test_flags_that_lower_or_raise_precision_change_no_answer(name: str) -> None:
    pair = problem()
    expected = everything(*pair)
    before = torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction
    FLAGS[name](True)
    try:
        got = everything(*pair)
    finally:
        FLAGS[name](before if name == "fp16 reductions" else False)
    for one, other in zip(got, expected, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("context", [lambda: torch.autocast("cuda", dtype=torch.float16), lambda: torch.device("cpu")])
def test_autocast_and_a_default_device_change_no_answer(context: Callable[[], AbstractContextManager[object]]) -> None:
    pair = problem()
    expected = everything(*pair)
    with context():
        got = everything(*pair)
    for one, other in zip(got, expected, strict=True):
        assert torch.equal(one, other)


PROGRAM = """
import os, sys
os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"  # what torch asks for beside deterministic algorithms
import torch
from janelia_core.ml import PiecewiseLinear, knn, log_cosh
from janelia_core.ml.extra_torch_functions import knn_mc
g = torch.Generator().manual_seed(0)
x, ctrs = (torch.randn(n, 40, generator=g).cuda() for n in (200, 5000))
right = (x.double()[:, None] - ctrs.double()).square().sum(-1).topk(5, largest=False).indices.T
"""


def passes(program: str) -> None:
    done = fresh_process.run(PROGRAM + program)
    assert done.returncode == 0, done.stderr


def test_the_new_switch_of_tf32_changes_no_answer() -> None:
    passes("""
torch.backends.cuda.matmul.fp32_precision = "tf32"
assert torch.equal(knn_mc(x, ctrs, 5, 1000), right)
assert torch.backends.cuda.matmul.fp32_precision == "tf32"
""")


def test_deterministic_algorithms_can_be_asked_for() -> None:
    passes("""
torch.use_deterministic_algorithms(True)
assert torch.equal(knn_mc(x, ctrs, 5, 1000), right)
""")


def test_backward_can_be_asked_for_deterministic_algorithms() -> None:
    passes("""
x, ctrs = x.requires_grad_(), ctrs.requires_grad_()
found = knn(x, ctrs, 5)
out = log_cosh(found.distances).sum() + PiecewiseLinear(ctrs, 2, 3)(x).sum()
torch.use_deterministic_algorithms(True)
torch.autograd.grad(out, (x, ctrs))
""")


@pytest.mark.parametrize("mode", ["default", "reduce-overhead"])
def test_inductor_takes_searches_whole(mode: str) -> None:
    """reduce-overhead captures what it can in a CUDA graph: a search is not among it."""
    passes(f"""
def function(x, ctrs):
    return log_cosh(x - ctrs[knn_mc(x, ctrs, 5, 1000)[0]]).sum(), knn(2 * x, 2 * ctrs, 5).indices.T
fast = torch.compile(function, fullgraph=True, mode={mode!r})
for _ in range(3):
    value, indices = fast(x, ctrs)
    assert torch.equal(indices, right)
    torch.testing.assert_close(value, log_cosh(x - ctrs[right[0]]).sum())
""")


def peak(run: Callable[[], object]) -> int:
    """Bytes that a call holds at most beyond what was there, its result included."""
    run()
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    run()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before


@pytest.mark.parametrize("max_memory", [4 * MIB, 64 * MIB, 1024 * MIB])
@pytest.mark.parametrize("shape", [(3000, 40_000, 128, 10), (20_000, 20_000, 3, 16), (500, 8000, 40, 1000)])
def test_workspace_stays_within_the_memory_given(shape: tuple[int, int, int, int], max_memory: int) -> None:
    n, n_ctrs, d, k = shape
    x, ctrs = random(n, d).cuda(), random(n_ctrs, d).cuda()
    assert peak(lambda: knn(x, ctrs, k, max_memory=max_memory)) <= max_memory + 12 * n * k
