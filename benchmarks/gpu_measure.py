"""Time, answers, launches, waits, memory and kernels of a search on a GPU."""

from __future__ import annotations

import collections
import time
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

MIB = 1 << 20
LAUNCHES = ("cudaLaunchKernel", "cudaLaunchKernelExC", "cuLaunchKernel", "cuLaunchKernelEx")
CALLS, ENOUGH = 7, 0.5  # at most so many, and for so many seconds
_COORDINATES = 1 << 27  # of which float64 differences are held at a time
_LOOKED_AT = 1 << 35  # coordinates in all, when answers are compared


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def once(run: Callable[[], Tensor], device: torch.device) -> tuple[float, Tensor]:
    """Return the seconds of a call, and its answer."""
    synchronize(device)
    start = time.perf_counter()
    found = run()
    synchronize(device)
    return time.perf_counter() - start, found


def least(run: Callable[[], Tensor], device: torch.device, first: float) -> float:
    """Return the least seconds of some calls after the first; of none where that took long."""
    times: list[float] = []
    while first < 5.0 and len(times) < CALLS and sum(times) < ENOUGH:
        times.append(once(run, device)[0])
    return min(times, default=first)


def rows_compared(ctrs: Tensor) -> int:
    """Return of how many rows all distances are looked at in float64."""
    return max(2, min(32, _LOOKED_AT // ctrs.numel()))


def wrong_rows(x: Tensor, ctrs: Tensor, found: Tensor) -> int:
    """Return how many of some rows have other neighbours (n, k) than float64 gives them, ties by the lowest index."""
    k = found.shape[1]
    sample = torch.linspace(0, len(x) - 1, min(len(x), rows_compared(ctrs)), device=x.device).long().unique()
    wrong = 0
    for row in sample.tolist():
        here = x[row].double()
        parts = ctrs.split(max(1, _COORDINATES // ctrs.shape[1]))
        squares = torch.cat([(part.double() - here).square().sum(dim=1) for part in parts])
        near = squares.topk(min(len(ctrs), k + 16), largest=False).indices.sort().values
        right = near[squares[near].argsort(stable=True)[:k]]
        wrong += int(not torch.equal(right, found[row]))
    return wrong


def counted(run: Callable[[], Tensor], device: torch.device) -> dict[str, Any]:
    """Return launches, waits with their places, and the peak of memory of a call, its answer not counted."""
    if device.type != "cuda":
        run()
        return {"launches": None, "waits": None, "places": {}, "peak": None}
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as seen:
        run()
        torch.cuda.synchronize()
    launches = sum(event.name in LAUNCHES for event in seen.events())
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            run()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    waits = collections.Counter(
        f"{one.filename.split('janelia_core/')[-1]}:{one.lineno}"
        for one in said
        if "called a synchron" in str(one.message)
    )
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    found = run()
    torch.cuda.synchronize()
    peak = (torch.cuda.max_memory_allocated() - before - found.nbytes) / MIB
    return {"launches": launches, "waits": sum(waits.values()), "places": dict(waits.most_common()), "peak": peak}


def by_kernel(run: Callable[[], Tensor], device: torch.device, most: int = 16) -> list[dict[str, Any]]:
    """Return the kernels of a call that take longest: name, launches, milliseconds."""
    if device.type != "cuda":
        return []
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as seen:
        run()
        torch.cuda.synchronize()
    kernels = [one for one in seen.key_averages() if one.device_type == DeviceType.CUDA]

    def taken(one: Any) -> float:
        name = "self_device_time_total"  # torch < 2.5 calls it otherwise
        return float(getattr(one, name if hasattr(one, name) else "self_cuda_time_total"))

    kernels.sort(key=taken, reverse=True)
    return [{"name": one.key[:60], "launches": one.count, "ms": taken(one) / 1e3} for one in kernels[:most]]
