"""Other formulas of log cosh as torch operations, re-derived from what their sources compute."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import softplus

LOG_2 = math.log(2.0)


def log1p_exp(x: Tensor) -> Tensor:
    a = x.abs()
    return a - LOG_2 + torch.log1p(torch.exp(-2 * a))


def by_softplus(x: Tensor) -> Tensor:
    """Keras 3, keras.losses.log_cosh."""
    return x + softplus(-2 * x) - LOG_2


def by_logaddexp(x: Tensor) -> Tensor:
    """Optax, optax.losses.log_cosh."""
    return torch.logaddexp(x, -x) - LOG_2


def naive(x: Tensor) -> Tensor:
    return torch.log(torch.cosh(x))


def tfp(x: Tensor) -> Tensor:
    """TensorFlow Probability, tfp.math.log_cosh: its branch near 0 is |x| (1 - x^2 / 6)."""
    a = x.abs()
    near_0 = torch.exp(torch.log(a) + torch.log1p(-a * a / 6))
    bound = 45 * torch.finfo(x.dtype).tiny ** (1 / 6)
    return torch.where(a <= bound, near_0, a + softplus(-2 * a) - LOG_2)


RIVALS: dict[str, Callable[[Tensor], Tensor]] = {
    r"|x| - log 2 + log1p(exp(-2|x|))": log1p_exp,
    "x + softplus(-2x) - log 2 (Keras)": by_softplus,
    "logaddexp(x, -x) - log 2 (Optax)": by_logaddexp,
    "log(cosh(x))": naive,
    "TensorFlow Probability": tfp,
}
