"""Rows at fixed places of a file, read by explicit calls: a mapped file's pages would count as resident memory."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from janelia_core.files.errors import VectorFileError
from janelia_core.files.formats.contract import VectorFile
from janelia_core.positioned import read_at

_CHUNK = 1 << 20  # bytes converted at a time

TORCH_DTYPES: dict[str, torch.dtype] = {
    "f2": torch.float16,
    "f4": torch.float32,
    "f8": torch.float64,
    "i1": torch.int8,
    "i2": torch.int16,
    "i4": torch.int32,
    "i8": torch.int64,
    "u1": torch.uint8,
    "u2": torch.uint16,
    "u4": torch.uint32,
    "u8": torch.uint64,
}


def torch_dtype(path: Path, dtype: np.dtype[np.generic]) -> torch.dtype:
    """Return the dtype of tensors for an array's dtype, or say that it holds no real numbers."""
    found = TORCH_DTYPES.get(f"{dtype.kind}{dtype.itemsize}")
    if found is None:
        raise VectorFileError(path, f"holds {dtype}, not real numbers of at most 64 bits")
    return found


class RawVectors(VectorFile):
    """Rows of one binary file, each `d` numbers, after `prefix` bytes of its own that hold d where there are any.

    Args:
        path: The file.
        offset: Where row 0 begins.
        n: Number of rows.
        d: Number of columns.
        dtype: Of the numbers as stored, with their byte order; bfloat16 is stored as int16.
        prefix: 4 where each row begins with d as a little-endian int32 (TEXMEX), else 0.
        bfloat16: The int16 are bfloat16.
        fd: An open file to read instead of path, which was decoded to it; it is closed with this one.
    """

    def __init__(
        self,
        path: Path,
        offset: int,
        n: int,
        d: int,
        dtype: npt.DTypeLike,
        *,
        prefix: int = 0,
        bfloat16: bool = False,
        fd: int | None = None,
    ) -> None:
        self._stored = np.dtype(dtype)
        super().__init__(path, n, d, torch.bfloat16 if bfloat16 else torch_dtype(path, self._stored))
        self._offset, self._prefix = offset, prefix
        self.decoded = fd is not None
        if d < 1:
            raise VectorFileError(path, f"its rows have {d} columns")
        size = path.stat().st_size if fd is None else os.fstat(fd).st_size
        self.spooled_bytes = 0 if fd is None else size
        if offset + n * self.row_bytes > size:
            raise VectorFileError(
                path,
                f"is truncated: {n} rows of {self.row_bytes} bytes from byte {offset} on do not fit its {size} bytes",
                offset,
            )
        self._fd = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0)) if fd is None else fd

    @property
    def row_bytes(self) -> int:
        """Bytes that a row takes in the file, its prefix included."""
        return self._prefix + self.d * self._stored.itemsize

    def close(self) -> None:
        """Let go of the file."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _fill(self, start: int, out: Tensor) -> None:
        at = self._offset + start * self.row_bytes
        target = out.view(torch.uint8).numpy().reshape(-1)
        if self._prefix == 0 and self._stored.isnative:
            self._read_into(at, target.data)
            return
        values = target.view(self.numpy_dtype).reshape(len(out), self.d)
        step = max(1, _CHUNK // self.row_bytes)
        for first in range(0, len(out), step):
            rows = min(step, len(out) - first)
            chunk = np.empty((rows, self.row_bytes), dtype=np.uint8)
            self._read_into(at + first * self.row_bytes, chunk.reshape(-1).data)
            if self._prefix:
                self._check_prefixes(chunk, start + first)
            values[first : first + rows] = np.ascontiguousarray(chunk[:, self._prefix :]).view(self._stored)

    @property
    def numpy_dtype(self) -> np.dtype[np.generic]:
        """Of the numbers, in this machine's byte order."""
        return self._stored.newbyteorder("=")

    def part(self, first: int, last: int, start: int, stop: int) -> npt.NDArray[np.generic]:
        """Return columns start .. stop - 1 of rows first .. last - 1: a read for each row, or one for whole rows."""
        values = np.empty((last - first, stop - start), dtype=self._stored)
        if (start, stop) == (0, self.d):
            self._fill(first, torch.from_numpy(values.view(np.uint8)).view(self.dtype))
            return values.view(self.numpy_dtype)
        at = self._offset + first * self.row_bytes + self._prefix + start * self._stored.itemsize
        for row in values.view(np.uint8):
            self._read_into(at, row.data)
            at += self.row_bytes
        return values.astype(self.numpy_dtype, copy=False)

    def _check_prefixes(self, chunk: npt.NDArray[np.uint8], row: int) -> None:
        stated = np.ascontiguousarray(chunk[:, : self._prefix]).view("<i4")[:, 0]
        wrong = np.flatnonzero(stated != self.d)
        if len(wrong):
            bad = int(wrong[0])
            raise VectorFileError(
                self.path,
                f"row {row + bad} says that it has {stated[bad]} columns, row 0 has {self.d}",
                self._offset + (row + bad) * self.row_bytes,
            )

    def _read_into(self, at: int, target: memoryview) -> None:
        done = read_at(self._fd, target, at)
        if done < len(target):
            raise VectorFileError(self.path, "has become shorter while it was read", at + done)
