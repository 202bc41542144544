"""Points in a few leading directions, and the length of their rest: few coordinates, from which distances are bounded.

Let V (d, p) be directions, G = V^T V, and eta >= |G - I|. Of a point let v = x - m, y = V^T v, rho = |(I - V V^T) v|;
its image is q = (y, rho), p + 1 coordinates. With w = x - c, and N = I - V V^T,

    |w|^2 - |N w|^2 = 2 |V^T w|^2 - (V^T w)^T G (V^T w) >= (1 - eta) |V^T w|^2,   |N w| >= |rho_x - rho_c|,

so that |w|^2 >= (1 - eta) |q_x - q_c|^2. An image is computed as q^, in float64, then rounded to float32. With
u = 2^-53, what v lacks moves q by less than 2 u |v|; the products move y by sqrt(p) (d + 3) u |v| at most; rho^ is the
root of |v|^2 - |y|^2, which differs from rho^2 by eta |y|^2, and what rounding adds is less than
4 sqrt(p) (d + p + 16) u |v|^2 (sums in any order; Higham, Accuracy and Stability, 2nd ed., 3.1), and the root of that
is the most that rho is off; float32 takes 2^-24 of the norm of q, which is below (1 + 2^-10) |v|. So

    |q^ - q| <= e = |v| (sqrt(2 eta + 4 sqrt(p) (d + p + 16) u) + 2^-24 (1 + 2^-9) + 16 sqrt(p) (d + 16) u) + 2^-100,

the last for what underflows, of values whose largest is at least 2^-40 or zero; and D, the squared distance, has

    D >= (1 - eta) max(0, |q^_x - q^_c| - e_x - e_c)^2.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from janelia_core.ml._knn.data.points import Points, as_float64
from janelia_core.ml._runtime.workers import Workers

_SAMPLE = 512  # points that tell the leading directions, and more where these are many
_FEW, _MANY_COLUMNS = 128, 48  # that tell at once that there are none; half as many of more columns
_POWERS = 2  # of the iteration that finds them
_SHARE = 2  # of a chunk, for coordinates taken at a time
_UNIT = 2.0**-53


class Leading(NamedTuple):
    """Leading directions of points.

    Attributes:
        middle: (d,) float64, near a mean.
        directions: (d, p) float64, the first one first.
        loss: eta.
        unit: e, but for what underflows, of a point of |v| = 1.
        share: (p,) float64; which share of the squares of the sample lies outside the first 1 .. p of them.
    """

    middle: Tensor
    directions: Tensor
    loss: float
    unit: float
    share: Tensor

    def first(self, p: int) -> Leading:
        """Return the first p of the directions."""
        return _measured(self.middle, self.directions[:, :p].contiguous(), self.share[:p])

    def of(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Return images of finite points (r, d), as (r, p + 1) float32, and how far off they are, (r,) float64."""
        v = as_float64(values) - self.middle
        y, square = v @ self.directions, v.square_().sum(1)
        rest = (square - y.square().sum(1)).clamp_(min=0.0).sqrt_()
        return torch.cat([y, rest[:, None]], dim=1).float(), square.sqrt_().mul_(self.unit * (1.0 + 2.0**-30)).add_(
            2.0**-100
        )

    def of_all(self, points: Points, workers: Workers) -> tuple[Tensor, float]:
        """Return images of many finite points, and how far off one of them may be at most."""
        images = torch.empty(len(points), self.directions.shape[1] + 1, dtype=torch.float32, device="cpu")

        def fill(part: tuple[int, int]) -> float:
            images[part[0] : part[1]], off = self.of(points.block(*part))
            return float(off.amax())

        return images, max(workers.each(fill, points.chunks(_SHARE)), default=0.0)

    def at_least(self, squares: Tensor, off: Tensor) -> Tensor:
        """Return lower bounds of D, from those of squared distances of images that are `off` by so much together."""
        root = squares.clamp(min=0.0).sqrt() * (1.0 - 2.0**-50) - off * (1.0 + 2.0**-50)
        bound = root.clamp_(min=0.0).square_() * ((1.0 - self.loss) * (1.0 - 2.0**-49))
        return torch.where(squares.isfinite(), bound, squares)


def least_outside(points: Points, most: int) -> float:
    """Return which share of the squares of a few points lies outside any `most` directions, or less, in no time.

    Of inner products G, the largest eigenvalues lie inside, which are sqrt(most) |G| of tr G at most (Cauchy-Schwarz).
    And few points lie nearer to so many directions than many do.
    """
    few = _FEW if points.d < _MANY_COLUMNS else _FEW // 2
    wanted = max(1, min(few, points.chunk // points.d))
    v = as_float64(points.block(0, len(points), -(-len(points) // wanted)))
    v = v - v.mean(0)
    total, inner = float(torch.linalg.vector_norm(v)) ** 2, float(torch.linalg.vector_norm(v @ v.T))
    return 1.0 - most**0.5 * inner / total if total > 0.0 else 0.0


def leading(points: Points, most: int) -> Leading:
    """Return `most` leading directions of finite points of moderate magnitude; the columns, where these are no more."""
    wanted = max(1, min(max(_SAMPLE, 4 * most), points.chunk // points.d))
    sample = as_float64(points.block(0, len(points), -(-len(points) // wanted)))
    middle = sample.mean(0)
    if most >= points.d:
        whole = torch.eye(points.d, dtype=torch.float64, device="cpu")
        return _measured(middle, whole, torch.zeros(points.d, dtype=torch.float64, device="cpu"))
    rough = sample - middle
    largest = float(rough.abs().amax())
    rough = (rough / largest if largest > 0.0 else rough).float()
    source = torch.Generator(device="cpu").manual_seed(0)
    basis = torch.randn(points.d, most, generator=source, dtype=torch.float32, device="cpu")
    for _ in range(_POWERS):
        basis = torch.linalg.qr(rough.T @ (rough @ basis)).Q
    inner = rough @ basis
    directions = torch.linalg.qr(basis.double() @ in_order(inner)).Q
    within = (rough @ directions.float()).double().square().sum(0).cumsum(0)
    total = rough.double().square().sum().clamp(min=torch.finfo(torch.float64).tiny)
    return _measured(middle, directions, (1.0 - within / total).clamp_(min=0.0))


def in_order(points: Tensor) -> Tensor:
    """Return the directions (p, p) float64 of points (n, p), the one with the largest squares first.

    Of points that lie in fewer directions, LAPACK may find none: then they stay as they are, which is rough.
    """
    wide = points.double()
    try:
        found: Tensor = torch.linalg.eigh(wide.T @ wide).eigenvectors.flip(1)
    except RuntimeError:  # torch.linalg.LinAlgError
        found = torch.eye(points.shape[1], dtype=torch.float64, device="cpu")
    return found


def refined(found: Leading, points: Points, n: int, workers: Workers) -> Leading:
    """Return directions that lead more of the points, by n of them, or fewer; shares are those of fewer still."""
    step = max(1, points.chunk // _SHARE // points.d)
    every = -(-len(points) // n)
    starts = range(0, len(points), step * every)
    middle, basis = found.middle, found.directions.float()

    def product(start: int) -> Tensor:
        some = (as_float64(points.block(start, min(start + step * every, len(points)), every)) - middle).float()
        return some.T @ (some @ basis)

    for _ in range(_POWERS):
        total = sum(workers.each(product, starts))
        assert isinstance(total, Tensor)
        largest = total.abs().amax().clamp(min=torch.finfo(torch.float32).tiny)
        basis = workers.once(partial(_orthogonal, total / largest))
    directions = workers.once(partial(_orthogonal, basis.double()))
    return _measured(middle, directions, found.share)


def _orthogonal(basis: Tensor) -> Tensor:
    found: Tensor = torch.linalg.qr(basis).Q
    return found


def turned(found: Leading, by: Tensor) -> Leading:
    """Return the directions turned among each other by (p, p), nearly orthogonal; shares tell nothing of them."""
    return _measured(found.middle, found.directions @ by, found.share)


def single(found: Leading) -> Leading:
    """Return the directions as float32 holds them; shares are those of the directions given."""
    return _measured(found.middle, found.directions.float().double(), found.share)


def _measured(middle: Tensor, directions: Tensor, share: Tensor) -> Leading:
    d, p = directions.shape
    gram = directions.T @ directions - torch.eye(p, dtype=torch.float64, device="cpu")
    loss = float(gram.square().sum().sqrt()) * (1.0 + 2.0**-20) + 2.0 * p * (d + 16) * _UNIT
    unit = (2.0 * loss + 4.0 * p**0.5 * (d + p + 16) * _UNIT) ** 0.5
    unit += 2.0**-24 * (1.0 + 2.0**-9) + 16.0 * p**0.5 * (d + 16) * _UNIT
    return Leading(middle, directions, loss, unit, share)
