"""Looks at a few rows: whether centres lie in clusters at all, and how many tiles rows will need.

The first costs next to nothing, and tells what is hopeless: where the nearest of a sample of centres is about as far as
any other, no ball excludes anything.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from janelia_core.ml._knn.data.points import Points, as_float64
from janelia_core.ml._knn.screens.dense.cells.grouping import Grouping
from janelia_core.ml._knn.screens.dense.rough import rough_distances
from janelia_core.ml._simd.dot_tiles import TILE

_ROWS, _CTRS = 16, 512
_SHARE = 4  # of a chunk, for their coordinates in float64
_MOST_ALIKE = 0.6
"""The distance of the nearest of a sample over the usual one, from which on balls exclude little: 0.1 for 100 clusters
in 50 dimensions, 0.3 for smooth images, 0.8 for Gaussian data in 64 dimensions."""
_MOST_ALIKE_OF_WIDE, _WIDE = 0.4, 256  # of so many columns, where a sieve does more for what is only smooth
MOST_WORK = 0.6
"""Of the dense screen's: what cells may take at most, for making them takes time, too."""
_LOOKING, _TILES = 24, 128  # rows that tell what they need, and tiles of which they tell
_NEAR = 4  # tiles among which these look for their nearest, and so many times k centres
_UNION = 1.3  # times as many tiles as one row does, neighbours need that are scored together
_PER_VISIT, _PER_COORDINATE = 150.0, 1.0  # nanoseconds, of a row in a cell


class Needs(NamedTuple):
    """What a few rows need.

    Attributes:
        rows: How many rows were asked.
        tiles: Share of the tiles, on average.
        cells: Share of the cells, on average.
    """

    rows: int
    tiles: float
    cells: float

    def share(self, n_smps: int, n_cells: int, d: int, work: float) -> float:
        """Return what n_smps rows will take, over the work of scoring all centres."""
        return self.tiles * _UNION + n_smps * self.cells * n_cells * (_PER_VISIT + _PER_COORDINATE * d) / work


def alike(x: Points, ctrs: Points) -> float:
    """Return the distance of the nearest of some centres over the usual one, of the median row."""
    most = max(1, min(_CTRS, ctrs.chunk // _SHARE // ctrs.d))
    rows = as_float64(x.block(0, len(x), -(-len(x) // min(_ROWS, most))))
    sample = as_float64(ctrs.block(0, len(ctrs), -(-len(ctrs) // most)))
    middle = sample.mean(0)
    distances = rough_distances((rows - middle).float(), (sample - middle).float())
    usual = distances.median(dim=1).values
    return float((distances.amin(dim=1) / usual.clamp(min=torch.finfo(torch.float32).tiny)).median())


def are_too_alike(ratio: float, d: int) -> bool:
    """Tell whether centres of d coordinates surely lie in no clusters, by what `alike` returned."""
    return ratio > (_MOST_ALIKE_OF_WIDE if d >= _WIDE else _MOST_ALIKE)


def needs(x: Points, ctrs: Points, grouping: Grouping, k: int) -> Needs:
    """Return what rows need whose k nearest are as far as those in the cells around them."""
    middle, n_cells, n_tiles = grouping.sketch.middle, len(grouping.middles), len(grouping.tiles)
    rows = as_float64(x.block(0, len(x), -(-len(x) // _LOOKING))) - middle
    near = rough_distances((rows @ grouping.sketch.directions).float(), grouping.tiles)
    near = near.topk(min(_NEAR * (1 + k // TILE), len(grouping.tiles)), largest=False).indices
    rows, radii = rows.float(), torch.empty(len(rows), 1, dtype=torch.float32, device="cpu")
    for row, tiles, radius in zip(rows, near, radii, strict=True):
        found = rough_distances(row[None], _values(ctrs, torch.cat(grouping.centres_of(tiles)[1]), middle))[0]
        radius[0] = found.kthvalue(k).values if len(found) >= k else torch.inf
    cell, some = grouping.centres_of(torch.arange(0, n_tiles, -(-n_tiles // _TILES), device="cpu"))
    values = [_values(ctrs, members, middle) for members in some]
    middles = torch.stack([one.mean(0) for one in values])
    reach = torch.stack([(one - its).square().sum(1).amax().sqrt() for one, its in zip(values, middles, strict=True)])
    needed = rough_distances(rows, middles) <= radii + reach
    asked = torch.zeros(len(rows), n_cells, dtype=torch.float32, device="cpu").index_add_(1, cell, needed.float())
    return Needs(
        len(rows), float(needed.float().mean()), float((asked > 0).sum(1).float().mean()) / len(set(cell.tolist()))
    )


def _values(ctrs: Points, positions: Tensor, middle: Tensor) -> Tensor:
    values = ctrs.take(ctrs.row_numbers(positions))
    return values - middle.float() if values.dtype == torch.float32 else (as_float64(values) - middle).float()
