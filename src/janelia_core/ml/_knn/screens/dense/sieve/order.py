"""Near points side by side, and which tiles are near a block of rows: it decides how much passes, and no answer."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from janelia_core.ml._knn.rows import parts
from janelia_core.ml._runtime.workers import Workers
from janelia_core.ml._simd.dot_tiles import TILE

_MOST_SEEDS, _PER_SEED = 128, 256  # and points of each, on average
_AT_ONCE = 1 << 12  # points


class Order(NamedTuple):
    """Points by the nearest of a few of them, the seeds.

    Attributes:
        seeds: (g, w) float32, neighbours one after the other.
        apart: (g, g) float32, their distances.
        order: (n,) int64, positions of points.
        of_tiles: (t,) int64, the seed of the first point of each tile of them.
    """

    seeds: Tensor
    apart: Tensor
    order: Tensor
    of_tiles: Tensor

    @property
    def nbytes(self) -> int:
        """What is held."""
        return sum(one.nbytes for one in self)

    def nearest(self, images: Tensor) -> Tensor:
        """Return the nearest seed of points (r, w)."""
        return _nearest(images, self.seeds)

    def sorted(self, images: Tensor, workers: Workers) -> Tensor:
        """Return the positions of points in the order of their seeds."""
        near = _nearest_of_all(images, self.seeds, workers)
        order: Tensor = workers.once(lambda: near.argsort(stable=True))
        return order

    def turns(self, near: Tensor) -> Tensor:
        """Return all tiles, those near some seeds first."""
        return self.apart[near].amin(0)[self.of_tiles].argsort(stable=True)

    def beside(self, near: Tensor, n: int) -> Tensor:
        """Return where n tiles begin that are around those of seeds (r,)."""
        first, last = (torch.searchsorted(self.of_tiles, near, right=right) for right in (False, True))
        return ((first + last - n) // 2).clamp_(0, len(self.of_tiles) - n)


def order_of(images: Tensor, workers: Workers) -> Order:
    """Put points (n, w) in order."""
    n = len(images)
    some = images[:: -(-n // max(1, min(_MOST_SEEDS, n // _PER_SEED)))].clone()
    seeds: Tensor = workers.once(lambda: _chained(some))
    near = _nearest_of_all(images, seeds, workers)
    order = workers.once(lambda: near.argsort(stable=True))
    return Order(seeds, workers.once(lambda: torch.cdist(seeds, seeds)), order, near[order[::TILE]])


def _chained(seeds: Tensor) -> Tensor:
    """Return the same, each followed by the nearest of those that are left."""
    apart, here, chain = torch.cdist(seeds, seeds), 0, [0]
    for _ in range(len(seeds) - 1):
        apart[:, here] = torch.inf
        here = int(apart[here].argmin())
        chain.append(here)
    return seeds[chain]


def _nearest(images: Tensor, seeds: Tensor) -> Tensor:
    return torch.addmm(seeds.square().sum(1), images, seeds.T, alpha=-2.0).argmin(1)


def _nearest_of_all(images: Tensor, seeds: Tensor, workers: Workers) -> Tensor:
    return torch.cat(
        workers.each(lambda some: _nearest(some, seeds), [images[part] for part in parts(len(images), _AT_ONCE)])
    )
