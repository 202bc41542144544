"""Two meshes: who is far in a few leading directions is left out; the others are scored over all columns.

Real data of many columns has far fewer directions. Scores of images (`sieve.images`) of p + 1 coordinates take a small
part of the time of scores over all columns, and prove most centres farther than k others, although not all.

Derivation of the bound
-----------------------
Over all columns, let s, P and the lower bounds be those of `dense.screen`, T the k-th largest lower bound met so far,
and S+ >= |x|^2 in the frame, measured. A centre with s >= T has, in units of stored values,

    D = (|x|^2 - 2 s) / scale^2 <= (S+ - 2 T) / scale^2 =: L.

By `data.leading` D >= (1 - eta) max(0, |q^_x - q^_c| - e)^2, with e = e_x + max e_c, so its image has

    |q^_x - q^_c|^2 <= (sqrt(L / (1 - eta)) + e)^2 =: M,

and, as in `dense.within`, a key that reaches (S-_q - M scale_q^2) / 2, rounded down, where S-_q <= |q^_x|^2 in the
frame of images. A key below that, the floor, proves s < T: nothing over all columns is asked, and `limit` is T at
least. T only grows, so what once was left out would be so again. Who reaches the floor is scored, and listed as
`dense.scan` does, but for keys that are exact: places are not in the order of numbers, so ties are left to others.

Rows whose images bytes do not hold have a floor that all centres reach; others that they do not hold over all columns
have one that none does, and say nothing.

The order of the tiles is that of their distance from the rows, roughly: T is near its last value soon.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from janelia_core.ml._knn.contract import Candidates
from janelia_core.ml._knn.data.points import Points
from janelia_core.ml._knn.metrics.metric import DISTANCE
from janelia_core.ml._knn.rows import Rows, parts
from janelia_core.ml._knn.screens.dense.formats import INT8
from janelia_core.ml._knn.screens.dense.lists import empty_lists, finish
from janelia_core.ml._knn.screens.dense.row_bounds import prove
from janelia_core.ml._knn.screens.dense.scan import Tiles
from janelia_core.ml._knn.screens.dense.screen import joined
from janelia_core.ml._knn.screens.dense.sieve.images import Images
from janelia_core.ml._knn.screens.dense.sieve.order import Order
from janelia_core.ml._knn.screens.dense.sieve.packed import PackedPoints
from janelia_core.ml._knn.screens.dense.sieve.scan import BETWEEN, TOLD, Mesh, Whole, raise_thresholds, sieve
from janelia_core.ml._simd.dot_tiles import ROWS, TILE, WORDS

MOST_ROWS = 512
"""Rows that are sieved together."""
_SEEN = 512  # centres that tell first thresholds, and as many as are wanted of them


class Meshes(NamedTuple):
    """What stands.

    Attributes:
        images: Who makes images.
        order: Of the centres.
        fine: Images of centres in tiles.
        whole: Centres in one piece each.
        off: How far images of centres may be off.
        ctrs: The centres.
    """

    images: Images
    order: Order
    fine: PackedPoints
    whole: PackedPoints
    off: float
    ctrs: Points

    @property
    def nbytes(self) -> int:
        """What is held."""
        return self.order.nbytes + self.fine.nbytes + self.whole.nbytes


class SieveScreen:
    """Shortlists by two meshes; thread safe, scratch is a call's own.

    Args:
        meshes: The centres.
        k: How many are wanted, 1 <= k <= n_ctrs.
        known: Images of all rows by their numbers, and how far they are off; None: each is made when asked.

    Memory:
        Of MOST_ROWS rows their images and words; per row 12 bytes for each of `capacity` entries of its list.
    """

    def __init__(self, meshes: Meshes, k: int, known: tuple[Tensor, Tensor] | None = None) -> None:
        self.meshes, self.k, self._known = meshes, k, known
        self.cap = k + INT8.slack + k // 2
        self.capacity = self.cap + 16 + k // 2
        fine, whole = meshes.fine, meshes.whole
        words = fine.words.reshape(-1).view(WORDS[INT8.name])
        self._tiles = Tiles(words, fine.parameters.reshape(-1), 0, fine.errs)
        self._whole = Whole(whole.words.reshape(-1), whole.parameters.reshape(-1), whole.errs, whole.width)

    def candidates(self, rows: Rows) -> Candidates:
        """Shortlist the centres for a block of finite rows."""
        ctrs, order = self.meshes.ctrs, self.meshes.order.order
        lists = [self._scanned(rows.pick(part)) for part in parts(len(rows.values), MOST_ROWS)]
        found = lists[0] if len(lists) == 1 else joined(lists)
        positions = torch.where(found.indices < 0, found.indices, order[found.indices.clamp(min=0)])
        return found._replace(indices=ctrs.row_numbers(positions))

    def _scanned(self, rows: Rows) -> Candidates:
        r, meshes = len(rows.values), self.meshes
        if self._known is None:
            values, off = meshes.images.of(rows.values)
        else:
            values, off = (one[rows.numbers] for one in self._known)
        images, whole = meshes.fine.rows(values), meshes.whole.rows(rows.values)
        n = -(-r // ROWS) * ROWS
        lists = empty_lists(n, self.k, self.cap, self.capacity)
        lists.full[:] = min(self.capacity, self.k + BETWEEN + self.k // 4)
        upper, square, shift = np.full(n, np.inf), np.zeros(n), np.zeros(n)
        upper[:r] = np.where(whole.lost, np.inf, whole.upper)
        square[:r] = np.where(images.lost, -np.inf, images.square)
        shift[:r] = (off + meshes.off).numpy() * (1.0 + 2.0**-50)
        unit = (1.0 + 2.0**-50) / (meshes.whole.scale**2 * (1.0 - meshes.images.leading.loss))
        mesh = Mesh(upper, square, shift, unit, meshes.fine.scale**2)
        near, n_tiles = meshes.order.nearest(values), len(meshes.order.of_tiles)
        seen = min(n_tiles, -(-max(_SEEN, TOLD * self.k) // TILE))
        begin = meshes.order.beside(near[::ROWS].contiguous(), seen).numpy()
        raise_thresholds(self._tiles, images.terms, self._whole, whole.terms, begin, seen, lists)
        turns = meshes.order.turns(near).numpy()
        sieve(self._tiles, images.terms, mesh, self._whole, whole.terms, turns, lists)
        width = max(self.k, finish(lists))
        listed, excluded, at_least = np.empty((r, width), np.int64), np.empty(r), np.empty((r, width))
        prove(lists, whole.square, whole.lost, meshes.whole.scale, DISTANCE, 0, 0, listed, excluded, at_least)
        return Candidates(torch.from_numpy(listed), torch.from_numpy(excluded), torch.from_numpy(at_least))
