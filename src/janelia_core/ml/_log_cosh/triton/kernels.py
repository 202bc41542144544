"""Triton kernels of log cosh and of its derivative: the formulas, and their error argument, are those of `kernel`.

Half precision is computed in float32 and rounded once. Quotients are rounded correctly; what the compiler contracts to
a fused multiply-add only removes a rounding. Constants are arguments: one source serves float32 and float64, of which
MANTISSA is 23 or 52. Adding ROUND = 1.5 * 2^MANTISSA rounds a small number to an integer k, which then stands in the
low bits: these are added to the exponent's field of a number that is to be multiplied by 2^k.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _scaled(value, shifted, MANTISSA: tl.constexpr):
    """Return value * 2^k, given k + ROUND."""
    whole: tl.constexpr = tl.int32 if MANTISSA == 23 else tl.int64
    bits = value.to(whole, bitcast=True) + (shifted.to(whole, bitcast=True) << MANTISSA)
    return bits.to(value.dtype, bitcast=True)


@triton.jit
def log_cosh(
    x, out, n, JOINT: tl.constexpr, MOST: tl.constexpr, LOG2_E: tl.constexpr, ROUND: tl.constexpr,
    SMALL: tl.constexpr, TAIL: tl.constexpr, EXP2: tl.constexpr, MANTISSA: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Write log(cosh(x)) of n numbers to out."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    a = tl.abs(tl.load(x + at, mask=at < n, other=0.0).to(tl.float32 if MANTISSA == 23 else tl.float64))
    b = tl.where(a < JOINT, a, JOINT).to(a.dtype)
    e = a - b
    s = tl.where(e < MOST, e, MOST).to(a.dtype) * (-2.0 * LOG2_E)
    shifted = s + ROUND
    f = s - (shifted - ROUND)
    power = f * EXP2[len(EXP2) - 1] + EXP2[len(EXP2) - 2]
    for i in tl.static_range(len(EXP2) - 2):
        power = power * f + EXP2[len(EXP2) - 3 - i]
    z = _scaled(f * power + 1.0, shifted, MANTISSA)
    t = b * b
    small = t * SMALL[len(SMALL) - 1] + SMALL[len(SMALL) - 2]
    for i in tl.static_range(len(SMALL) - 2):
        small = small * t + SMALL[len(SMALL) - 3 - i]
    small = (0.5 * b) * b + t * (t * small)
    tail = z * TAIL[len(TAIL) - 1] + TAIL[len(TAIL) - 2]
    for i in tl.static_range(len(TAIL) - 2):
        tail = tail * z + TAIL[len(TAIL) - 3 - i]
    tl.store(out + at, (e + ((z - 1.0) * tail + small)).to(out.dtype.element_ty), mask=at < n)


@triton.jit
def times_tanh(
    g, x, out, n, JOINT: tl.constexpr, MOST: tl.constexpr, LOG2_E: tl.constexpr, ROUND: tl.constexpr,
    LN2: tl.constexpr, TANH: tl.constexpr, EXP2: tl.constexpr, MANTISSA: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Write g * tanh(x) of n numbers to out."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    v = tl.load(x + at, mask=at < n, other=0.0).to(tl.float32 if MANTISSA == 23 else tl.float64)
    times = tl.load(g + at, mask=at < n, other=0.0).to(v.dtype)
    a, t = tl.abs(v), v * v
    p = -2.0 * tl.where(a < MOST, a, MOST).to(v.dtype)
    shifted = p * LOG2_E + ROUND
    count = shifted - ROUND
    f = ((p - count * LN2[0]) - count * LN2[1]) * LOG2_E
    power = f * EXP2[len(EXP2) - 1] + EXP2[len(EXP2) - 2]
    for i in tl.static_range(len(EXP2) - 2):
        power = power * f + EXP2[len(EXP2) - 3 - i]
    z = _scaled(f * power + 1.0, shifted, MANTISSA)
    large = 1.0 - (tl.div_rn(2.0 * z, 1.0 + z) if MANTISSA == 23 else 2.0 * z / (1.0 + z))
    large = tl.where(v > 0.0, large, -large)
    small = t * TANH[len(TANH) - 1] + TANH[len(TANH) - 2]
    for i in tl.static_range(len(TANH) - 2):
        small = small * t + TANH[len(TANH) - 3 - i]
    small = v + v * (t * small)
    # NaN fails the comparison and takes the polynomial, which passes it on.
    tl.store(out + at, (times * tl.where(a >= JOINT, large, small)).to(out.dtype.element_ty), mask=at < n)
