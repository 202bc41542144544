"""What kernels of Triton can count on where a tensor is."""

from __future__ import annotations

import functools
from typing import NamedTuple

import torch

from janelia_core.ml._runtime.device_kernels import why_no_kernels

_OLDEST_CHIP = 80  # sm_80 (2020): the first whose matrix units take float16 in the shapes that Triton gives them


class Gpu(NamedTuple):
    """A GPU as plans know it.

    Attributes:
        chip: Compute capability: 80, 89, 90, 100.
        processors: Streaming multiprocessors, each of which runs a program or more at a time.
        inline: Kernels may hold instructions of the chip (PTX); else the same in Triton's own words.
        descriptors: Tiles may be fetched by the chip's copy engine.
    """

    chip: int = 90
    processors: int = 132
    inline: bool = True
    descriptors: bool = True


def gpu_at(device: torch.device) -> tuple[Gpu | None, str]:
    """Return the GPU that a device is, or why kernels of Triton cannot run there."""
    if device.type != "cuda":
        return None, ""
    why = why_no_kernels()
    return (None, why) if why else _gpu(torch.cuda.current_device() if device.index is None else device.index)


@functools.cache
def _gpu(index: int) -> tuple[Gpu | None, str]:
    major, minor = torch.cuda.get_device_capability(index)
    chip, nvidia = 10 * major + minor, torch.version.hip is None
    if nvidia and chip < _OLDEST_CHIP:
        return None, f"Triton kernels want a chip of compute capability 8.0, this one has {major}.{minor}"
    processors = torch.cuda.get_device_properties(index).multi_processor_count
    return Gpu(chip, processors, nvidia, nvidia and chip >= 90 and _has_descriptors()), ""


def _has_descriptors() -> bool:
    try:
        import triton.tools.tensor_descriptor  # noqa: F401
    except ImportError:
        return False
    return True
