"""Whether this process lets matrix products round their float32 operands. Flags are read, never set."""

from __future__ import annotations

import torch


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
