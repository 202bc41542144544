"""Radii in the units of order values: what decides, without rounding, whether a centre belongs.

The order value of `metrics` is compared with r itself, or with r^2 where the distance is a root. r^2 is kept as the
double-double high + low, which is r^2 exactly (Dekker's product), so that lattices, on which order values are exact,
are decided by comparing two numbers. Where the low half would underflow, `slack` says by how much it may be
off; where r^2 would overflow, every finite order value is below it, and high is infinite: the values that are compared
are below 2^1000 in magnitude (`Frame.verify_exponent`: squares of up to 2^400, and sums of as many as memory holds).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from janelia_core.ml._knn.arithmetic.double_double import two_product
from janelia_core.ml._knn.data.frame import scale
from janelia_core.ml._knn.metrics.metric import Metric

_TINY, _HUGE = 2.0**-400, 2.0**500  # roots whose squares lose low bits, and are beyond every order value
_LOST = 2.0**-1060  # of such a square, or of a radius that is taken times a power of two


class Threshold(NamedTuple):
    """Radii of a block of rows.

    Attributes:
        r: (r,) float64 radii as they are stored.
        high: (r,) float64: a centre belongs where its order value is at most high + low.
        low: (r,) float64.
        slack: (r,) float64: high + low may be off by so much.
    """

    r: Tensor
    high: Tensor
    low: Tensor
    slack: Tensor

    def pick(self, rows: Tensor | slice) -> Threshold:
        """Return those of some rows."""
        return Threshold(*(part[rows] for part in self))

    @property
    def limit(self) -> Tensor:
        """Return an upper bound (r,) of the order values of members; inf where there is none."""
        return torch.nextafter(self.high + self.slack, torch.full_like(self.high, torch.inf))


def threshold(metric: Metric, r: Tensor) -> Threshold:
    """Return the thresholds of radii (r,) float64, none of them NaN."""
    own = metric.limits(r)
    if own is not None:
        high, low, slack = (scale(part, -metric.degree * metric.exponent) if metric.exponent else part for part in own)
        return Threshold(r, high, low, slack + _LOST if metric.exponent else slack)
    if not metric.root:
        high = r
        for _ in range(metric.degree if metric.exponent else 0):  # one after the other: 2^1024 is no float
            high = scale(high, -metric.exponent)
        return Threshold(r, high, torch.zeros_like(r), torch.full_like(r, 0.0 if high is r else _LOST))
    root = scale(r, -metric.exponent) if metric.exponent else r
    high, low = two_product(root.clamp(max=_HUGE), root.clamp(max=_HUGE))
    tiny = (root < _TINY) & (r > 0)
    beyond = root >= _HUGE
    return Threshold(
        r,
        high.masked_fill(beyond, torch.inf),
        low.masked_fill(beyond | tiny, 0.0),
        torch.where(tiny, _LOST, 0.0),
    )
