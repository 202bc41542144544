"""How many bytes a search may take where nobody says: on a CPU always as many, on an accelerator a part of the free.

There every operation costs a launch, so that small blocks cost most of the time; and what it has is not shared with
other programs as a computer's memory is.
"""

from __future__ import annotations

import time

import torch

from janelia_core.ml._knn.problem import DEFAULT_MEMORY

MOST = 64 << 30
"""More makes nothing faster."""
_FRESH = 1.0  # seconds
_known: dict[torch.device, tuple[float, int]] = {}
_BITS = 3  # below the first
_SHARE = 2  # a part in so many of what is free


def sensible_memory(device: torch.device) -> int:
    """Return the bytes of workspace for tensors on a device: 256 MiB, on an accelerator half of the free if more.

    A number of few bits, so that searches of the same sizes find the same plan. Compiled code is for any time: it takes
    256 MiB.
    """
    if device.type == "cpu" or torch.compiler.is_compiling():
        return DEFAULT_MEMORY
    share = min(_lately_free(device) // _SHARE, MOST)
    step = max(0, share.bit_length() - 1 - _BITS)
    return max(DEFAULT_MEMORY, share >> step << step)


def _lately_free(device: torch.device) -> int:
    """Return what was free there when that was last asked: drivers take half a millisecond to tell."""
    now = time.monotonic()
    known = _known.get(device)
    if known is None or now - known[0] > _FRESH:
        known = _known[device] = now, _free(device)
    return known[1]


def free_memory(device: torch.device) -> int | None:
    """Return how many bytes more a process may take for tensors on a device; None: that is not known."""
    if device.type != "cpu":
        return _free(device) or None
    try:
        with open("/proc/meminfo", encoding="ascii") as lines:  # of Linux
            told = dict(line.split(":", 1) for line in lines)
        return int(told["MemAvailable"].split()[0]) << 10
    except (OSError, KeyError, ValueError):
        return None


def _free(device: torch.device) -> int:
    """Return how many bytes are free on an accelerator, with what torch holds of it unused; 0 if it does not tell."""
    module = getattr(torch, device.type, None)
    if module is None or not hasattr(module, "mem_get_info"):
        return 0
    try:
        free, _ = module.mem_get_info(device)
        unused = module.memory_reserved(device) - module.memory_allocated(device)
    except (AttributeError, AssertionError, RuntimeError):  # tensors without a device behind them, as tracers have
        return 0
    return int(free + unused)
