"""`.fbin`, `.u8bin`, `.i8bin`, `.ibin`: two uint32, rows and columns, then the numbers, little-endian.

A ground-truth file (`.ibin`, or any suffix with `format="ibin"`) holds n * k int32 neighbours and after them, where it
is twice as long, n * k float32 distances: arrays "indices" and "distances".

NAME.crop_nb_N holds the first N rows of NAME, as their tools fetch it; its header says N, or still what the whole says.

Source: https://big-ann-benchmarks.com/neurips21.html, "Benchmark datasets"; benchmark/dataset_io.py there.
"""

from __future__ import annotations

import functools
import re
import struct
from pathlib import Path

import numpy as np

from janelia_core.files.errors import VectorFileError
from janelia_core.files.formats.binary.texmex import narrowed
from janelia_core.files.formats.contract import Arrays, Format, VectorFile, blocks
from janelia_core.files.formats.named import ROLES
from janelia_core.files.formats.raw import RawVectors

_MOST_ROWS = 2**32 - 1
_TRUTH = "<i4"  # the numbers of a ground truth


def open_bigann(path: Path, name: str | None, preferred: tuple[str, ...], *, number: str) -> VectorFile:
    """Open a file of vectors, or the neighbours or distances of a ground-truth file, which int32 make one."""
    if name is None and preferred == ROLES["distances"]:
        name = "distances"  # of a ground truth they have to be asked for; its neighbours are what it is
    names = ("indices", "distances") if number == _TRUTH else ()
    if name is not None and name not in names:
        raise VectorFileError(
            path, f"holds no array {name!r}" + (f"; it may hold {' and '.join(names)}" if names else "")
        )
    dtype = np.dtype(number)
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(8)
    if len(head) < 8:
        raise VectorFileError(path, "is empty" if size == 0 else "ends within its header of 8 bytes", 0)
    n, d = struct.unpack("<II", head)
    n = _cropped(path, n, number == _TRUTH and size in (8 + 4 * n * d, 8 + 8 * n * d))
    one, two = 8 + n * d * dtype.itemsize, 8 + 2 * n * d * dtype.itemsize
    if size != one and not (number == _TRUTH and size == two):
        raise VectorFileError(path, f"should have {one} bytes for its {n} rows of {d} columns, but has {size}", 0)
    if name == "distances":
        if size != two:
            raise VectorFileError(path, "holds neighbours only, no distances", one)
        return RawVectors(path, one, n, d, "<f4")
    return RawVectors(path, 8, n, d, dtype)


def _cropped(path: Path, n: int, truth: bool) -> int:
    """Return how many rows there are where the header says n: fewer where the name says so.

    A `truth` says in its name how many vectors it is about, and is not cropped itself.
    """
    name = re.search(r"\.crop_nb_(\d{1,10})$", path.name)
    if name is None or truth:
        return n
    if int(name[1]) > n:
        raise VectorFileError(path, f"has {n} rows by its header, fewer than the {name[1]} of its name", 0)
    return int(name[1])


def write_bigann(path: Path, arrays: Arrays, *, number: str) -> None:
    """Write the first array and, in a ground-truth file, the distances after it, as float32."""
    rows, *more = arrays.values()
    if rows.n > _MOST_ROWS:
        raise VectorFileError(path, f"the format holds at most {_MOST_ROWS} rows, not {rows.n}")
    with path.open("wb") as file:
        file.write(struct.pack("<II", rows.n, rows.d))
        for array, dtype in [(rows, number), *((array, "<f4") for array in more if number == _TRUTH)]:
            for block in blocks(array):
                file.write(narrowed(path, block, np.dtype(dtype)).view(np.uint8).data)


def _format(number: str) -> Format:
    return Format(
        functools.partial(open_bigann, number=number),
        functools.partial(write_bigann, number=number),
        several=number == _TRUTH,
        index_bits=32 if number == _TRUTH else 0,
        distances=number == "<f4",
        most_rows=_MOST_ROWS,
    )


FBIN, U8BIN, I8BIN, IBIN = _format("<f4"), _format("u1"), _format("i1"), _format(_TRUTH)
