"""`.npy`: one array in NumPy's own format, without pickles.

Source: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt

from janelia_core.files.errors import VectorFileError
from janelia_core.files.formats.contract import Arrays, Format, Rows, VectorFile, blocks, first, numpy_dtype
from janelia_core.files.formats.named import refuse_name
from janelia_core.files.formats.raw import RawVectors, torch_dtype
from janelia_core.files.formats.spool import spooled

_CHUNK = 1 << 20
_MOST_HEADER = 1 << 16


class Header(NamedTuple):
    """What stands before the numbers: shape, order, dtype, and at which byte the numbers begin."""

    shape: tuple[int, ...]
    fortran_order: bool
    dtype: np.dtype[np.generic]
    offset: int


def read_header(file: BinaryIO, path: Path) -> Header:
    """Read and check a header; numpy parses it as a literal, never as code. The file then stands at the numbers."""
    # numpy reads a header of version 2 before it compares its length, up to 4 GiB, with what it accepts.
    start = io.BytesIO(file.read(_MOST_HEADER))
    try:
        version = np.lib.format.read_magic(start)
        read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}[version]
        shape, fortran_order, dtype = read(start)
    except KeyError:
        raise VectorFileError(path, f"has version {version} of the .npy format, for field names only", 6) from None
    except Exception as error:  # the parser of literals raises a dozen kinds
        raise VectorFileError(path, f"has no .npy header: {error}", 0) from error
    if len(shape) != 2 or min(shape) < 0:
        raise VectorFileError(path, f"holds an array of shape {shape}, not (n, d)", 0)
    torch_dtype(path, dtype)
    file.seek(start.tell())
    return Header(shape, fortran_order, dtype, start.tell())


def open_npy(path: Path, name: str | None, preferred: tuple[str, ...]) -> VectorFile:
    """Open an array of shape (n, d)."""
    refuse_name(path, name)
    with path.open("rb") as file:
        header = read_header(file, path)
    n, d = header.shape
    size = path.stat().st_size
    expected = header.offset + n * d * header.dtype.itemsize
    if expected != size:
        raise VectorFileError(path, f"should have {expected} bytes by its header, but has {size}", min(expected, size))
    if header.fortran_order and n > 1 and d > 1:
        columns = RawVectors(path, header.offset, d, n, header.dtype)
        with columns:
            return spooled(path, d, columns.numpy_dtype, _transposed(columns), n * d * header.dtype.itemsize)
    return RawVectors(path, header.offset, n, d, header.dtype)


def _transposed(columns: RawVectors) -> Iterator[npt.NDArray[np.generic]]:
    """Yield the rows of an array stored column by column."""
    d, n = columns.shape
    step = max(1, _CHUNK // (d * columns.dtype.itemsize))
    for start in range(0, n, step):
        stop = min(start + step, n)
        yield np.stack([columns.part(q, start, stop) for q in range(d)], axis=1)


def write_array(file: BinaryIO, rows: Rows) -> None:
    """Write rows as one .npy array, block by block."""
    header = {
        "descr": np.lib.format.dtype_to_descr(numpy_dtype(rows)),
        "fortran_order": False,
        "shape": (rows.n, rows.d),
    }
    np.lib.format.write_array_header_1_0(file, header)
    for block in blocks(rows):
        file.write(block.view(np.uint8).data)


def write_npy(path: Path, arrays: Arrays) -> None:
    """Write the first array; the format holds no more."""
    with path.open("wb") as file:
        write_array(file, first(arrays))


NPY = Format(open_npy, write_npy)
