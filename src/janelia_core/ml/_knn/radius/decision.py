"""distance <= r, decided: by float64 order values with their errors, then double-doubles, then integers.

Let v +- e be an order value, e with the threshold's slack, and T = high + low. Rounding |v| + e outwards by a relative
2^-51 covers the addition. As high is T rounded to nearest, every float64 number below high is below T, and every one
above it is above T; at high itself the sign of low tells. So values on a lattice, e = 0, are all decided here.
"""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import torch
from torch import Tensor

from janelia_core.ml._knn.arithmetic.bounds import OUTWARD
from janelia_core.ml._knn.data.points import as_float64, is_finite
from janelia_core.ml._knn.metrics.metric import Metric
from janelia_core.ml._knn.radius.threshold import Threshold

_OUT = 2.0**-51


def decide(value: Tensor, error: Tensor, t: Threshold) -> tuple[Tensor, Tensor]:
    """Tell who belongs, and of whom float64 cannot tell.

    Args:
        value: Order values, whose shape that of the parts of t broadcasts with.
        error: Their errors.
        t: Thresholds.

    Returns:
        belongs, open: bool; nobody is both.
    """
    error = error + t.slack
    margin = error + torch.where(error > 0, (value.abs() + error) * _OUT, 0.0)
    up, down = value + margin, value - margin
    inside = (up < t.high) | ((up == t.high) & (t.low >= 0))
    outside = (down > t.high) | ((down == t.high) & (t.low < 0))
    finite = is_finite(value)
    inside = torch.where(finite, inside, value <= t.r)  # classes: -inf, inf, and NaN, which nothing is above
    return inside, finite & ~inside & ~outside


def exactly(x: Tensor, c: Tensor, t: Threshold, metric: Metric, in_float64: bool) -> Tensor:
    """Decide pairs (p,) of finite stored rows x (p, d) and c (p, d), without any rounding.

    Args:
        x: (p, d).
        c: (p, d).
        t: Thresholds (p,).
        metric: What is compared.
        in_float64: Stored values are exact in float64 and of moderate magnitude (`Frame.in_float64`).
    """
    belongs = torch.zeros(len(x), dtype=torch.bool, device="cpu")
    left = torch.arange(len(x), device="cpu")
    x, c, t = x.cpu(), c.cpu(), Threshold(*(part.cpu() for part in t))
    if in_float64 and metric.doubled_below > 0 and len(x):
        inside, open_ = _by_doubles(x, c, t, metric)
        belongs, left = inside, open_.nonzero()[:, 0]
    for i in left.tolist():
        row, centre = ([Fraction(v) for v in values[i].tolist()] for values in (x, c))
        radius = float(t.r[i])
        belongs[i] = radius == math.inf or (radius > -math.inf and metric.is_within(row, centre, Fraction(radius)))
    return belongs


def _by_doubles(x: Tensor, c: Tensor, t: Threshold, metric: Metric) -> tuple[Tensor, Tensor]:
    """Return who belongs, and of whom double-doubles cannot tell."""
    with np.errstate(all="ignore"):  # what overflows is left open
        hi, lo, error = (torch.from_numpy(part) for part in metric.sums(as_float64(x).numpy(), as_float64(c).numpy()))
        # hi - high is exact where they are near one another, and its rounding small beside it where they are not.
        gap = (hi - t.high) + (lo - t.low)
        size = (error + t.slack) * OUTWARD + 2.0**-100 * (hi.abs() + t.high.abs())
    same = (hi == t.high) & (lo == t.low) & (error + t.slack == 0)
    known = torch.isfinite(gap) & torch.isfinite(size)
    inside = (known & (gap < -size)) | same
    return inside, ~(inside | (known & (gap > size)))
