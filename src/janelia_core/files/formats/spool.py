"""Formats that can only be read from front to back: decoded once into a nameless file on disk."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from janelia_core.files.errors import VectorFileError
from janelia_core.files.formats.raw import RawVectors
from janelia_core.files.progress import followed
from janelia_core.positioned import write_all


def spooled(
    path: Path,
    d: int,
    dtype: np.dtype[np.generic],
    blocks: Iterable[npt.NDArray[np.generic]],
    expected: int = 0,
    *,
    bfloat16: bool = False,
) -> RawVectors:
    """Return the rows of all blocks as an open file that vanishes with the process.

    Args:
        path: What they were decoded from, for messages.
        d: Number of columns.
        dtype: Of the numbers.
        blocks: Arrays of that dtype: rows one after the other, in pieces of any shape.
        expected: Bytes that will come, where that is known: refused at once if the disk has no such room.
        bfloat16: The numbers are int16 that stand for bfloat16.

    Disk: n * d numbers, in the folder that `tempfile` takes (environment variable TMPDIR).
    """
    with nameless(path, expected) as file:
        numbers = 0
        for block in blocks:
            put(path, file, np.ascontiguousarray(block, dtype=dtype), None)
            numbers += block.size
        return RawVectors(path, 0, numbers // d, d, dtype, fd=os.dup(file), bfloat16=bfloat16)


@contextlib.contextmanager
def nameless(path: Path, expected: int) -> Iterator[int]:
    """Make a file that vanishes when nobody has it open, and give its number; see `spooled`."""
    free = shutil.disk_usage(tempfile.gettempdir()).free
    if expected > free:
        raise VectorFileError(
            path, f"takes {expected} bytes to decode, {tempfile.gettempdir()} has {free}; set TMPDIR to a larger disk"
        )
    with tempfile.TemporaryFile(buffering=0) as file, followed().at(f"decoding {path.name}"):
        yield file.fileno()


def put(path: Path, file: int, values: npt.NDArray[np.generic], at: int | None) -> None:
    """Write contiguous values at a byte of a nameless file, or where it ends so far."""
    try:
        write_all(file, values.reshape(-1).view(np.uint8).data, at)
    except OSError as error:  # of the disk, which the reader would take for damage of its file
        reason = f"cannot be decoded to {tempfile.gettempdir()}: {error.strerror}; set TMPDIR to a larger disk"
        raise VectorFileError(path, reason) from error
