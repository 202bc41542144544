"""What this process can do: exact products, compiled kernels, threads. Flags are read, never set."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Machine:
    """What a plan may count on.

    Attributes:
        exact_products: Float32 products keep all 24 bits of their operands.
        kernels: Numba kernels can run on the tensors' device.
        threads: How many threads torch would use there.
    """

    exact_products: bool = True
    kernels: bool = False
    threads: int = 1


def this_machine(device: torch.device) -> Machine:
    """Describe this process as seen from the calling thread."""
    on_cpu = device.type == "cpu"
    return Machine(
        exact_products=products_are_exact(device),
        kernels=on_cpu and importlib.util.find_spec("numba") is not None,
        threads=torch.get_num_threads() if on_cpu else 1,
    )


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
