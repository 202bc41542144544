"""`.gz` and `.zst` around a file of another format: unpacked once, to a nameless file on disk.

A packed file may say it holds more than any disk: it is unpacked piece by piece, and given up where it grows beyond
what vectors pack to, or beyond what the disk has left.
"""

from __future__ import annotations

import gzip
import os
import shutil
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from janelia_core.extras import import_extra
from janelia_core.files.errors import VectorFileError
from janelia_core.positioned import write_all

_PIECE = 1 << 20
_MOST_RATIO = 2000  # times its size; deflate reaches 1032 at most, and vectors that pack as well are all equal
_ANY_SIZE = 1 << 26  # bytes that a file of any size may become
_SPARE = 1 << 28  # bytes that the disk keeps
_LOOK = 1 << 26  # bytes between two looks at the disk
_WINDOW = 1 << 23  # bytes of what was unpacked last that zstd refers to: what levels up to 19 take
_SIP = 256  # bytes of a .zst at a time: an instruction of 4 bytes makes up to 128 KiB, so these make 8 MiB at most


def unpacked(path: Path, packed: str, memory: int) -> int:
    """Return an open file that holds what a packed one does, and that vanishes when it is closed.

    Args:
        path: The packed file.
        packed: One of `janelia_core.suffixes.PACKED`.
        memory: Bytes that unpacking may take.

    Disk: What it unpacks to, in the folder that `tempfile` takes (environment variable TMPDIR).
    """
    folder = tempfile.gettempdir()
    pieces = {"gz": _gunzip, "zst": _unzstd}[packed](path, memory)
    most, size, looked = max(_ANY_SIZE, _MOST_RATIO * path.stat().st_size), 0, -_LOOK
    with tempfile.TemporaryFile(buffering=0) as file:
        for piece in pieces:
            size += len(piece)
            if size > most:
                raise VectorFileError(path, f"unpacks to more than {_MOST_RATIO} times its size; unpack it yourself")
            if size - looked >= _LOOK:
                looked = size
                if shutil.disk_usage(folder).free < _SPARE:
                    raise VectorFileError(path, f"does not fit {folder} unpacked; set TMPDIR to a larger disk")
            try:
                write_all(file.fileno(), piece, None)
            except OSError as error:
                reason = f"cannot be unpacked to {folder}: {error.strerror}; set TMPDIR to a larger disk"
                raise VectorFileError(path, reason) from error
        return os.dup(file.fileno())


def _gunzip(path: Path, memory: int) -> Iterator[bytes]:
    try:
        with gzip.open(path, "rb") as file:
            while piece := file.read(_PIECE):
                yield piece
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise VectorFileError(path, f"is no sound .gz file: {error}") from error


def _unzstd(path: Path, memory: int) -> Iterator[bytes]:
    zstandard = import_extra("zstandard", "files")
    unpacker = zstandard.ZstdDecompressor(max_window_size=max(_WINDOW, memory))
    with path.open("rb") as file:
        frame, left = None, b""
        try:
            while sip := left or file.read(_SIP):
                frame = frame or unpacker.decompressobj()
                if piece := frame.decompress(sip):
                    yield piece
                left = frame.unused_data if frame.eof else b""
                frame = None if frame.eof else frame
        except zstandard.ZstdError as error:
            raise VectorFileError(path, _told(error), file.tell()) from error
        if frame is not None or file.tell() == 0:
            raise VectorFileError(path, "is no sound .zst file: it ends early", file.tell())


def _told(error: Exception) -> str:
    if "memory" in str(error):
        return "was packed with a window of more than 8 MiB (zstd --ultra or --long); unpack it yourself by zstd -d"
    return f"is no sound .zst file: {error}"
