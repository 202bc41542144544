"""Tensors written as `torch.save` does, but block by block: it wants them whole, and mapped pages count as memory.

Source: https://docs.pytorch.org/docs/stable/notes/serialization.html, "Serialized file format for torch.save".
"""

from __future__ import annotations

import io
import pickle
import sys
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any, NamedTuple

import torch

from janelia_core.files.formats.contract import Arrays, Rows, stored_blocks

_STORAGES: dict[torch.dtype, Any] = {
    torch.float16: torch.HalfStorage,
    torch.bfloat16: torch.BFloat16Storage,
    torch.float32: torch.FloatStorage,
    torch.float64: torch.DoubleStorage,
    torch.int8: torch.CharStorage,
    torch.int16: torch.ShortStorage,
    torch.int32: torch.IntStorage,
    torch.int64: torch.LongStorage,
    torch.uint8: torch.ByteStorage,
}
"""Classes that stand for a dtype; dtypes that came later have none, and are said by themselves."""
_ALIGNED = 64  # bytes, so that a mapped file's numbers can be used where they are
_HEADER = 30 + 20  # bytes of a member's header apart from its name, with its size beyond 4 GiB


class _Storage(NamedTuple):
    """What stands in the pickle for the numbers of an array, which are a member of the archive."""

    key: str
    rows: Rows


class _Tensor:
    """Is pickled as a tensor is."""

    def __init__(self, storage: _Storage) -> None:
        self._storage = storage

    def __reduce__(self) -> tuple[Any, ...]:
        rows = self._storage.rows
        told: tuple[Any, ...] = (self._storage, 0, (rows.n, rows.d), (rows.d, 1), False, OrderedDict())
        if rows.dtype in _STORAGES:
            return torch._utils._rebuild_tensor_v2, told
        return torch._utils._rebuild_tensor_v3, (*told, rows.dtype)


class _Pickler(pickle.Pickler):
    def persistent_id(self, thing: Any) -> Any:
        if not isinstance(thing, _Storage):
            return None
        rows, key = thing.rows, thing.key
        if rows.dtype in _STORAGES:
            return "storage", _STORAGES[rows.dtype], key, "cpu", rows.n * rows.d
        return "storage", torch.UntypedStorage, key, "cpu", rows.n * rows.d * rows.dtype.itemsize


def write_torch(path: Path, arrays: Arrays) -> None:
    """Write a dict of tensors; the file is the same byte for byte whenever it is written."""
    storages = [_Storage(str(key), rows) for key, rows in enumerate(arrays.values())]
    told = io.BytesIO()
    _Pickler(told, protocol=2).dump(dict(zip(arrays, map(_Tensor, storages), strict=True)))
    with path.open("wb") as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(zipfile.ZipInfo("archive/data.pkl"), told.getvalue())
        archive.writestr(zipfile.ZipInfo("archive/byteorder"), sys.byteorder)
        for storage in storages:
            info = zipfile.ZipInfo(f"archive/data/{storage.key}")
            before = file.tell() + _HEADER + len(info.filename)
            padding = -(before + 4) % _ALIGNED
            info.extra = b"FB" + padding.to_bytes(2, "little") + b"Z" * padding
            with archive.open(info, "w", force_zip64=True) as member:
                for block in stored_blocks(storage.rows):
                    member.write(block.detach().contiguous().view(torch.uint8).numpy().data)
        archive.writestr(zipfile.ZipInfo("archive/version"), "3\n")
