"""Formats that can only be read from front to back: decoded once into a nameless file on disk."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from janelia_core.files.errors import VectorFileError
from janelia_core.files.formats.raw import RawVectors
from janelia_core.positioned import write_all


def spooled(
    path: Path,
    d: int,
    dtype: np.dtype[np.generic],
    blocks: Iterable[npt.NDArray[np.generic]],
    expected: int = 0,
) -> RawVectors:
    """Return the rows of all blocks as an open file that vanishes with the process.

    Args:
        path: What they were decoded from, for messages.
        d: Number of columns.
        dtype: Of the numbers.
        blocks: Arrays (r, d) of that dtype, one after the other.
        expected: Bytes that will come, where that is known: refused at once if the disk has no such room.

    Disk: n * d numbers, in the folder that `tempfile` takes (environment variable TMPDIR).
    """
    free = shutil.disk_usage(tempfile.gettempdir()).free
    if expected > free:
        raise VectorFileError(
            path, f"takes {expected} bytes to decode, {tempfile.gettempdir()} has {free}; set TMPDIR to a larger disk"
        )
    with tempfile.TemporaryFile(buffering=0) as file:
        rows = 0
        for block in blocks:
            try:
                write_all(file.fileno(), np.ascontiguousarray(block, dtype=dtype).view(np.uint8).reshape(-1).data, None)
            except OSError as error:  # of the disk, which the reader would take for damage of its file
                reason = f"cannot be decoded to {tempfile.gettempdir()}: {error.strerror}; set TMPDIR to a larger disk"
                raise VectorFileError(path, reason) from error
            rows += len(block)
        return RawVectors(path, 0, rows, d, dtype, fd=os.dup(file.fileno()))
