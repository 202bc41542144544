"""How many bytes a search may take where nobody says: on a CPU always as many, on an accelerator a part of the free.

There every operation costs a launch, so that small blocks cost most of the time; and what it has is not shared with
other programs as a computer's memory is.
"""

from __future__ import annotations

import torch

from janelia_core.ml._knn.problem import DEFAULT_MEMORY

MOST = 64 << 30
"""More makes nothing faster."""
_BITS = 3  # below the first
_SHARE = 2  # a part in so many of what is free


def sensible_memory(device: torch.device) -> int:
    """Return the bytes of workspace for tensors on a device: 256 MiB, on an accelerator half of the free if more.

    A number of few bits, so that searches of the same sizes find the same plan. Compiled code is for any time: it takes
    256 MiB.
    """
    if device.type == "cpu" or torch.compiler.is_compiling():
        return DEFAULT_MEMORY
    share = min(_free(device) // _SHARE, MOST)
    step = max(0, share.bit_length() - 1 - _BITS)
    return max(DEFAULT_MEMORY, share >> step << step)


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
