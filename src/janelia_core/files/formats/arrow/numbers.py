"""Numbers of one buffer of an Arrow file, packed or not, one after the other."""

from __future__ import annotations

import io
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from janelia_core.extras import import_extra
from janelia_core.files.formats.arrow.messages import Buffer

_WINDOW = 1 << 16


class Numbers:
    """Reads a buffer from its front to its end.

    Attributes:
        dtype: Of the numbers.
        packed: They have to be unpacked, which takes memory until `close`.
    """

    def __init__(self, file: BinaryIO, buffer: Buffer, dtype: np.dtype[Any]) -> None:
        self.dtype = dtype
        self._section = _Section(file, buffer.at, buffer.at + buffer.length)
        self._codec, self._length = buffer.codec, -1
        if buffer.codec is not None and buffer.length:  # then it begins with its length unpacked; -1: it is not packed
            self._length = int.from_bytes(self._section.read(8), "little", signed=True)
        self.packed = self._length != -1
        self._unpacked: Any = None

    def next(self, n: int) -> npt.NDArray[Any]:
        """Return the next n numbers."""
        values = np.empty(n, self.dtype)
        view, done = values.view(np.uint8).data, 0
        while done < len(view):
            piece = self._read(min(_WINDOW, len(view) - done))
            if not piece:
                raise ValueError(f"a buffer ends {len(view) - done} bytes too early")
            view[done : done + len(piece)] = piece
            done += len(piece)
        return values

    def skip(self, n: int) -> None:
        """Leave out the next n numbers."""
        for at in range(0, n, _WINDOW):
            self.next(min(_WINDOW, n - at))

    def close(self) -> None:
        """Let go of what unpacking takes."""
        self._unpacked = None

    def _read(self, most: int) -> bytes:
        if not self.packed:
            return self._section.read(most)
        if self._unpacked is None:
            self._unpacked = self._unpacking()
        data: bytes = self._unpacked.read(most)
        return data

    def _unpacking(self) -> Any:
        """Return a file of what is unpacked; a small buffer at once, which is faster than by a stream."""
        arrow = import_extra("pyarrow", "files")
        if 0 < self._length <= _WINDOW and self._section.left <= 2 * _WINDOW:
            return io.BytesIO(
                arrow.decompress(self._section.read(2 * _WINDOW), self._length, self._codec, asbytes=True)
            )
        return arrow.CompressedInputStream(arrow.PythonFile(self._section, "r"), self._codec)


class _Section:
    """A part of a file as a file of its own, which others may read at the same time."""

    closed = False

    def __init__(self, file: BinaryIO, at: int, end: int) -> None:
        self._file, self._at, self._end = file, at, end

    @property
    def left(self) -> int:
        return self._end - self._at

    def read(self, most: int) -> bytes:
        self._file.seek(self._at)
        data = self._file.read(max(0, min(most, self.left)))
        self._at += len(data)
        return data

    def close(self) -> None:
        """The file stays open for others."""
