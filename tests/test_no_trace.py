"""A call leaves no trace: flags, threads, grad mode, random state and inputs are as before."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import pytest
import torch

from janelia_core.ml._knn import ladder as ladder_module
from janelia_core.ml.extra_torch_functions import knn_mc
from janelia_core.ml.neighbors import knn
from oracle import nearest
from problems import PLANE, gaussian, subnormals


def state():
    threads = []
    worker = threading.Thread(target=lambda: threads.append(torch.get_num_threads()))
    worker.start()
    worker.join()
    return (
        torch.get_num_threads(),
        threads[0],
        torch.is_grad_enabled(),
        torch.get_float32_matmul_precision(),
        torch.get_default_dtype(),
        torch.is_autocast_enabled("cpu"),
        torch.get_rng_state().tolist(),
    )


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("m", [100, 5000])
def test_global_state_is_as_before(threads, m):
    x, ctrs, k, _ = gaussian(n=1500, n_ctrs=2000)
    original = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        before = state()
        knn_mc(x, ctrs, k, m)
        assert state() == before
    finally:
        torch.set_num_threads(original)


SETS_AND_SEARCHES = """
import time, torch
torch.set_num_threads(2)  # and does not ask
set_count = torch.set_num_threads

def slowly(count):
    set_count(count)
    if count == 1:
        time.sleep(0.3)  # the process-wide number is 1 as long

torch.set_num_threads = slowly
from janelia_core.ml.extra_torch_functions import knn_mc

x, ctrs = torch.randn(1, 64), torch.randn(100_000, 64)  # which does not ask, either
knn_mc(x, ctrs, 3, 100_000)
print(torch.get_num_threads())
"""


def test_the_first_search_of_a_process_leaves_a_count_that_nobody_has_asked_for_yet():
    command = [sys.executable, "-c", SETS_AND_SEARCHES]
    environment = {name: value for name, value in os.environ.items() if name != "JANELIA_CORE_KERNELS"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)
    assert done.stdout.split() == ["2"], done.stderr


def test_searches_that_start_at_once_leave_the_thread_counts_alone():
    x, ctrs, k, _ = gaussian(n=1500, n_ctrs=2000)
    original = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        before = state()
        threads = [threading.Thread(target=knn_mc, args=(x, ctrs, k, 5000)) for _ in range(6)]
        [t.start() for t in threads]
        [t.join() for t in threads]
        assert state() == before
    finally:
        torch.set_num_threads(original)


@pytest.mark.parametrize("threads", [1, 2])
def test_global_state_is_as_before_an_exception(monkeypatch, threads):
    def fail(*_args, **_kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(ladder_module, "at_sight", fail)
    x, ctrs, k, _ = gaussian(n=1500, n_ctrs=6000, d=40)
    original = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        before = state()
        with pytest.raises(KeyboardInterrupt):
            knn_mc(x, ctrs, k, 5000)
        assert state() == before
    finally:
        torch.set_num_threads(original)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_inputs_are_never_written(dtype):
    x, ctrs, k, _ = gaussian(dtype)
    x[3, 1], ctrs[5, 0] = torch.inf, torch.nan
    x_before, ctrs_before = x.clone(), ctrs.clone()
    knn_mc(x, ctrs, k, 50)
    torch.testing.assert_close(x, x_before, rtol=0, atol=0, equal_nan=True)
    torch.testing.assert_close(ctrs, ctrs_before, rtol=0, atol=0, equal_nan=True)


def test_inputs_that_require_grad_build_no_graph():
    x, ctrs, k, _ = gaussian()
    expected = knn_mc(x, ctrs, k, 50)
    got = knn_mc(x.requires_grad_(), ctrs.requires_grad_(), k, 50)
    assert torch.equal(got, expected)
    assert not got.requires_grad


def test_autocast_lowers_no_precision():
    x, ctrs, k, _ = gaussian(n=100, n_ctrs=1000, d=30)
    expected = knn_mc(x, ctrs, k, 500)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(knn_mc(x, ctrs, k, 500), expected)


@pytest.mark.parametrize("precision", ["high", "medium"])
def test_reduced_matmul_precision_changes_no_answer(precision):
    x, ctrs, k, _ = gaussian(n=100, n_ctrs=1000, d=30)
    expected = knn_mc(x, ctrs, k, 500)
    torch.set_float32_matmul_precision(precision)
    try:
        assert torch.equal(knn_mc(x, ctrs, k, 500), expected)
        assert torch.get_float32_matmul_precision() == precision
    finally:
        torch.set_float32_matmul_precision("highest")


SHAPES = [(20, 200, 6), (600, 4000, 2), (600, 4000, 30)]  # at once, tree, dense


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_a_default_dtype_of_the_caller_changes_nothing(dtype, shape):
    n, n_ctrs, d = shape
    x, ctrs, k, _ = gaussian(n=n, n_ctrs=n_ctrs, d=d)
    expected = knn_mc(x, ctrs, k, n_ctrs)
    torch.set_default_dtype(dtype)
    try:
        assert torch.equal(knn_mc(x, ctrs, k, n_ctrs), expected)
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("threads", [1, 2])
def test_a_default_device_or_inference_mode_of_the_caller_changes_nothing(shape, threads):
    n, n_ctrs, d = shape
    x, ctrs, k, _ = gaussian(n=n, n_ctrs=n_ctrs, d=d)
    expected = knn_mc(x, ctrs, k, n_ctrs)
    x_hard, ctrs_hard = x.clone(), ctrs.clone()
    x_hard[3, 0], ctrs_hard[5, 1] = torch.nan, torch.inf
    expected_hard = knn_mc(x_hard, ctrs_hard, k, n_ctrs)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        for setting in (torch.device("meta"), torch.inference_mode()):
            with setting:
                assert torch.equal(knn_mc(x, ctrs, k, n_ctrs), expected)
                assert torch.equal(knn_mc(x_hard, ctrs_hard, k, n_ctrs), expected_hard)
                assert torch.equal(knn(x, ctrs, k).indices.T, expected)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_flushed_subnormals_change_no_answer(dtype):
    x, ctrs, k, _ = subnormals(dtype)
    ctrs[7], ctrs[8] = 1.0, torch.inf
    expected = nearest(x, ctrs, k)
    if not torch.set_flush_denormal(True):
        pytest.skip("this processor cannot flush subnormals")
    try:
        got = knn_mc(x, ctrs, k, 50)
    finally:
        torch.set_flush_denormal(False)
    assert torch.equal(got, expected)


@pytest.mark.parametrize("metric", ["euclidean", "dot"])
def test_flushed_differences_of_normal_numbers_change_no_answer(metric):
    """Near-ties whose values are no subnormals, but their differences are."""
    n, d = 400, 8
    ctrs = torch.nn.functional.pad(2.0**-1000 * (1 - torch.arange(n).double()[:, None] * 2.0**-53), (0, d - 1))
    x = torch.zeros(1, d, dtype=torch.float64)
    x[0, 0] = -1.0 if metric == "dot" else 0.0
    if not torch.set_flush_denormal(True):
        pytest.skip("this processor cannot flush subnormals")
    try:
        got = knn(x, ctrs, 3, metric=metric).indices, knn(x, ctrs[:5], 2, metric=metric).indices
    finally:
        torch.set_flush_denormal(False)
    assert [found.tolist() for found in got] == [[[399, 398, 397]], [[4, 3]]]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_flushed_subnormals_change_no_distance(dtype):
    x, ctrs, k, _ = subnormals(dtype)
    x, ctrs = torch.cat([x, x + 1]), torch.cat([ctrs, ctrs + 1])
    expected = [knn(x, ctrs, k, metric=metric).distances for metric in PLANE]
    if not torch.set_flush_denormal(True):
        pytest.skip("this processor cannot flush subnormals")
    try:
        got = [knn(x, ctrs, k, metric=metric).distances for metric in PLANE]
    finally:
        torch.set_flush_denormal(False)
    bits = torch.int64 if dtype == torch.float64 else torch.int32  # a flushed comparison would see no difference
    for one, other in zip(got, expected, strict=True):
        assert torch.equal(one.view(bits), other.view(bits))


def test_flushed_subnormals_beside_huge_values_are_an_error():
    x = torch.tensor([[5e-324], [1e300]], dtype=torch.float64)
    if not torch.set_flush_denormal(True):
        pytest.skip("this processor cannot flush subnormals")
    try:
        with pytest.raises(ValueError, match=r"x holds values above.*set_flush_denormal\(False\)"):
            knn_mc(x, x, 1, 1)
    finally:
        torch.set_flush_denormal(False)
