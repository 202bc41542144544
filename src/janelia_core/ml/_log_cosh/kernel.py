"""Numba kernels of log cosh and of its derivative: one pass over memory, vectorised by LLVM.

Constants are arguments, not globals: one source serves float32 and float64, and a stale on-disk cache can't
hold an old polynomial. `contract` is the only fast-math flag: a fused multiply-add only removes a rounding,
while reassociation would cancel the terms the accuracy argument keeps apart (docs/log_cosh.md).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numba
import numpy as np
from numba.extending import overload

import janelia_core.ml._log_cosh.constants as c
from janelia_core.ml._runtime.arrays import Reals
from janelia_core.ml._runtime.jit import jit_with

Real = np.floating[Any]

_OPTIONS: dict[str, Any] = {"fastmath": {"contract"}, "error_model": "numpy"}  # the other model branches on z / 0


class Constants(NamedTuple):
    """Every constant of the kernels in one dtype."""

    joint: Real
    tanh_joint: Real
    log2_e: Real
    ln2: tuple[Real, ...]
    round: Real
    most: Real
    half: Real
    one: Real
    two: Real
    small: tuple[Real, ...]
    tail: tuple[Real, ...]
    exp2: tuple[Real, ...]
    tanh: tuple[Real, ...]


def _constants(
    real: type[Real], ln2: tuple[float, ...], mantissa: int, most: float, *polynomials: tuple[float, ...]
) -> Constants:
    """Round the constants to `real`; adding 1.5 * 2^mantissa rounds a small number to an integer."""
    small, tail, exp2, tanh = (tuple(real(v) for v in p) for p in polynomials)
    small = tuple(v * real(0.25 * 0.5**i) for i, v in enumerate(small))  # of b^2, where the formulas have h = b^2 / 2
    scalars = (c.JOINT, c.TANH_JOINT, c.LOG2_E)
    joint, tanh_joint, log2_e = (real(v) for v in scalars)
    half, one, two = real(0.5), real(1.0), real(2.0)
    split = tuple(real(v) for v in ln2)
    shift = real(1.5 * 2.0**mantissa)
    return Constants(joint, tanh_joint, log2_e, split, shift, real(most), half, one, two, small, tail, exp2, tanh)


CONSTANTS = {
    np.dtype(np.float32): _constants(np.float32, c.LN2_32, 23, 43.0, c.SMALL_32, c.TAIL_32, c.EXP2_32, c.TANH_32),
    np.dtype(np.float64): _constants(np.float64, c.LN2_64, 52, 354.0, c.SMALL_64, c.TAIL_64, c.EXP2_64, c.TANH_64),
}


def _scaled(value: Real, shifted: Real) -> Real:
    """Return value * 2^k, given k + 1.5 * 2^mantissa: k stands in the low bits, and is added to the exponent field."""
    raise NotImplementedError("compiled code only")


@overload(_scaled, strict=False)
def _scaled_overload(value: Any, shifted: Any) -> Any:
    """Choose the integer type by the float type."""
    if shifted == numba.float32:
        return lambda value, shifted: np.int32(
            np.float32(value).view(np.int32) + (np.float32(shifted).view(np.int32) << 23)
        ).view(np.float32)
    return lambda value, shifted: np.int64(
        np.float64(value).view(np.int64) + (np.float64(shifted).view(np.int64) << 52)
    ).view(np.float64)


@jit_with(**_OPTIONS)
def _horner(coefficients: tuple[Real, ...], p: Real) -> Real:
    """Evaluate a polynomial, lowest coefficient first; a long one as two chains, for a CPU to overlap them."""
    n = len(coefficients)
    step = 2 if n > 7 else 1
    power = p * p if step == 2 else p
    last = n - 1 - (n - 1) % step
    total = coefficients[last]
    for i in range(last - step, -1, -step):
        total = total * power + coefficients[i]
    if step == 2:
        last = n - 1 - n % 2
        odd = coefficients[last]
        for i in range(last - 2, 0, -2):
            odd = odd * power + coefficients[i]
        total = odd * p + total
    return total


@jit_with(**_OPTIONS)
def _exp_minus_twice(a: Real, k: Constants) -> Real:
    """Return exp(-2a) for a >= 0: exactly 1 at 0, no smaller than exp(-2 * k.most)."""
    s = -k.two * k.log2_e * (a if a < k.most else k.most)
    shifted = s + k.round
    f = s - (shifted - k.round)
    return _scaled(k.one + f * _horner(k.exp2, f), shifted)


@jit_with(**_OPTIONS)
def _exp_minus_twice_accurate(a: Real, k: Constants) -> Real:
    """As `_exp_minus_twice`, relatively accurate: Cody and Waite's two-part reduction by n ln 2."""
    p = -k.two * (a if a < k.most else k.most)
    shifted = p * k.log2_e + k.round
    n = shifted - k.round
    f = ((p - n * k.ln2[0]) - n * k.ln2[1]) * k.log2_e
    return _scaled(k.one + f * _horner(k.exp2, f), shifted)


@jit_with(**_OPTIONS)
def log_cosh(x: Reals, out: Reals, k: Constants) -> None:
    """Write log(cosh(x)) to `out`; both one-dimensional, contiguous and apart."""
    for i in range(x.shape[0]):
        a = abs(x[i])
        b = a if a < k.joint else k.joint
        e = a - b
        t = b * b
        z = _exp_minus_twice(e, k)
        # (b / 2) * b is not t / 2: a product used once can be fused, and then b^2 / 2 is never rounded.
        small = (k.half * b) * b + t * (t * _horner(k.small, t))
        out[i] = e + ((z - k.one) * _horner(k.tail, z) + small)


@jit_with(**_OPTIONS)
def times_tanh(g: Reals, x: Reals, out: Reals, k: Constants) -> None:
    """Write g * tanh(x) to `out`; all one-dimensional and contiguous, `out` apart from the others."""
    for i in range(x.shape[0]):
        v = x[i]
        a = abs(v)
        t = v * v
        z = _exp_minus_twice_accurate(a, k)
        large = k.one - k.two * z / (k.one + z)
        large = large if v > 0 else -large
        small = v + v * (t * _horner(k.tanh, t))
        # NaN fails the comparison and takes the polynomial, which passes it on.
        out[i] = g[i] * (large if a >= k.tanh_joint else small)
