"""Vectors rounded to another floating dtype as they are read."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from janelia_core.files.errors import VectorFileError
from janelia_core.files.formats.contract import VectorFile

_CHUNK = 1 << 21
FLOATS = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32, "float64": torch.float64}


class Cast(VectorFile):
    """A file whose numbers are rounded to `dtype`; these rounded values are then what exact means."""

    def __init__(self, file: VectorFile, dtype: torch.dtype) -> None:
        super().__init__(file.path, file.n, file.d, dtype)
        self._file, self.metric, self.files, self.format = file, file.metric, file.files, file.format
        self.spooled_bytes = file.spooled_bytes

    @property
    def row_bytes(self) -> int:
        """Bytes that a row takes in the file."""
        return self._file.row_bytes

    def _fill(self, start: int, out: Tensor) -> None:
        step = max(1, _CHUNK // max(1, self.d * self._file.dtype.itemsize))
        for at in range(0, len(out), step):
            rows = min(step, len(out) - at)
            numbers = range(start + at, start + at + rows)
            self._round(self._file.read(numbers.start, numbers.stop), out[at : at + rows], numbers)

    def _round(self, stored: Tensor, out: Tensor, numbers: Sequence[int] | Tensor) -> None:
        """Put rows with these numbers into out; raise VectorFileError where a finite number becomes infinite there."""
        over = out.copy_(stored).isinf()
        if over.any() and bool((over := over & stored.isfinite()).any()):
            row, column = over.nonzero()[0].tolist()
            what = f"holds {stored[row, column].item()} in row {int(numbers[row])}, column {column}"
            reason = f"{what}, more than {str(self.dtype).removeprefix('torch.')} holds; ask for a wider --dtype"
            raise VectorFileError(self.path, reason)

    def _pick(self, numbers: Tensor, out: Tensor) -> int:
        step = max(1, _CHUNK // max(1, self.d * self._file.dtype.itemsize))
        self._file.near = self.near
        before = self._file.bytes_taken
        for at in range(0, len(out), step):
            some = numbers[at : at + step]
            self._round(self._file.take(some), out[at : at + step], some)
        return (self._file.bytes_taken - before) // self.row_bytes

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()


def cast(file: VectorFile, dtype: torch.dtype | str | None) -> VectorFile:
    """Return the file itself, or as one of another floating dtype.

    Raises:
        ValueError: dtype is no floating dtype, nor that of the file, as raw memory has by what a caller says.
    """
    if dtype is None or str(dtype).removeprefix("torch.") == str(file.dtype).removeprefix("torch."):
        return file
    wanted = FLOATS.get(dtype) if isinstance(dtype, str) else dtype
    if wanted not in FLOATS.values():
        said = f"{file.path} holds {file.dtype}; other dtypes say what raw memory holds"
        raise ValueError(f"dtype must be one of {', '.join(FLOATS)}, got {dtype}: {said}")
    assert wanted is not None
    return Cast(file, wanted)
