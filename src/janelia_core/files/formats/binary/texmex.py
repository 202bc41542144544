"""`.fvecs`, `.bvecs`, `.ivecs`: each row is its number of columns (int32), then its numbers, little-endian.

Source: http://corpus-texmex.irisa.fr (float32, uint8 and int32 numbers).
"""

from __future__ import annotations

import functools
import struct
from pathlib import Path

import numpy as np

from janelia_core.files.errors import VectorFileError
from janelia_core.files.formats.contract import Arrays, Format, VectorFile, blocks, first
from janelia_core.files.formats.named import refuse_name
from janelia_core.files.formats.raw import RawVectors


def open_texmex(path: Path, name: str | None, preferred: tuple[str, ...], *, number: str) -> VectorFile:
    """Open a file of rows of equal length, whose numbers are as `number` tells."""
    refuse_name(path, name)
    dtype = np.dtype(number)
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(4)
    if len(head) < 4:
        raise VectorFileError(path, "is empty" if size == 0 else "ends within its first number", 0)
    (d,) = struct.unpack("<i", head)
    row = 4 + d * dtype.itemsize
    if d < 1 or row > size:
        raise VectorFileError(path, f"row 0 says that it has {d} columns; the file has {size} bytes", 0)
    if size % row:
        whole = size - size % row
        raise VectorFileError(path, f"ends within a row: {size} bytes are no whole number of rows of {row}", whole)
    return RawVectors(path, 0, size // row, d, dtype, prefix=4)


def write_texmex(path: Path, arrays: Arrays, *, number: str) -> None:
    """Write the first array; numbers that the format cannot hold are refused (integers) or rounded (floats)."""
    rows, dtype = first(arrays), np.dtype(number)
    with path.open("wb") as file:
        for block in blocks(rows):
            framed = np.empty((len(block), 4 + rows.d * dtype.itemsize), dtype=np.uint8)
            framed[:, :4] = np.frombuffer(struct.pack("<i", rows.d), dtype=np.uint8)
            framed[:, 4:] = narrowed(path, block, dtype).view(np.uint8)
            file.write(framed.data)


def narrowed(path: Path, block: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Return a block in the dtype of a format: floats rounded, integers only where they fit."""
    if dtype.kind == "f":
        return np.ascontiguousarray(block, dtype=dtype)
    bounds = np.iinfo(dtype)
    if block.dtype.kind == "f" or (block.size and not (bounds.min <= block.min() and block.max() <= bounds.max)):
        raise VectorFileError(path, f"the format holds integers {bounds.min} to {bounds.max}, not these {block.dtype}")
    return np.ascontiguousarray(block, dtype=dtype)


def _format(number: str, index_bits: int) -> Format:
    return Format(
        functools.partial(open_texmex, number=number),
        functools.partial(write_texmex, number=number),
        index_bits=index_bits,
        distances=number == "<f4",
    )


FVECS, BVECS, IVECS = _format("<f4", 0), _format("u1", 0), _format("<i4", 32)
