"""The true log cosh, and the measure of error that the tests share."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from janelia_core.ml._log_cosh import blocks, formulas, kernel

SMALLEST_EXPONENT = {torch.float16: -14, torch.bfloat16: -126, torch.float32: -126, torch.float64: -1022}
PRECISION = {torch.float16: 11, torch.bfloat16: 8, torch.float32: 24, torch.float64: 53}
LOG_2 = np.log(np.longdouble(2))


def truth(x: Tensor) -> np.ndarray:
    """log(cosh(x)) with the 64 bits of an x86 long double: log1p(sinh^2) / 2 cancels nothing."""
    if np.finfo(np.longdouble).nmant < 63:
        raise RuntimeError("the oracle needs an 80-bit or wider long double")
    a = np.abs(x.detach().double().numpy().astype(np.longdouble))
    inner = np.minimum(a, 40)  # exp(-80) is below the last bit of 40 - log 2
    return np.where(a > 40, a - LOG_2, np.log1p(np.sinh(inner) ** 2) / 2)


def ulp(value: np.ndarray, dtype: torch.dtype) -> np.ndarray:
    """The spacing of `dtype` at each value."""
    _, exponent = np.frexp(value)
    exponent = np.maximum(exponent - 1, SMALLEST_EXPONENT[dtype])
    return np.ldexp(np.ones_like(value), exponent - PRECISION[dtype] + 1)


def error_in_ulp(y: Tensor, x: Tensor) -> np.ndarray:
    """|y - log cosh(x)| in units of the last place of the true value."""
    right = truth(x)
    return np.abs(y.detach().double().numpy().astype(np.longdouble) - right) / ulp(right, y.dtype)


def rounded(value: np.ndarray, dtype: torch.dtype) -> Tensor:
    """The true values rounded once, to nearest even."""
    unit = ulp(value, dtype)
    return torch.from_numpy((np.rint(value / unit) * unit).astype(np.float64)).to(dtype)


def by_kernel(x: Tensor) -> Tensor:
    """The Numba path, whatever the size."""
    out = torch.empty_like(x)
    run = blocks._kernel_block(kernel, "log_cosh", [x], out)
    run(0, x.numel())
    return out


def by_double(x: Tensor) -> Tensor:
    """The float64 path of small narrow CPU tensors."""
    return formulas.log_cosh_in_double(x).to(x.dtype)


def by_torch(x: Tensor) -> Tensor:
    """The torch operations that other devices run."""
    return blocks._widened(formulas.log_cosh, [x], formulas.FLOATS)


def by_torch_on_cpu(x: Tensor) -> Tensor:
    """The torch operations with constants as tensors: float64, and blocks without Numba."""
    return blocks._widened(formulas.log_cosh, [x], formulas.CPU_TENSORS)


PATHS: dict[str, Callable[[Tensor], Tensor]] = {
    "kernel": by_kernel,
    "double": by_double,
    "torch": by_torch,
    "torch-on-cpu": by_torch_on_cpu,
}
