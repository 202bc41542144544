"""Rows of files that store them in another order, put in order on disk tile by tile, in bounded memory.

A tile is what the file gives in few long reads: some rows, of some columns. Rows of a band, as many as are in memory
whole, have their place in the new file from the start; the parts that the tiles give of them are written there one
after the other, long ones again, and put in order once the last tile of these rows has come::

        columns            new file, two tiles of two rows
        0 1 | 2 3          a0 a1 b0 b1 | a2 a3 b2 b3   ->   a0 a1 a2 a3 | b0 b1 b2 b3
      a . . | . .
      b . . | . .

So nothing is written or read number by number, and the disk holds the rows once.

An array stored column by column is read in tiles as high as reads and writes are equally long: of C numbers in memory,
C / sqrt(d) rows of sqrt(d) columns.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from janelia_core.files.formats.raw import RawVectors
from janelia_core.files.formats.spool import nameless, put
from janelia_core.positioned import read_at

_MOST = 1 << 25  # bytes: more make reads longer that are long enough, and tiles too large for the cache
_LONG = 1 << 15  # bytes: reads of so many are long enough, and whole rows are written at once

Numbers = npt.NDArray[np.generic]


def in_rows(columns: RawVectors, memory: int) -> RawVectors:
    """Return the columns (d, n) of an open file as rows (n, d), and close it.

    Args:
        columns: An array that is stored column by column.
        memory: Bytes that may be taken.

    Disk: n * d numbers, in TMPDIR.
    """
    d, n = columns.shape
    size = columns.numpy_dtype.itemsize
    memory = min(memory, _MOST)
    held = max(1, memory // (2 * size))  # numbers of a tile, which is there twice: as read, as transposed
    rows = min(n, max(1, held // d))
    if rows < n and rows * size < _LONG:
        high = min(n, max(rows, int(held / math.sqrt(d))))
        rows = high if high == n else high // rows * rows
    tile = rows, min(d, max(1, held // max(1, rows)))

    def read(start: int, stop: int, first: int, last: int) -> Numbers:
        return _transposed(columns.part(first, last, start, stop))

    with columns:
        stands_for = columns.dtype == torch.bfloat16
        return by_tiles(columns.path, (n, d), columns.numpy_dtype, tile, read, memory, bfloat16=stands_for)


def by_tiles(
    path: Path,
    shape: tuple[int, int],
    dtype: np.dtype[np.generic],
    tile: tuple[int, int],
    read: Callable[[int, int, int, int], Numbers],
    memory: int,
    *,
    bfloat16: bool = False,
) -> RawVectors:
    """Return rows (n, d) that are read tile by tile as an open file that vanishes with the process.

    Args:
        path: Whose rows they are, for messages.
        shape: (n, d).
        dtype: Of the numbers.
        tile: Rows and columns of a tile.
        read: (start, stop, first, last) -> rows start .. stop - 1 of columns first .. last - 1, contiguous.
        memory: Bytes that may be taken, beside what `read` takes.
        bfloat16: The numbers are int16 that stand for bfloat16.

    Disk: n * d numbers, in TMPDIR.
    """
    n, d = shape
    row = d * dtype.itemsize
    band = max(1, memory // (2 * row))  # rows that are in memory twice while they are put in order
    with nameless(path, n * row) as file:
        for top in range(0, n, tile[0]):
            bottom = min(top + tile[0], n)
            bands = [(start, min(start + band, bottom)) for start in range(top, bottom, band)]
            for first in range(0, d, tile[1]):
                _put_tile(path, file, read(top, bottom, first, min(first + tile[1], d)), bands, row, first)
            for start, stop in bands if tile[1] < d else []:
                _put_in_order(path, file, dtype, (start, stop), d, tile[1])
        return RawVectors(path, 0, n, d, dtype, fd=os.dup(file), bfloat16=bfloat16)


def _put_tile(path: Path, file: int, values: Numbers, bands: list[tuple[int, int]], row: int, first: int) -> None:
    """Write a tile's part of each band behind the parts that are there, of `first` columns."""
    top = bands[0][0]
    for start, stop in bands:
        at = start * row + (stop - start) * first * values.itemsize
        put(path, file, values[start - top : stop - top], at)


def _put_in_order(
    path: Path, file: int, dtype: np.dtype[np.generic], rows: tuple[int, int], d: int, width: int
) -> None:
    """Make rows of a band that is there as parts of `width` columns, one part after the other."""
    count, at = rows[1] - rows[0], rows[0] * d * dtype.itemsize
    if count == 1:
        return  # its parts are in order
    parts = np.empty(count * d, dtype)
    read_at(file, parts.view(np.uint8).data, at)
    ordered = np.empty((count, d), dtype)
    whole = d // width * width
    ordered[:, :whole].reshape(count, -1, width)[:] = parts[: count * whole].reshape(-1, count, width).swapaxes(0, 1)
    ordered[:, whole:] = parts[count * whole :].reshape(count, d - whole)
    put(path, file, ordered, at)


def _transposed(values: Numbers) -> Numbers:
    """Return the transpose, contiguous: by torch, which goes by blocks that fit the cache, as NumPy does not."""
    alike = torch.from_numpy(values.view(f"i{values.dtype.itemsize}"))
    transposed: Numbers = alike.t().contiguous().numpy().view(values.dtype)
    return transposed
