"""How much workspace a process of a group takes beyond inputs and results."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from distributed_checks import near_ties
from janelia_core.ml import distributed


def _line(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))


def peak(work: Callable[[], tuple[Tensor, ...]]) -> int:
    """Return the bytes that a call took at its peak, beside what it returned."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # what was freed before hides nothing
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    before = _line("VmRSS")
    results = work()
    return _line("VmHWM") - before - sum(result.nbytes for result in results)


def workspaces(rank: int, size: int, max_memory: int) -> dict[str, int]:
    """Return the workspace of several searches on this process; the last has all centres of the near-tied ones."""
    g = torch.Generator().manual_seed(0)
    x, ctrs = torch.randn(4000, 16, generator=g), torch.randn(4000, 16, generator=g)
    shard = ctrs[4000 * rank // size : 4000 * (rank + 1) // size].clone()
    mine = x[4000 * rank // size : 4000 * (rank + 1) // size].clone()
    rows, sphere = near_ties(400, 2000)
    sphere = sphere if rank == size - 1 else sphere[:0]

    def backward() -> tuple[Tensor, ...]:
        leaves = mine.clone().requires_grad_(), shard.clone().requires_grad_()
        found = distributed.knn(*leaves, 20, rows="sharded", max_memory=max_memory)
        found.distances.sum().backward()
        return *found, *leaves, *(leaf.grad for leaf in leaves if leaf.grad is not None)

    calls: dict[str, Callable[[], tuple[Tensor, ...]]] = {
        "replicated": lambda: distributed.knn(x, shard, 20, max_memory=max_memory),
        "sharded": lambda: distributed.knn(mine, shard, 20, rows="sharded", max_memory=max_memory),
        "near ties": lambda: distributed.knn(rows, sphere, 20, max_memory=max_memory),
        "gradients": backward,
        "radius": lambda: distributed.radius(x, shard, 2.2, max_memory=max_memory),
    }
    for call in calls.values():
        call()  # libraries, kernels and their one-off buffers come first
    return {name: peak(call) for name, call in calls.items()}
