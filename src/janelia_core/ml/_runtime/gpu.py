"""What Triton kernels can count on where a tensor is. Triton comes with CUDA builds of torch; it is imported here first."""

from __future__ import annotations

import functools
from typing import NamedTuple

import torch

OLDEST = (3, 2)
"""The oldest Triton whose language has all that the kernels say."""
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
    return _gpu(torch.cuda.current_device() if device.index is None else device.index)


@functools.cache
def _gpu(index: int) -> tuple[Gpu | None, str]:
    version = triton_version()
    if version is None:
        return None, "no Triton is installed here"
    if version < OLDEST:
        return None, f"Triton {'.'.join(map(str, version))} is older than {'.'.join(map(str, OLDEST))}"
    major, minor = torch.cuda.get_device_capability(index)
    chip, nvidia = 10 * major + minor, torch.version.hip is None
    if nvidia and chip < _OLDEST_CHIP:
        return None, f"Triton kernels want a chip of compute capability 8.0, this one has {major}.{minor}"
    processors = torch.cuda.get_device_properties(index).multi_processor_count
    return Gpu(chip, processors, nvidia, nvidia and chip >= 90 and _has_descriptors()), ""


@functools.cache
def triton_version() -> tuple[int, int] | None:
    """Return the version of the Triton that is installed, (major, minor), or None."""
    try:
        import triton
    except ImportError:
        return None
    major, minor = triton.__version__.split(".")[:2]
    return int(major), int(minor)


def _has_descriptors() -> bool:
    try:
        import triton.tools.tensor_descriptor  # noqa: F401
    except ImportError:
        return False
    return True
