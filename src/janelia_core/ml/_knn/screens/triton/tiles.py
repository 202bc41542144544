"""Which tile of rows and centres a program multiplies, by the width of a point and the chip; measured on an H100.

| columns | chip | rows x centres | warps, stages | of a bare product's rate (H100) |
|---|---|---|---|---|
| 16 to 64 | sm_90 | 128 x 128, two programs a processor | 4, 3 | 560 - 600 TFLOP/s |
| 128 | sm_90 | 256 x 128 | 8, 3 | 670 - 710 |
| more | sm_90 | 128 x 256, 64 columns at a time | 8, 4 | 660 - 770 |

On other chips tiles are what their shared memory holds; they were compiled for them (tests), and not timed.
"""

from __future__ import annotations

from typing import NamedTuple

from janelia_core.ml._runtime.gpu import Gpu

WIDEST = 4096
"""Columns up to which sums of products prove anything worth while (`bounds.gamma16`)."""
_HELD = 128  # columns up to which a row's coordinates stay where they are
_STEP = 64
_FEW = 64  # rows


class Tile(NamedTuple):
    """A tile of products.

    Attributes:
        width: Columns of a packed point.
        columns: Columns multiplied at a time.
        rows: Rows of a tile.
        ctrs: Centres of a tile, in 8 groups.
        warps: Of 32 threads.
        stages: Tiles under way at a time.
        together: Programs that fit a processor.
    """

    width: int
    columns: int
    rows: int
    ctrs: int
    warps: int
    stages: int
    together: int = 1


def packed_width(d: int) -> int:
    """Return the columns of a packed point: a power of two up to 128, then whole steps."""
    if d <= _HELD:
        return max(16, 1 << (d - 1).bit_length())
    return -(-d // _STEP) * _STEP


def tile_for(d: int, n_smps: int, gpu: Gpu, masked: bool = False) -> Tile:
    """Return the tile for points of d coordinates; few rows take a lower one, of the same centres.

    Beside a tile of products lies that of a mask, in shared memory and registers: there is room for less.
    """
    tile = _tile(packed_width(d), gpu.chip)
    if masked:
        tile = tile._replace(ctrs=min(tile.ctrs, 128), stages=2)
    return tile if n_smps > _FEW else tile._replace(rows=_FEW, warps=4, stages=min(3, tile.stages), together=1)


def _tile(width: int, chip: int) -> Tile:
    held, columns = width <= _HELD, min(width, _STEP) if width > _HELD else width
    if chip in (86, 89) or chip >= 120:  # 99 KiB of shared memory
        return Tile(width, columns, 128, 64 if width == _HELD else 128, 8, 2)
    if chip < 90:
        return Tile(width, columns, 128, 128, 8, 3)
    if held and width <= _STEP:
        return Tile(width, columns, 128, 128, 4, 3, 2)
    return Tile(width, columns, 256, 128, 8, 3) if held else Tile(width, columns, 128, 256, 8, 4)
