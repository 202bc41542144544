"""What this process can do: exact products, compiled kernels, threads. Flags are read, never set."""

from __future__ import annotations

import functools
import importlib.util
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Machine:
    """What a plan may count on.

    Attributes:
        on_cpu: The tensors are there.
        exact_products: Float32 products keep all 24 bits of their operands.
        kernels: Numba kernels can run on the tensors' device.
        bfloat16: The CPU multiplies bfloat16 natively, several times faster than float32.
        wide_vectors: The CPU has vectors of 512 bits, and its product is as much faster.
        threads: How many threads torch would use there.
    """

    on_cpu: bool = False
    exact_products: bool = True
    kernels: bool = False
    bfloat16: bool = False
    wide_vectors: bool = False
    threads: int = 1


def this_machine(device: torch.device) -> Machine:
    """Describe this process as seen from the calling thread."""
    on_cpu = device.type == "cpu"
    return Machine(
        on_cpu=on_cpu,
        exact_products=products_are_exact(device),
        kernels=on_cpu and _has_numba(),
        bfloat16=on_cpu and multiplies_bfloat16(),
        wide_vectors=on_cpu and torch.backends.cpu.get_cpu_capability() == "AVX512",
        threads=torch.get_num_threads() if on_cpu else 1,
    )


@functools.cache
def _has_numba() -> bool:
    return importlib.util.find_spec("numba") is not None


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


@functools.cache
def multiplies_bfloat16() -> bool:
    """Whether the CPU has bfloat16 dot-product instructions that torch's build uses.

    `_is_mkldnn_bf16_supported` alone is also true of AVX512 without BF16, where oneDNN emulates and is
    slower than float32; so on x86 the instruction itself is asked for.
    """
    if not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return False
    asked = [getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported")]
    if torch.backends.cpu.get_cpu_capability().startswith("AVX"):
        return any(bool(ask()) for ask in asked if ask is not None)
    return True  # Arm: torch answers yes only where the bf16 extension exists
