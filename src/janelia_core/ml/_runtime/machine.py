"""What this process can do: exact products, compiled kernels, threads. Flags are read, never set."""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass

import torch
from torch import Tensor

from janelia_core.ml._runtime.gpu import Gpu, gpu_at
from janelia_core.ml._runtime.kernels import may_serve

_SMALLEST, _ONE = 5e-324, 1.0
_WITH_FLOAT64 = ("cpu", "cuda", "meta")
_KERNEL_TARGETS = {"NUMBA_CPU_NAME", "NUMBA_CPU_FEATURES"}


@dataclass(frozen=True)
class Machine:
    """What a plan may count on.

    Attributes:
        on_cpu: The tensors are there.
        exact_products: Float32 products keep all 24 bits of their operands.
        kernels: Numba kernels may run on the tensors' device.
        formats: In which the dense screen multiplies there, the fastest first; float32 is always the last.
        threads: How many threads torch would use there.
        gpu: The GPU, where Triton kernels can run on it.
        no_gpu: Why they can't, on a GPU.
        float64: The tensors' device knows float64; else what asks for it is done on the CPU.
    """

    on_cpu: bool = False
    exact_products: bool = True
    kernels: bool = False
    formats: tuple[str, ...] = ("float32",)
    threads: int = 1
    gpu: Gpu | None = None
    no_gpu: str = ""
    float64: bool = True


def this_machine(device: torch.device) -> Machine:
    """Describe this process as seen from the calling thread."""
    on_cpu = device.type == "cpu"
    gpu, no_gpu = (None, "") if on_cpu else gpu_at(device)
    return _machine(
        on_cpu,
        products_are_exact(device),
        on_cpu and may_serve(),
        (*_low_precision(), "float32") if on_cpu else ("float32",),
        torch.get_num_threads() if on_cpu else 1,
        gpu,
        no_gpu,
        on_cpu or has_float64(device),
    )


# One object for all calls that find the same: plans are looked up by it, and equal objects take longer to compare.
_machine = functools.lru_cache(maxsize=64)(Machine)


def has_float64(device: torch.device) -> bool:
    """Tell whether a device computes in float64, which some GPUs (Apple's, some of Intel's) do not."""
    return device.type in _WITH_FLOAT64 or _tells_float64(device)


@functools.cache
def _tells_float64(device: torch.device) -> bool:
    """Ask a device, once: it may take float64, and refuse to compute with it."""
    try:
        return bool((torch.ones(2, dtype=torch.float64, device=device) + 2.0**-50 > 1.0).all())
    except (RuntimeError, TypeError):  # NotImplementedError is a RuntimeError
        return False


def flushes_subnormals() -> bool:
    """Tell whether this thread computes with subnormal numbers as zeros (`torch.set_flush_denormal`)."""
    return _SMALLEST * _ONE == 0.0  # the interpreter's arithmetic is the thread's


def products_are_exact(device: torch.device) -> bool:
    """Tell whether float32 products on the device are documented to keep all 24 bits of their operands.

    `torch.set_float32_matmul_precision` and the backends' own switches allow TF32 on CUDA and bfloat16 passes on
    CPUs. A process that mixes the old and the new switches gets an error when the old ones are read; then
    nothing is known, and operands are cut.
    """
    try:
        if torch.get_float32_matmul_precision() != "highest":
            return False
        if device.type == "cuda":
            return not torch.backends.cuda.matmul.allow_tf32
        mkldnn = getattr(torch.backends.mkldnn, "matmul", None)  # torch >= 2.9
        return getattr(mkldnn, "fp32_precision", "none") in ("none", "ieee")
    except RuntimeError:
        return False


def check_not_captured(x: Tensor) -> None:
    """Check that no CUDA graph records what happens: a search looks at values on the host, which no graph can."""
    if x.is_cuda and torch.cuda.is_current_stream_capturing():
        raise RuntimeError(
            "an exact search looks at values, which a CUDA graph cannot record: search before the capture, and capture "
            "what follows; torch.compile leaves searches out of its graphs by itself"
        )


@functools.cache
def _low_precision() -> tuple[str, ...]:
    """Return the formats below float32 that the CPU has instructions for, the fastest first.

    Whoever tells Numba which instructions to use, by its environment, gets none that it was not told of.
    """
    if not torch.backends.cpu.get_cpu_capability().startswith("AVX512") or _KERNEL_TARGETS & os.environ.keys():
        return ()
    asked = {"int8": "_is_vnni_supported", "bfloat16": "_is_avx512_bf16_supported"}
    return tuple(name for name, question in asked.items() if getattr(torch.cpu, question, bool)())
