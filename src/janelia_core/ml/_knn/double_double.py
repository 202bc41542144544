"""Squared distances in double-double arithmetic with a *measured* error, for many pairs at once.

D = hi + lo + (what every operation discarded); the discarded parts are themselves known exactly from error-free
transformations and their magnitudes are added up. So the bound is zero whenever nothing was discarded, which
is how exact ties of ordinary data are recognised without integers.

Source: T. J. Dekker, A floating-point technique for extending the available precision, Numer. Math. 18 (1971),
224-242 (splitting, products); D. E. Knuth, The Art of Computer Programming 2, section 4.2.2 (two-sum).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

_SPLITTER = 2.0**27 + 1.0
_SMALL = 2.0**-900  # error-free products need room below them; smaller ones count as a known loss
_LOSS = 2.0**-890


def square_distances(x: Floats, c: Floats) -> tuple[Floats, Floats, Floats]:
    """Return (hi, lo, error), each (p,): |D - (hi + lo)| <= error for pairs of rows x, c (p, d), |values| < 2^400."""
    delta, rest = _two_sum(x, -c)  # x - c = delta + rest, exactly
    terms = [_two_product(delta, delta)]
    if rest.any():
        terms += [_two_product(2.0 * delta, rest), _two_product(rest, rest)]
    hi = np.concatenate([t[0] for t in terms], axis=1)
    lo = np.concatenate([t[1] for t in terms], axis=1)
    lossy = ((np.abs(hi) < _SMALL) & (hi != 0)).sum(axis=1) + ((delta != 0) & (hi[:, : x.shape[1]] == 0)).sum(axis=1)
    if rest.any():
        lossy = lossy + ((rest != 0) & (np.abs(rest) < 2.0**-450)).sum(axis=1)
    hi, lo, discarded = _sum(hi, lo)
    return hi, lo, discarded * (1.0 + 2.0**-30) + lossy * _LOSS


def _two_sum(a: Floats, b: Floats) -> tuple[Floats, Floats]:
    s = a + b
    t = s - a
    return s, (a - (s - t)) + (b - t)


def _two_product(a: Floats, b: Floats) -> tuple[Floats, Floats]:
    p = a * b
    a_high, a_low = _split(a)
    b_high, b_low = _split(b)
    return p, a_low * b_low - (((p - a_high * b_high) - a_low * b_high) - a_high * b_low)


def _split(a: Floats) -> tuple[Floats, Floats]:
    t = _SPLITTER * a
    high = t - (t - a)
    return high, a - high


def _sum(hi: Floats, lo: Floats) -> tuple[Floats, Floats, Floats]:
    """Add double-doubles (p, n) pairwise along the rows; return (hi, lo, sum of discarded magnitudes), each (p,)."""
    discarded = np.zeros(len(hi))
    while hi.shape[1] > 1:
        if hi.shape[1] % 2:
            hi = np.pad(hi, ((0, 0), (0, 1)))
            lo = np.pad(lo, ((0, 0), (0, 1)))
        s, t = _two_sum(hi[:, 0::2], hi[:, 1::2])
        u, v = _two_sum(lo[:, 0::2], lo[:, 1::2])
        t, lost1 = _two_sum(t, u)
        s, t = _two_sum(s, t)
        t, lost2 = _two_sum(t, v)
        hi, lo = _two_sum(s, t)
        discarded += np.abs(lost1).sum(axis=1) + np.abs(lost2).sum(axis=1)
    return hi[:, 0], lo[:, 0], discarded
