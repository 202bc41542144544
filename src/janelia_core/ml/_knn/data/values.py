"""Looks at all stored values of points, once each: extremes, and whether they lie on a grid.

By all workers, in bounded memory: by Numba kernels where these can read the tensor in place, else by torch, block by
block.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from janelia_core.ml._knn.data import there
from janelia_core.ml._knn.data.points import Points, are_multiples, as_float64
from janelia_core.ml._runtime.workers import Workers

R = TypeVar("R")
_BITS = {torch.float32: np.int32, torch.float64: np.int64}
_PIECES = 4  # for each worker
_SMALLEST_PIECE = 1 << 16  # coordinates: below, handing it out costs more than looking at it
_COLUMNS = 64  # fewer are no work for vectors
_FIRST_LOOK, _FIRST_OF_ALL = 1 << 12, 16  # coordinates that tell most data without a grid, and one in so many of them
_WITH_AMINMAX = (torch.float64, torch.float32, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


@dataclass(frozen=True)
class Reader:
    """Who looks, and how.

    Attributes:
        workers: Threads that share the work.
        kernels: Numba kernels may be used.
        share: Of a chunk, for what torch takes for temporaries.
    """

    workers: Workers = field(default_factory=lambda: Workers(1, pool=False))
    kernels: bool = False
    share: int = 1

    def ends(self, points: Points) -> tuple[float, float, bool]:
        """Return the least and the greatest finite value, 0 where there is none, and whether all values are finite."""
        if points.d == 0 or len(points) == 0:
            return 0.0, 0.0, True
        if self._in_place(points):
            low, high = self._extremes(points, (2,), "ends")
            if math.isfinite(low) and math.isfinite(high):
                return float(low), float(high), True
        found = self.workers.each(lambda part: _finite_ends(points.block(*part)), points.chunks(self.share))
        return min(low for low, _, _ in found), max(high for _, high, _ in found), all(finite for *_, finite in found)

    def likes_columns(self, points: Points) -> bool:
        """Tell whether `column_ends` takes no longer than `ends`."""
        return self._in_place(points) and points.d >= _COLUMNS

    def column_ends(self, points: Points) -> tuple[Tensor, Tensor]:
        """Return each coordinate's least and greatest value (d,) float64; all values are finite."""
        if self._in_place(points):
            low, high = self._extremes(points, (2, points.d), "column_ends").astype(np.float64)
            return torch.from_numpy(low), torch.from_numpy(high)
        chunks, count = list(points.chunks(self.share)), self.workers.count
        found = self.workers.each(lambda some: _column_ends(points, some), [chunks[at::count] for at in range(count)])
        low, high = zip(*(ends for ends in found if ends is not None), strict=True)
        return torch.stack(low).amin(0), torch.stack(high).amax(0)

    def all_multiples(self, points: Points, step: float) -> bool:
        """Tell whether all finite values, of a floating type, are multiples of a power of two."""
        rows = max(1, _FIRST_LOOK // max(1, points.d))
        if points.device.type != "cpu":
            return self.workers.once(lambda: there.all_multiples(points, step, rows))
        few = as_float64(points.block(0, max(1, rows // _FIRST_OF_ALL))).numpy()  # seen sooner than a worker wakes
        with np.errstate(all="ignore"):
            few = few / step
        if bool(((np.rint(few) != few) & (few == few)).any()):
            return False
        if not self.workers.once(lambda: are_multiples(as_float64(points.block(0, rows)), step)):
            return False
        if not self._in_place(points):
            return all(
                self.workers.each(
                    lambda part: are_multiples(as_float64(points.block(*part)), step), points.chunks(self.share)
                )
            )
        from janelia_core.ml._knn.data import value_kernels

        flat, test = points.values.numpy().reshape(-1), value_kernels.multiples
        return all(self._pieces(points, lambda start, stop: test(flat, start, stop, step), flat=True))

    def _in_place(self, points: Points) -> bool:
        values = points.values
        readable = values.dtype in _BITS and values.is_contiguous() and values.device.type == "cpu"
        return self.kernels and readable and points.subset is None and values.numel() > 0

    def _extremes(self, points: Points, shape: tuple[int, ...], kernel: str) -> np.ndarray[Any, Any]:
        """Return the least and greatest values that a kernel finds, over all pieces; NaN if any is found."""
        from janelia_core.ml._knn.data import value_kernels

        values, find = points.values.numpy(), getattr(value_kernels, kernel)
        bits = values.view(_BITS[points.values.dtype])
        bits = bits.reshape(-1) if len(shape) == 1 else bits

        def look(start: int, stop: int) -> np.ndarray[Any, Any]:
            found = np.empty(shape, bits.dtype)
            find(bits, start, stop, found)
            return found.view(values.dtype)

        found = np.stack(self._pieces(points, look, flat=len(shape) == 1))
        return np.stack([found[:, 0].min(0), found[:, 1].max(0)])

    def _pieces(self, points: Points, look: Callable[[int, int], R], flat: bool) -> list[R]:
        """Return what each piece of the values tells, cut by row or, flat, anywhere."""
        n, unit = (len(points) * points.d, 1) if flat else (len(points), points.d)
        step = max(-(-n // (_PIECES * self.workers.count)), -(-_SMALLEST_PIECE // unit))
        if n <= step:
            return [look(0, n)]
        return self.workers.each(lambda start: look(start, min(start + step, n)), range(0, n, step))


def _column_ends(points: Points, chunks: list[tuple[int, int]]) -> tuple[Tensor, Tensor] | None:
    """Return the ends of each coordinate over some chunks, None where there are none.

    Those of one chunk at a time: of wide rows a chunk is a row, and its ends take sixteen times the room of int8.
    """
    found: tuple[Tensor, Tensor] | None = None
    for part in chunks:
        low, high = as_float64(points.block(*part)).aminmax(dim=0)
        found = (low, high) if found is None else (torch.minimum(low, found[0]), torch.maximum(high, found[1]))
    return found


def _finite_ends(block: Tensor) -> tuple[float, float, bool]:
    low, high = _ends(block)
    if math.isfinite(low) and math.isfinite(high):
        return low, high, True
    wide = as_float64(block)
    return *_ends(torch.where(torch.isfinite(wide), wide, 0.0)), False


def _ends(block: Tensor) -> tuple[float, float]:
    """Return the least and the greatest value; NaN if any value is."""
    # Narrow floats and unsigned integers: aminmax does not know them on every device.
    low, high = torch.aminmax(block if block.dtype in _WITH_AMINMAX else as_float64(block))
    return float(low), float(high)
