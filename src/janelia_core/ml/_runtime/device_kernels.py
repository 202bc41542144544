"""Whether Triton's kernels serve on a device, decided here alone; where they do not, torch operations answer.

Triton comes with builds of torch for CUDA. It is imported for tensors of such a device alone; where it is missing, too
old, or fails to compile what it is given, kernels are given up for the whole process, with one warning.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import re
import warnings
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import TypeVar

import torch
from torch import Tensor

T = TypeVar("T")

OLDEST = (3, 2)
"""The oldest Triton whose language has all that the kernels say."""
_PACKAGE = __name__.partition(".")[0]
_given_up: dict[str, str] = {}  # "why": the reason


def device_kernels_serve(*tensors: Tensor) -> bool:
    """Tell whether all tensors are on one CUDA device and Triton's kernels may be launched there."""
    device = tensors[0].device
    return device.type == "cuda" and all(tensor.device == device for tensor in tensors) and not why_no_kernels()


def why_no_kernels() -> str:
    """Return why no kernel of Triton can be launched in this process, or nothing."""
    return _given_up.get("why", "") or _why_not_installed()


@functools.cache
def _why_not_installed() -> str:
    for name in ("triton", "pytorch-triton", "pytorch-triton-rocm"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            version = importlib.metadata.version(name)
            found = re.match(r"(\d+)\.(\d+)", version)
            recent = found is not None and (int(found[1]), int(found[2])) >= OLDEST
            return "" if recent else f"Triton {version} is older than {'.'.join(map(str, OLDEST))}"
    return "no Triton is installed here"


@contextlib.contextmanager
def launching(*tensors: Tensor) -> Iterator[None]:
    """Launch kernels on the device of some tensors, which becomes the current one meanwhile."""
    device = tensors[0].device
    with torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext():
        yield


def launched(launch: Callable[[], T]) -> T | None:
    """Return launch(), or None where Triton itself fails, whose kernels are given up then."""
    try:
        return launch()
    except Exception as error:
        lacks_memory = isinstance(error, torch.OutOfMemoryError) or "out of memory" in str(error)
        if lacks_memory or not _is_of_triton(error.__traceback__):
            raise
        why = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
        if _given_up.setdefault("why", why) is why:
            warnings.warn(
                f"janelia_core does without its Triton kernels in this process ({why}). Torch operations give the same "
                "answers, slower.",
                stacklevel=2,
            )
        return None


def _is_of_triton(traceback: TracebackType | None) -> bool:
    """Tell whether an error came out of a kernel of this package: not of a kernel that a caller's mask launches."""
    ours = False
    while traceback is not None:
        room = str(traceback.tb_frame.f_globals.get("__name__")).partition(".")[0]
        if room == "triton" and ours:
            return True
        if room != "importlib":
            ours = room == _PACKAGE
        traceback = traceback.tb_next
    return False
