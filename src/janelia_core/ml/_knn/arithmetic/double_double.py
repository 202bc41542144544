"""Order values in double-double arithmetic with a *measured* error, for many pairs at once.

A sum is hi + lo + (what every operation discarded); the discarded parts are themselves known exactly from error-free
transformations and their magnitudes are added up. So the bound is zero whenever nothing was discarded, which
is how exact ties of ordinary data are recognised without integers.

Cosines take a product, a root and a quotient of such sums, each within a relative 2^-98 (the algorithms used are
proven to some 15 2^-106), and their errors are added up a priori.

Source: T. J. Dekker, A floating-point technique for extending the available precision, Numer. Math. 18 (1971),
224-242 (splitting, products); D. E. Knuth, The Art of Computer Programming 2, section 4.2.2 (two-sum);
M. Joldes, J.-M. Muller, V. Popescu, Tight and rigorous error bounds for basic building blocks of double-word
arithmetic, ACM TOMS 44 (2017) (product, quotient).
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from janelia_core.ml._knn.arithmetic.bounds import LOSS, SMALL

Floats = npt.NDArray[np.float64]
Array = TypeVar("Array", Floats, Tensor)

LARGEST = 2.0**400  # what is smaller can be squared and added up
_SPLITTER = 2.0**27 + 1.0
_UNIT = 2.0**-98  # more than a product, quotient or root of double-doubles loses, relatively

Sum = tuple[Floats, Floats, Floats]  # hi, lo, error


def square_distances(x: Floats, c: Floats) -> Sum:
    """Return (hi, lo, error), each (p,): |D - (hi + lo)| <= error for pairs of rows x, c (p, d), |values| < LARGEST."""
    delta, rest = two_sum(x, -c)  # x - c = delta + rest, exactly
    terms = [two_product(delta, delta)]
    if rest.any():
        terms += [two_product(2.0 * delta, rest), two_product(rest, rest)]
    hi = np.concatenate([t[0] for t in terms], axis=1)
    lo = np.concatenate([t[1] for t in terms], axis=1)
    lossy = ((np.abs(hi) < SMALL) & (hi != 0)).sum(axis=1) + ((delta != 0) & (hi[:, : x.shape[1]] == 0)).sum(axis=1)
    if rest.any():
        lossy = lossy + ((rest != 0) & (np.abs(rest) < 2.0**-450)).sum(axis=1)
    hi, lo, discarded = _sum(hi, lo)
    return hi, lo, discarded * (1.0 + 2.0**-30) + lossy * LOSS


def products(x: Floats, c: Floats) -> Sum:
    """Return (hi, lo, error), each (p,): the inner products of pairs of rows x, c (p, d), |values| < LARGEST."""
    hi, lo = two_product(x, c)
    lossy = ((np.abs(hi) < SMALL) & (x != 0) & (c != 0)).sum(axis=1)
    hi, lo, discarded = _sum(hi, lo)
    return hi, lo, discarded * (1.0 + 2.0**-30) + lossy * LOSS


def cosine_keys(x: Floats, c: Floats) -> Sum:
    """Return (hi, lo, error), each (p,): -s |s| / |c|^2 with s = <x, c> of x times some power of two.

    Of products of up to 26 bits and squares of up to 48 it is a function of the quotient alone, without error:
    hi is the quotient rounded once, lo what is left, rounded once; different quotients differ by more than a
    relative 2^-101. So small integers tie when they should.
    """
    (x, x_lost), (c, c_lost) = _near_one(x), _near_one(c)
    s, s_low, s_error = products(x, c)
    b, b_low, b_error = products(c, c)
    s_error, b_error = s_error + (x_lost + c_lost) * LOSS, b_error + c_lost * LOSS
    b = np.where(b == 0, 1.0, b)  # then s is 0, too
    square, square_low = _multiply(s, s_low, np.abs(s), np.copysign(1.0, s) * s_low)
    hi, lo = _divide(square, square_low, b, b_low)
    error = (2.02 * (np.abs(s) + s_error) * s_error + np.abs(hi) * (1.01 * b_error + b * _UNIT)) / b + 2.0**-200
    short = (s_error + b_error + np.abs(s_low) + np.abs(b_low) == 0) & (_bits(s) <= 26) & (_bits(b) <= 48)
    return -hi, -lo, np.where(short, 0.0, error)


def _bits(v: Floats) -> npt.NDArray[np.int64]:
    """Return how many bits the significands of floats have, from the first to the last that is set."""
    whole = np.abs(np.ldexp(np.frexp(v)[0], 53)).astype(np.int64)
    last = np.frexp((whole & -whole).astype(np.float64))[1].astype(np.int64)
    return np.where(whole == 0, 0, 54 - last)


def cosine_distances(x: Floats, c: Floats) -> Sum:
    """Return (hi, lo, error), each (p,): 1 - <x, c> / (|x| |c|) of pairs of rows (p, d) of any finite magnitude.

    It is exactly 1 for a zero vector, and exactly 0 for parallel vectors whose squares double-doubles hold.
    """
    (x, x_lost), (c, c_lost) = _near_one(x), _near_one(c)
    s, s_low, s_error = products(x, c)
    a, a_low, a_error = products(x, x)
    b, b_low, b_error = products(c, c)
    return cosine_of_sums(
        (s, s_low, s_error + (x_lost + c_lost) * LOSS),
        (a, a_low, a_error + x_lost * LOSS),
        (b, b_low, b_error + c_lost * LOSS),
    )


@np.errstate(all="ignore")  # what overflows comes back with an error that isn't finite
def cosine_of_sums(product: Sum, x_square: Sum, c_square: Sum) -> Sum:
    """Return 1 - <x, c> / (|x| |c|), given the three sums, squares in [2^-400, 2^400] or 0 without error."""
    (s, s_low, s_error), (a, a_low, a_error), (b, b_low, b_error) = product, x_square, c_square
    zero = (a == 0) | (b == 0)
    a, b = np.where(zero, 1.0, a), np.where(zero, 1.0, b)
    norms_error = a_error / a + b_error / b
    norm, norm_low = root(*_multiply(a, a_low, b, b_low))
    cosine, cosine_low = _divide(s, s_low, norm, norm_low)
    hi, lo = two_sum(np.ones_like(cosine), -cosine)
    hi, lo = two_sum(hi, lo - cosine_low)
    error = 1.01 * (s_error / norm + norms_error) + 4.0 * _UNIT
    exact = (s_error + norms_error + np.abs(s_low) + np.abs(a_low) + np.abs(b_low)) == 0
    squares, norms = two_product(s, s), two_product(a, b)
    parallel = exact & (s > 0) & (squares[0] == norms[0]) & (squares[1] == norms[1])
    one = zero | (exact & (s == 0))
    hi = np.where(one, 1.0, np.where(parallel, 0.0, hi))
    known = one | parallel
    return hi, np.where(known, 0.0, lo), np.where(known, 0.0, error)


def _near_one(v: Floats) -> tuple[Floats, Floats]:
    """Scale rows (p, d) by powers of two that put their largest value in [1/2, 1); count what underflows on the way."""
    exponent = np.frexp(np.abs(v).max(axis=1, keepdims=True, initial=0.0))[1]
    scaled = np.ldexp(np.ldexp(v, -(exponent // 2)), exponent // 2 - exponent)
    return scaled, ((v != 0) & (np.abs(scaled) < SMALL)).sum(axis=1).astype(np.float64)


def _multiply(a: Floats, a_low: Floats, b: Floats, b_low: Floats) -> tuple[Floats, Floats]:
    p, e = two_product(a, b)
    return two_sum(p, e + (a * b_low + a_low * b))


def root(a: Floats, a_low: Floats) -> tuple[Floats, Floats]:
    """Return the square root of a sum of two that is above 0, as a sum of two: off by a relative 2^-98."""
    r = np.sqrt(a)
    p, e = two_product(r, r)
    return two_sum(r, ((a - p) - e + a_low) / (2.0 * r))


def _divide(a: Floats, a_low: Floats, b: Floats, b_low: Floats) -> tuple[Floats, Floats]:
    q = a / b
    p, e = two_product(q, b)
    return two_sum(q, ((a - p) - e + a_low - q * b_low) / b)


def sums_of(hi: Tensor, lo: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return (hi, lo, error), each (...): the sums of double-doubles (..., n), by halves; exact if nothing is lost."""
    discarded = torch.zeros_like(hi[..., :1].sum(dim=-1))
    while hi.shape[-1] > 1:
        n = hi.shape[-1] // 2
        s, t = two_sum(hi[..., :n], hi[..., n : 2 * n])
        u, v = two_sum(lo[..., :n], lo[..., n : 2 * n])
        t, lost1 = two_sum(t, u)
        s, t = two_sum(s, t)
        t, lost2 = two_sum(t, v)
        s, t = two_sum(s, t)
        discarded += lost1.abs_().sum(dim=-1) + lost2.abs_().sum(dim=-1)
        hi, lo = torch.cat([s, hi[..., 2 * n :]], dim=-1), torch.cat([t, lo[..., 2 * n :]], dim=-1)
    return hi.sum(dim=-1), lo.sum(dim=-1), discarded * (1.0 + 2.0**-30)


def two_sum(a: Array, b: Array) -> tuple[Array, Array]:
    """Return a + b as a sum of two float64 numbers, without error (Knuth)."""
    s = a + b
    t = s - a
    return s, (a - (s - t)) + (b - t)


def two_product(a: Array, b: Array) -> tuple[Array, Array]:
    """Return a b as a sum of two float64 numbers, without error (Dekker)."""
    p = a * b
    a_high, a_low = _split(a)
    b_high, b_low = _split(b)
    return p, a_low * b_low - (((p - a_high * b_high) - a_low * b_high) - a_high * b_low)


def _split(a: Array) -> tuple[Array, Array]:
    t = _SPLITTER * a
    high = t - (t - a)
    return high, a - high


def _sum(hi: Floats, lo: Floats) -> Sum:
    """Add double-doubles (p, n) pairwise along the rows; return (hi, lo, sum of discarded magnitudes), each (p,)."""
    discarded = np.zeros(len(hi))
    while hi.shape[1] > 1:
        if hi.shape[1] % 2:
            hi = np.pad(hi, ((0, 0), (0, 1)))
            lo = np.pad(lo, ((0, 0), (0, 1)))
        s, t = two_sum(hi[:, 0::2], hi[:, 1::2])
        u, v = two_sum(lo[:, 0::2], lo[:, 1::2])
        t, lost1 = two_sum(t, u)
        s, t = two_sum(s, t)
        t, lost2 = two_sum(t, v)
        hi, lo = two_sum(s, t)
        discarded += np.abs(lost1).sum(axis=1) + np.abs(lost2).sum(axis=1)
    return hi[:, 0], lo[:, 0], discarded
