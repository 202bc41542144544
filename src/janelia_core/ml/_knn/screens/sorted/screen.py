"""The sorted screen: all distances of a row, of which the nearest are sorted, proven and written without a list.

Exactness
---------
D is the exact squared distance of stored values. A float64 distance F lies within D (1 -+ r) -+ a (`DistanceBound`:
each term three roundings, their sum d - 1 more in any order, fused or not; what underflows is in a). Where the values
lie on a grid, r = a = 0.

Left out are centres whose key K is above a limit T. Where keys are float64 distances, D >= (T - a)(1 - r). Where they
are float32 distances of float32 values, with u = 2^-24, t = 2^-125 and g = (d + 2) u / (1 - (d + 2) u),

    |K - D| <= g D + (d + 2) t      so      D >= (T - (d + 2) t)(1 - g)

for the same reasons; K may overflow, and then D is far above T, which is finite (an infinite or undefined T is one that
leaves nothing out). The k nearest of what is left are those of all, if the upper bound of all of the first k, and of
all that rounding cannot tell from them, is below that.

Sorted are entries of u = floor(fl(fl(F - least) scale)), scale a power of two. Let u_b - u_a >= G for listed a and b.
The difference is rounded once, by 2^-53 of itself, and the product not at all, so

    (F_b - F_a) + 2^-53 (F_b + F_a - 2 least)  >  (G - 1) / scale

and with M the greatest distance listed, F_b - F_a > (G - 1) / scale - 2^-52 (M - least). That is at least 2 (r M + a),
and so D_b > D_a, if G >= 2 + (2 (r M + a) + 2^-52 (M - least)) scale; it is evaluated with a factor of 1 + 2^-40, for
its own roundings. Entries whose difference is at least G + 1, in units of u, have such u, whatever their slots.
Neighbours in the sorted row that all are so far apart are in the order of D; k of them, with the one behind.

Otherwise listed centres are sorted by (F, number), and runs in which each F overlaps the next within r and a are looked
at: where nothing is rounded there are none, copies of one point come by number, other short runs are settled by exact
differences (`settle.kernels`), and what is not proven goes up the ladder.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from janelia_core.ml._knn.answers import Answers
from janelia_core.ml._knn.arithmetic.bounds import TINY32, UNIT32, gamma
from janelia_core.ml._knn.data.points import IN_FLOAT32, Points, as_float64
from janelia_core.ml._knn.metrics.metric import Bound
from janelia_core.ml._knn.metrics.registry import metric_named
from janelia_core.ml._knn.screens.contract import Asked, Meeting
from janelia_core.ml._knn.screens.row_by_row import RowByRow
from janelia_core.ml._knn.screens.sorted.answer import TOGETHER, Ground, Wanted, answer_rows
from janelia_core.ml._knn.screens.sorted.distances import TILE
from janelia_core.ml._runtime.arrays import I64, Reals
from janelia_core.ml._runtime.workers import Workers

_SPARE, _SHARE = 8, 64  # centres listed beyond k by float32 keys, and k / _SHARE more
_NONE = np.empty(0, np.int64)


class PreparedSorted:
    """Centres in tiles, for any number of searches.

    Args:
        ctrs: Finite centres that float64 holds.
        workers: Who shares the work.
    """

    stands = True

    def __init__(self, ctrs: Points, workers: Workers) -> None:
        kind = torch.float32 if ctrs.values.dtype in IN_FLOAT32 else torch.float64
        number = -(-len(ctrs) // TILE)
        tiles = torch.zeros(number, ctrs.d, TILE, dtype=kind)

        def fill(some: tuple[int, int]) -> None:
            for tile in range(*some):
                block = ctrs.block(tile * TILE, min((tile + 1) * TILE, len(ctrs)))
                tiles[tile, :, : len(block)] = block.to(kind).T

        step = max(1, -(-number // (2 * workers.count)))
        workers.each(fill, [(first, min(first + step, number)) for first in range(0, number, step)])
        self.ctrs, self.tiles = ctrs, tiles.numpy()
        self.numbers: I64 = _NONE if ctrs.subset is None else ctrs.subset.numpy()

    @property
    def nbytes(self) -> int:
        """What is held."""
        return self.tiles.nbytes

    def meet(self, asked: Asked) -> Meeting:
        """Sort rows as they come."""
        return SortedRows(self, asked)


class SortedRows(RowByRow):
    """Rows that are answered by a sort.

    Args:
        prepared: The centres.
        asked: The search.
    """

    def __init__(self, prepared: PreparedSorted, asked: Asked) -> None:
        super().__init__(asked)
        frame, k = asked.frame, asked.plan.k
        ctrs, own = prepared.ctrs, asked.plan.own
        stored = ctrs.values
        plain = stored.dtype == asked.x.values.dtype == torch.float32 and stored.is_contiguous()
        single = own is not None and own.single and plain and frame.fits_float32
        self._key_type = np.float32 if single else np.float64
        empty = np.empty((0, ctrs.d), prepared.tiles.dtype)
        self._ground = Ground(prepared.tiles, len(ctrs), stored.numpy() if single else empty, prepared.numbers)
        within = metric_named(asked.plan.metric, 0, frame.exact).bound(ctrs.d)
        self._wanted = Wanted(
            k=k,
            all_listed=len(ctrs) == k or (own is not None and own.all_listed and not single),
            spare=_SPARE + k // _SHARE if single else 0,
            error=within,
            of_keys=_of_float32(ctrs.d) if single else within,
        )

    def answer(self, positions: Tensor, answers: Answers) -> Tensor:
        """Answer rows whose order is proven, one after the other as `turns` has them."""
        first, last = int(positions[0]), int(positions[-1])
        x = as_float64(self.x.block(first, last + 1)).contiguous().numpy()
        keyed: Reals = x.astype(self._key_type)
        keys = np.empty((TOGETHER, self._ground.tiles.shape[0] * TILE), self._key_type)
        bits = keys.view(np.int64 if keys.itemsize == 8 else np.int32)
        output, doubtful = self.output(positions, answers), np.empty(len(x), np.int64)
        failed = answer_rows(x, keyed, keys, bits, self._ground, self._wanted, output, doubtful)
        return positions[torch.from_numpy(doubtful[:failed])]


def _of_float32(d: int) -> Bound:
    """Return how far float32 distances of float32 values can be off, relative and absolute."""
    return gamma(d + 2, UNIT32) * (1.0 + 2.0**-20), (d + 2) * TINY32
