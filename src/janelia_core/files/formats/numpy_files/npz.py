"""`.npz`: a zip of `.npy` arrays. Stored ones are read in place, compressed ones are decoded once to disk."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
import numpy.typing as npt

from janelia_core.files.errors import VectorFileError
from janelia_core.files.formats.contract import OPENING, Arrays, Format, VectorFile
from janelia_core.files.formats.named import choose
from janelia_core.files.formats.numpy_files.npy import Header, read_header, write_array
from janelia_core.files.formats.raw import RawVectors
from janelia_core.files.formats.spool import spooled
from janelia_core.files.formats.tiles import in_rows
from janelia_core.files.formats.zip_members import member_start, zip_members


def open_npz(path: Path, name: str | None, preferred: tuple[str, ...], opening: int = OPENING) -> VectorFile:
    """Open one array of shape (n, d)."""
    try:
        with zip_members(path, opening) as archive:
            members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            info = members[choose(path, list(members), name, preferred)]
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):  # others decode without bounds
                raise VectorFileError(
                    path, f"{info.filename} is packed by method {info.compress_type}; numpy.savez_compressed writes 8"
                )
            with archive.open(info) as file:
                header = read_header(cast(BinaryIO, file), path)
                rows = _opened(path, info, header, cast(BinaryIO, file), opening)
        return in_rows(rows, opening) if header.by_columns else rows
    except VectorFileError:
        raise
    # Also what zlib, encrypted members and offsets beyond the file raise: there is no common class.
    except Exception as error:
        raise VectorFileError(path, f"is no sound .npz: {error}") from error


def _opened(path: Path, info: zipfile.ZipInfo, header: Header, file: BinaryIO, memory: int) -> RawVectors:
    """Open an array as it is stored: its columns as rows where they are."""
    n, d = header.shape[::-1] if header.by_columns else header.shape
    size = n * d * header.dtype.itemsize
    if header.offset + size != info.file_size:
        raise VectorFileError(
            path, f"{info.filename} should have {header.offset + size} bytes by its header, but has {info.file_size}"
        )
    if info.compress_type == zipfile.ZIP_STORED and not info.flag_bits & 1:
        start = member_start(path, info) + header.offset
        return RawVectors(path, start, n, d, header.dtype)
    return spooled(path, d, header.dtype.newbyteorder("="), _decoded(path, header, file, memory // 4), size)


def _decoded(path: Path, header: Header, file: BinaryIO, most: int) -> Iterator[npt.NDArray[np.generic]]:
    """Yield the numbers, in pieces that may end within a row: rows and columns can be longer than the memory."""
    size = header.dtype.itemsize
    count, step = header.shape[0] * header.shape[1], max(1, most // size)
    for start in range(0, count, step):
        wanted = min(step, count - start) * size
        data = file.read(wanted)
        if len(data) != wanted:
            raise VectorFileError(path, f"ends before its number {start + len(data) // size}")
        yield np.frombuffer(data, dtype=header.dtype)


def write_npz(path: Path, arrays: Arrays) -> None:
    """Write every array, uncompressed; the file is the same byte for byte whenever it is written."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, rows in arrays.items():
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as file:
                write_array(cast(BinaryIO, file), rows)


NPZ = Format(open_npz, write_npz, several=True, options=("opening",))
