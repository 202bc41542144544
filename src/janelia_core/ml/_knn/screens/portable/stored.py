"""Centres that are multiplied as they are stored: of a few rows among many, packing would take longer than all else.

Float32 centres c whose middle is not far from the origin serve without a shift: u = c 2^-e is z itself. The power of
two goes to the rows, times which it is exact (|e| <= 30, and z_x is zero or 2^-60 at least). What is left of `packing`
are two columns of each centre: z_x 2^-e times c, and [1, p_x] times

    b   >= -|u|^2 / 2 + g |u|^2 + tiny
    q   >= (sqrt(d) 2^-60 + g |u| + 2^-bits |u|) (1 + 2 g)

The same terms are summed as there, in another order, and U >= s as there, with one more loss: coordinates of u below
2^-60 are not made zero before, so a processor may do so in between. That is at most |z_x| sqrt(d) 2^-60, by
Cauchy-Schwarz, and q pays for it.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from janelia_core.ml._knn.arithmetic.bounds import OUTWARD, UNIT32, UNIT64, gamma
from janelia_core.ml._knn.data.frame import Place
from janelia_core.ml._knn.data.points import Points, as_float64
from janelia_core.ml._knn.screens.portable.cost import FULL_BITS, n_columns
from janelia_core.ml._knn.screens.portable.packing import FLUSH, TINY, chunks, pack_ctrs, up

_MOST_SHIFT = 2.0  # of the middle from the origin, in units of the centres' distance from it: margins grow fourfold
_MOST_EXPONENT = 30
_PACKING = 40  # looks at a product that take as long as to pack a coordinate; measured


class Block(NamedTuple):
    """Some centres, ready for products.

    Attributes:
        values: (b, columns) packed, or (b, d) as stored.
        more: None, or (b, 2) the columns that belong to these.
    """

    values: Tensor
    more: Tensor | None = None

    def product(self, rows: Tensor, out: Tensor | None = None) -> Tensor:
        """Return the products (r, b) with packed rows (r, columns), in out."""
        if self.more is None:
            return torch.mm(rows, self.values.T, out=out)
        d = self.values.shape[1]
        return torch.mm(rows[:, d:], self.more.T, out=out).addmm_(rows[:, :d], self.values.T)

    def columns(self, part: slice) -> Tensor:
        """Return all columns of some centres."""
        return self.values[part] if self.more is None else torch.cat([self.values[part], self.more[part]], dim=1)


def are_few(n_rows: int, d: int) -> bool:
    """Tell whether rows are too few for packing to pay, which saves one look at each product."""
    return n_rows < _PACKING * d


def serve_as_stored(ctrs: Points, place: Place, bits: int, n_rows: int) -> bool:
    """Tell whether these centres can be multiplied as they are, and had better be."""
    return (
        are_few(n_rows, ctrs.d)
        and ctrs.values.dtype == torch.float32
        and ctrs.values.is_cpu
        and bits == FULL_BITS
        and not place.directed
        and abs(place.exponent) <= _MOST_EXPONENT
        and float(torch.linalg.vector_norm(place.shift)) <= _MOST_SHIFT
    )


def more_columns(values: Tensor, place: Place, product: bool, chunk: int) -> Tensor | None:
    """Return b and q (b, 2) of stored centres (b, d), for a place without a shift; None if any is not finite.

    Args:
        values: The centres.
        place: Where points are taken.
        product: Of scores <x, c>, whose b is no more than what may underflow.
        chunk: So many coordinates are taken at a time.
    """
    b, d = values.shape
    g, rounding = gamma(n_columns(d), UNIT32), 2.0 * (d + 8) * UNIT64
    norm = torch.empty(b, dtype=torch.float64, device=values.device)
    for part in chunks(values, chunk):
        torch.linalg.vector_norm(as_float64(values[part]), dim=1, out=norm[part])
    norm *= 2.0**-place.exponent
    high, low = norm * (1.0 + rounding), norm * (1.0 - 2.0 * rounding)
    bias = 0.0 * norm if product else g * OUTWARD * high.square() - 0.5 * (2.0 - OUTWARD) * low.square()
    margin = (d**0.5 * FLUSH + (g + 2.0**-FULL_BITS) * high) * ((1.0 + 2.0 * g) * OUTWARD)
    more = torch.stack([up(bias + TINY, FULL_BITS), up(margin.clamp_(min=FLUSH), FULL_BITS)], dim=1)
    return more if bool(torch.isfinite(more).all()) else None


def packed_beside(values: Tensor, place: Place, product: bool, chunk: int) -> Tensor:
    """Return packed centres for the same rows: for blocks that hold something not finite."""
    packed = pack_ctrs(values, place, FULL_BITS, product, chunk)
    packed[:, : values.shape[1]] *= 2.0**place.exponent
    return packed
