"""`.zarr`: a folder in which an array is stored chunk by chunk, or a group of such arrays; of versions 2 and 3.

The library zarr can neither be kept within a memory, as a chunk may unpack to any size, nor from running what the
metadata names; so only packed chunks are handed to libraries, here to zlib, zstandard, and to numcodecs, whose packed
chunks begin with their sizes. These are of the extra `files`.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
from torch import Tensor

from janelia_core.extras import import_extra
from janelia_core.files.errors import VectorFileError
from janelia_core.files.formats.binary.raw_memory import refuse_to_write
from janelia_core.files.formats.contract import Format, VectorFile
from janelia_core.files.formats.named import choose
from janelia_core.files.formats.raw import torch_dtype
from janelia_core.files.formats.tiles import by_tiles
from janelia_core.files.formats.zarr.metadata import Stored, array_named, arrays_in, stored_in
from janelia_core.sizes import show_bytes

_ANY_SIZE = 1 << 26  # bytes that an array may have of which nothing is stored
_MOST_RATIO = 2000  # times what is stored: chunks full of one number may be missing
_TIMES = 4  # a chunk that is decoded to disk is there: packed, unpacked, in order of its rows, and by bands of them
_MORE = 1 << 16  # bytes that a packed chunk may have beyond twice what it unpacks to


class ZarrVectors(VectorFile):
    """An array of chunks, of which one is in memory at a time.

    Args:
        path: The folder that was asked for.
        folder: That of the array, in it.
        stored: How it is stored.
    """

    def __init__(self, path: Path, folder: Path, stored: Stored) -> None:
        n, d = stored.shape
        super().__init__(path, n, d, torch_dtype(path, stored.dtype))
        self._folder, self._stored, self._root = folder, stored, os.path.realpath(path)
        self.files = tuple(sorted(Path(at) / name for at, _, names in os.walk(folder) for name in names))
        size = n * self.row_bytes
        if size > _ANY_SIZE and size > _MOST_RATIO * sum(os.lstat(file).st_size for file in self.files):
            raise VectorFileError(path, f"says that it has {n} x {d} numbers, of which it holds next to none")
        self._there = self._found()

    def _found(self) -> dict[int, list[int]]:
        """Return which columns of chunks are there, by the row of chunks: a row may have far more that are not."""
        stored, there = self._stored, defaultdict(list)
        for file in self.files:
            name = file.relative_to(self._folder).as_posix().removeprefix(stored.prefix)
            place = name.split(stored.separator)
            if len(place) == 2 and all(part.isdecimal() and part.isascii() and len(part) < 19 for part in place):
                there[int(place[0])].append(int(place[1]))
        most = -(-self.d // stored.chunks[1])
        return {i: sorted(j for j in columns if j < most) for i, columns in there.items()}

    def _fill(self, start: int, out: Tensor) -> None:
        rows, target = self._stored.chunks[0], out.numpy()
        for i in range(start // rows, -(-(start + len(out)) // rows)):
            first, stop = max(start, i * rows), min(start + len(out), (i + 1) * rows)
            target[first - start : stop - start] = self._fill_value(i)
            for columns, chunk in self._chunks(i):
                target[first - start : stop - start, columns] = chunk[first - i * rows : stop - i * rows]

    def _pick(self, numbers: Tensor, out: Tensor) -> int:
        """Put the rows with ascending numbers into out, and return how many were read."""
        rows, at, target = self._stored.chunks[0], numbers.numpy(), out.numpy()
        for i in np.unique(at // rows):
            here = slice(*np.searchsorted(at, (i * rows, (i + 1) * rows)))
            target[here] = self._fill_value(int(i))
            for columns, chunk in self._chunks(int(i)):
                target[here, columns] = chunk[at[here] - i * rows]
        return len(numbers)

    def tile(self, start: int, stop: int, first: int, last: int) -> npt.NDArray[np.generic]:
        """Return rows start .. stop - 1 and columns first .. last - 1, which are those of one chunk, contiguous."""
        i, j = start // self._stored.chunks[0], first // self._stored.chunks[1]
        fill, there = self._fill_value(i), j in self._there.get(i, ())
        chunk = self._chunk(i, j) if there else np.broadcast_to(fill, self._stored.chunks)
        return np.ascontiguousarray(chunk[: stop - start, : last - first], self._stored.dtype.newbyteorder("="))

    def close(self) -> None:
        """Nothing is kept open between blocks."""

    def _chunks(self, i: int) -> Iterator[tuple[slice, npt.NDArray[np.generic]]]:
        """Yield the columns and the numbers of the chunks that are there of the i-th row of chunks."""
        width = self._stored.chunks[1]
        for j in self._there.get(i, ()):
            columns = slice(j * width, min(self.d, (j + 1) * width))
            yield columns, self._chunk(i, j)[:, : columns.stop - columns.start]

    def _fill_value(self, i: int) -> npt.NDArray[np.generic]:
        """Return what stands where no chunk of the i-th row of chunks is, if any is missing."""
        stored, there = self._stored, self._there.get(i, [])
        if stored.fill is None:
            missing = next((j for j, found in enumerate(there) if j != found), len(there))
            if missing * stored.chunks[1] < self.d:
                name = f"{stored.prefix}{i}{stored.separator}{missing}"
                raise VectorFileError(self.path, f"has no chunk {name}, nor says what it holds")
        return np.array(0 if stored.fill is None else stored.fill).astype(stored.dtype)

    def _chunk(self, i: int, j: int) -> npt.NDArray[np.generic]:
        stored = self._stored
        file = self._folder / f"{stored.prefix}{i}{stored.separator}{j}"
        if not os.path.realpath(file).startswith(self._root + os.sep):
            raise VectorFileError(self.path, f"its chunk {file.relative_to(self.path)} is a link out of the folder")
        size = file.stat().st_size
        if size > 2 * stored.chunk_bytes + _MORE:
            raise VectorFileError(file, f"has {size} bytes, for a chunk of {stored.chunk_bytes}")
        values = np.frombuffer(_unpacked(file, stored.codec, file.read_bytes(), stored.chunk_bytes), stored.dtype)
        return values.reshape(stored.chunks[::-1]).T if stored.transposed else values.reshape(stored.chunks)


def _unpacked(path: Path, codec: str | None, data: bytes, expected: int) -> bytes:
    """Return a chunk unpacked; what says or turns out to be larger or smaller is refused before it is."""
    try:
        found = _unpack(codec, data, expected)
    # What libraries raise for damage: ValueError, RuntimeError, zlib.error, ZstdError: there is no common class.
    except Exception as error:
        if isinstance(error, ImportError):
            raise
        raise VectorFileError(path, f"is no sound chunk packed by {codec}: {error}") from error
    if len(found) != expected:
        raise VectorFileError(path, f"is no sound chunk: {expected} bytes are expected, there are {len(found)}")
    return found


def _unpack(codec: str | None, data: bytes, expected: int) -> bytes:
    if codec is None:
        return data
    if codec in ("gzip", "zlib"):
        return zlib.decompressobj(wbits=47).decompress(data, expected + 1)
    if codec == "zstd":
        zstandard = import_extra("zstandard", "files")
        said = zstandard.frame_content_size(data)
        if said > expected:
            raise ValueError(f"it says that it unpacks to {said} bytes, not {expected}")
        unpacked: bytes = zstandard.ZstdDecompressor().decompress(data, max_output_size=expected)
        return unpacked
    said = struct.unpack_from("<i", data, 4 if codec == "blosc" else 0)[0]
    whole = struct.unpack_from("<i", data, 12)[0] if codec == "blosc" else len(data)
    if said != expected or whole != len(data):
        raise ValueError(f"it says that it unpacks to {said} bytes, not {expected}, from {whole} of {len(data)}")
    library = import_extra(f"numcodecs.{codec}", "files")
    return bytes(library.decompress(data))


def open_zarr(path: Path, name: str | None, preferred: tuple[str, ...], *, memory: int, opening: int) -> VectorFile:
    """Open the array of a folder, or one of several; chunks too large to be read in parts are decoded to disk once."""
    folder = array_named(path, name)
    if folder is None:
        arrays = arrays_in(path)
        folder = arrays["." if name is None and "." in arrays else choose(path, list(arrays), name, preferred)]
    stored = stored_in(folder)
    n, d = stored.shape
    if d < 1:
        raise VectorFileError(path, f"its rows have {d} columns")
    most = max(memory, opening // _TIMES)
    if stored.chunk_bytes > most:
        chunk = f"{stored.chunks[0]} x {stored.chunks[1]} numbers, {show_bytes(stored.chunk_bytes)}"
        raise VectorFileError(
            path,
            f"has chunks of {chunk}; at most {show_bytes(most)} can be read: raise max_memory, or write smaller ones",
        )
    vectors = ZarrVectors(path, folder, stored)
    if stored.chunk_bytes <= memory:
        return vectors
    native = stored.dtype.newbyteorder("=")
    decoded = by_tiles(path, (n, d), native, (stored.chunks[0], stored.chunks[1]), vectors.tile, opening // _TIMES)
    decoded.files = vectors.files
    return decoded


ZARR = Format(open_zarr, refuse_to_write, index_bits=0, distances=False, options=("memory", "opening"), folder=True)
