"""`.pt`: a tensor, or a dict of tensors, as `torch.save` writes them. Loaded with weights_only, so nothing runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from janelia_core.files.errors import VectorFileError
from janelia_core.files.formats.contract import OPENING, Arrays, Format, Rows, VectorFile
from janelia_core.files.formats.named import choose, refuse_name
from janelia_core.files.formats.raw import TORCH_DTYPES, RawVectors
from janelia_core.files.formats.torch_pickle import check_archive

_REAL = (*TORCH_DTYPES.values(), torch.bfloat16)


class TorchVectors(VectorFile):
    """A tensor in a file, mapped anew for every block, so that pages do not stay resident."""

    def __init__(self, path: Path, name: str | None, values: Tensor) -> None:
        super().__init__(path, values.shape[0], values.shape[1], values.dtype)
        self._name = name

    def _fill(self, start: int, out: Tensor) -> None:
        values = _load(self.path)
        stored = values if self._name is None else values[self._name]
        out.copy_(stored.detach()[start : start + len(out)])  # a parameter was saved as one that requires grad

    def close(self) -> None:
        """Nothing is kept open between blocks."""


def open_torch(path: Path, name: str | None, preferred: tuple[str, ...], memory: int = OPENING) -> VectorFile:
    """Open one tensor of shape (n, d)."""
    check_archive(path, memory)
    values = _load(path)
    chosen = None
    if isinstance(values, dict):
        names = [key for key, value in values.items() if isinstance(key, str) and isinstance(value, Tensor)]
        chosen = choose(path, names, name, preferred)
        values = values[chosen]
    else:
        refuse_name(path, name, "tensor")
    if not isinstance(values, Tensor):
        raise VectorFileError(path, f"holds a {type(values).__name__}, not a tensor or a dict of tensors")
    if values.ndim != 2 or values.shape[1] < 1 or values.layout != torch.strided:
        raise VectorFileError(path, f"holds a {values.layout} {values.dtype} tensor {tuple(values.shape)}, not (n, d)")
    if values.dtype not in _REAL or values.device.type != "cpu":
        raise VectorFileError(path, f"holds {values.dtype} on {values.device}, not stored real numbers")
    extent = sum((size - 1) * stride for size, stride in zip(values.shape, values.stride(), strict=True)) + 1
    if len(values) and extent + values.storage_offset() > values.untyped_storage().nbytes() // values.dtype.itemsize:
        raise VectorFileError(path, f"says that its tensor has shape {tuple(values.shape)}, which it has no room for")
    return TorchVectors(path, chosen, values)


def _load(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except FileNotFoundError:
        raise
    # Whatever an untrusted pickle makes the restricted unpickler raise: there is no common class.
    except Exception as error:
        text = str(error).strip() or type(error).__name__
        raise VectorFileError(path, f"cannot be loaded with weights_only and mmap: {text.splitlines()[0]}") from error


def write_torch(path: Path, arrays: Arrays) -> None:
    """Write a dict of tensors; those of a file are mapped, so that none is held in memory."""
    torch.save({name: _whole(rows) for name, rows in arrays.items()}, path)


def _whole(rows: Rows) -> Tensor:
    return rows.mapped() if isinstance(rows, RawVectors) else rows.read(0, rows.n).clone()


PT = Format(open_torch, write_torch, several=True, options=("memory",))
