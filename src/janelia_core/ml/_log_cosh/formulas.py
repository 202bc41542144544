"""log cosh and its derivatives as torch operations: any device, any compiler, and small tensors.

The identity, with b = min(|x|, joint), e = |x| - b, h = b^2 / 2 and kappa = 1 / (1 + exp(2 joint)):

    log cosh(x) = e + (log1p(kappa * expm1(-2e)) + (h + h^2 * P(h)))

Below the joint e is 0 and the first two terms are exactly 0; above it the last term is log cosh(joint). No
term cancels another, so each rounding stays relative to the result. docs/log_cosh.md bounds them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor

import janelia_core.ml._log_cosh.constants as c

Number: TypeAlias = "float | Tensor"


class Constants(NamedTuple):
    """The constants of the formulas: floats, or 0-dim CPU tensors, twice as fast to dispatch."""

    joint: Number
    kappa: Number
    minus_2: Number
    quarter: Number
    half: Number
    small: tuple[Number, ...]


Formula: TypeAlias = Callable[..., Tensor]


def _constants(small: tuple[float, ...], number: Callable[[float], Number]) -> Constants:
    joint, kappa, minus_2, quarter, half = map(number, (c.JOINT, c.KAPPA, -2.0, 0.25, 0.5))
    return Constants(joint, kappa, minus_2, quarter, half, tuple(map(number, small)))


def _tensors_of(dtype: torch.dtype) -> Callable[[float], Tensor]:
    return lambda value: torch.tensor(value, dtype=dtype, device="cpu")


_SMALL = {torch.float32: c.SMALL_32, torch.float64: c.SMALL_64}
FLOATS = {dtype: _constants(small, float) for dtype, small in _SMALL.items()}
CPU_TENSORS = {dtype: _constants(small, _tensors_of(dtype)) for dtype, small in _SMALL.items()}
_FLAT = torch.tensor(20.0, dtype=torch.float64, device="cpu")


def log_cosh(x: Tensor, k: Constants) -> Tensor:
    """Return log(cosh(x)) of a float32 or float64 tensor."""
    a = x.abs()
    b = torch.clamp(a, max=k.joint)  # passes NaN on
    e = a.sub_(b)
    h = (b * k.half).mul_(b)
    small = torch.addcmul(h, _polynomial(k.small, h).mul_(h), h)
    tail = (e * k.minus_2).expm1_().mul_(k.kappa).log1p_()
    return tail.add_(small).add_(e)


def log_cosh_in_double(x: Tensor) -> Tensor:
    """Return log(cosh(x)) of float16, bfloat16 or float32 values as float64 with 29 bits to spare.

    Nine operations instead of eighteen: with b = min(|x|, 20) it is |x| - b + log1p(sinh(b)^2) / 2. Past 20,
    log cosh(x) = |x| - log 2 to the last bit.
    """
    a = x.abs().double()
    b = torch.minimum(a, _FLAT)
    e = a.sub_(b)
    s = b.sinh_()
    return e.add_(s.mul_(s).log1p_(), alpha=0.5)


def _polynomial(coefficients: tuple[Number, ...], h: Tensor) -> Tensor:
    """Evaluate by Horner's rule, lowest coefficient first; tensors take one operation a degree."""
    second, first = coefficients[-2:]
    p = (h * first).add_(second)
    for c_i in coefficients[-3::-1]:
        p = torch.addcmul(c_i, p, h) if isinstance(c_i, Tensor) else p.mul_(h).add_(c_i)
    return p


def times_tanh(g: Tensor, x: Tensor, k: Constants) -> Tensor:
    """Return g * tanh(x): the derivative of log cosh, times g."""
    return g * x.tanh()


def times_sech2(g: Tensor, x: Tensor, k: Constants) -> Tensor:
    """Return g / cosh(x)^2: the derivative of tanh, times g.

    From z = exp(-2|x|), since 1 - tanh^2 loses all its bits from |x| = 9 on in float32.
    """
    z = x.abs().mul_(k.minus_2).exp_()
    below = (z * k.quarter).add_(k.half).mul_(z).add_(k.quarter)
    return g * z.div_(below)
