"""`.pt`: a tensor, or a dict of tensors, as `torch.save` writes them. Loaded with weights_only, so nothing runs.

torch.load tells what is in the file; it maps the file, whose pages would count as resident memory once they are
looked at. Rows are read where they stand instead: a storage is a member of the archive that is stored as it is.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, UntypedStorage

from janelia_core.files.errors import VectorFileError
from janelia_core.files.formats.contract import OPENING, Format, VectorFile
from janelia_core.files.formats.named import choose, refuse_name
from janelia_core.files.formats.raw import TORCH_DTYPES, RawVectors
from janelia_core.files.formats.spool import spooled
from janelia_core.files.formats.tiles import Numbers, in_rows
from janelia_core.files.formats.torch_files.pickle import check_archive
from janelia_core.files.formats.torch_files.writer import write_torch
from janelia_core.files.formats.zip_members import member_start, zip_members

_NUMBERS = {dtype: f"<{number}" for number, dtype in TORCH_DTYPES.items()} | {torch.bfloat16: "<i2"}
_CHUNK = 1 << 20  # bytes


class _Place(NamedTuple):
    """Where numbers are: the byte of the first, shape and strides of the array, their dtype as stored."""

    at: int
    shape: tuple[int, int]
    strides: tuple[int, int]
    dtype: np.dtype[np.generic]
    bfloat16: bool


def open_torch(path: Path, name: str | None, preferred: tuple[str, ...], opening: int = OPENING) -> VectorFile:
    """Open one tensor of shape (n, d)."""
    check_archive(path, opening)
    values, storages = _load(path, opening)
    if isinstance(values, dict):
        names = [key for key, value in values.items() if isinstance(key, str) and isinstance(value, Tensor)]
        values = values[choose(path, names, name, preferred)]
    else:
        refuse_name(path, name, "tensor")
    if not isinstance(values, Tensor):
        raise VectorFileError(path, f"holds a {type(values).__name__}, not a tensor or a dict of tensors")
    if values.ndim != 2 or values.shape[1] < 1 or values.layout != torch.strided:
        raise VectorFileError(path, f"holds a {values.layout} {values.dtype} tensor {tuple(values.shape)}, not (n, d)")
    if values.dtype not in _NUMBERS or values.device.type != "cpu" or values.is_neg():
        raise VectorFileError(path, f"holds {values.dtype} on {values.device}, not stored real numbers")
    (n, d), (apart, beside) = map(int, values.shape), values.stride()
    room = values.untyped_storage().nbytes() // values.dtype.itemsize
    extent = (n - 1) * apart + (d - 1) * beside + 1 if n else 0
    if max(extent + values.storage_offset(), n * d) > room:
        reason = f"says that its tensor has shape {n, d}, but it stores {room} numbers for it; save .contiguous() ones"
        raise VectorFileError(path, reason)
    dtype = np.dtype(_NUMBERS[values.dtype])
    at = _begin(path, values.untyped_storage(), storages, opening) if n else 0
    at += int(values.storage_offset()) * dtype.itemsize if n else 0
    # Strides that no step is taken by say nothing.
    strides = (apart if n > 1 else d * beside, beside if d > 1 else 1)
    return _opened(path, _Place(at, (n, d), strides if n else (d, 1), dtype, values.dtype == torch.bfloat16), opening)


def _load(path: Path, opening: int) -> tuple[Any, list[UntypedStorage]]:
    """Return what was saved, in mapped memory, and all storages that it has."""
    storages: list[UntypedStorage] = []

    def kept(storage: Any, location: str) -> Any:  # untyped storages, which torch's own annotations call otherwise
        storages.append(storage)
        return storage

    try:
        with zip_members(path, opening) as archive:
            orders = [name for name in archive.namelist() if name.endswith("/byteorder")]
            if any(archive.open(name).read(8) != b"little" for name in orders):
                raise VectorFileError(path, "was saved by a big-endian machine; load it, and save it on this one")
        return torch.load(path, map_location=kept, weights_only=True, mmap=True), storages
    except (VectorFileError, FileNotFoundError):
        raise
    # Whatever an untrusted pickle makes the restricted unpickler raise: there is no common class.
    except Exception as error:
        text = str(error).strip() or type(error).__name__
        raise VectorFileError(path, f"cannot be loaded with weights_only and mmap: {text.splitlines()[0]}") from error


def _begin(path: Path, storage: UntypedStorage, storages: list[UntypedStorage], opening: int) -> int:
    """Return at which byte of the file a storage begins.

    The file is mapped as a whole, and its storages are the members data/0, data/1, ..: the first in memory is the
    first in the file, and distances are the same.
    """
    with zip_members(path, opening) as archive:
        members = [info for info in archive.infolist() if info.filename.partition("/")[2].startswith("data/")]
    members = sorted((info for info in members if info.file_size), key=lambda info: info.header_offset)
    pointers = {each.data_ptr() for each in storages if each.nbytes()}
    if len(pointers) == len(members):
        at = member_start(path, members[0]) + storage.data_ptr() - min(pointers)
        info = members[bisect.bisect_left(members, at, key=lambda info: info.header_offset) - 1]
        if member_start(path, info) == at and storage.nbytes() <= info.file_size == info.compress_size:
            return at
    raise VectorFileError(path, "holds other data than its tensors have; load it, and save it with torch.save")


def _opened(path: Path, place: _Place, opening: int) -> RawVectors:
    """Open an array of any strides as rows."""
    at, shape, strides, dtype, bfloat16 = place
    n, d = shape
    if strides == (d, 1):
        return RawVectors(path, at, n, d, dtype, bfloat16=bfloat16)
    if strides[0] < strides[1]:
        turned = place._replace(shape=(d, n), strides=strides[::-1])
        return in_rows(_opened(path, turned, opening), opening)
    native = dtype.newbyteorder("=")
    return spooled(path, d, native, _apart(path, place), n * d * dtype.itemsize, bfloat16=bfloat16)


def _apart(path: Path, place: _Place) -> Iterator[Numbers]:
    """Yield rows that have gaps between them, or between their numbers."""
    (n, d), (apart, beside), size = place.shape, place.strides, place.dtype.itemsize
    extent = (n - 1) * apart + (d - 1) * beside + 1
    step = max(1, _CHUNK // max(1, apart * size))
    whole = RawVectors(path, place.at, 1, extent, place.dtype)
    with whole:
        for start in range(0, n, step):
            rows = min(step, n - start)
            first = start * apart
            read = whole.part(0, 1, first, first + (rows - 1) * apart + (d - 1) * beside + 1)
            yield np.lib.stride_tricks.as_strided(read, (rows, d), (apart * size, beside * size), writeable=False)


PT = Format(open_torch, write_torch, several=True, options=("opening",))
