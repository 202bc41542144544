"""`.npy`: one array in NumPy's own format, without pickles.

Source: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
"""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from janelia_core.files.errors import VectorFileError
from janelia_core.files.formats.contract import OPENING, Arrays, Format, Rows, VectorFile, blocks, first, numpy_dtype
from janelia_core.files.formats.named import refuse_name
from janelia_core.files.formats.numpy_files.header import KINDS, header_fields, shape_of
from janelia_core.files.formats.raw import TORCH_DTYPES, RawVectors
from janelia_core.files.formats.tiles import in_rows


class Header(NamedTuple):
    """What stands before the numbers: shape, order, dtype, and at which byte the numbers begin."""

    shape: tuple[int, ...]
    fortran_order: bool
    dtype: np.dtype[np.generic]
    offset: int

    @property
    def by_columns(self) -> bool:
        """Whether the order matters, and is that of columns."""
        return self.fortran_order and min(self.shape) > 1


def read_header(file: BinaryIO, path: Path) -> Header:
    """Read and check a header, which is never taken as code. The file then stands at the numbers."""
    start = file.tell()
    try:
        fields, offset = header_fields(file)
        shape = shape_of(fields["shape"])
    except ValueError as error:
        raise VectorFileError(path, f"has no .npy header: {error}", 0) from error
    descr = fields["descr"].strip("'\"")
    if len(shape) != 2:
        raise VectorFileError(path, f"holds an array of shape {fields['shape']}, not (n, d)", 0)
    if descr.lstrip("<>|=") not in TORCH_DTYPES or len(descr) > 3:
        kind = KINDS.get(descr.lstrip("<>|=")[:1], "records")
        raise VectorFileError(path, f"holds {kind} ({descr}), not real numbers of at most 64 bits", 0)
    file.seek(start + offset)
    return Header(shape, fields["fortran_order"] == "True", np.dtype(descr), offset)


def open_npy(path: Path, name: str | None, preferred: tuple[str, ...], opening: int = OPENING) -> VectorFile:
    """Open an array of shape (n, d)."""
    refuse_name(path, name)
    with path.open("rb") as file:
        header = read_header(file, path)
    n, d = header.shape
    size = path.stat().st_size
    expected = header.offset + n * d * header.dtype.itemsize
    if expected != size:
        raise VectorFileError(path, f"should have {expected} bytes by its header, but has {size}", min(expected, size))
    if header.by_columns:
        return in_rows(RawVectors(path, header.offset, d, n, header.dtype), opening)
    return RawVectors(path, header.offset, n, d, header.dtype)


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


NPY = Format(open_npy, write_npy, options=("opening",))
