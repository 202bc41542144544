"""`.bin`, of DiskANN and the tools around it: what a header of two uint32, rows and columns, is followed by.

The layout is that of `.fbin`, `.u8bin`, `.i8bin`; the name does not say which. Floats tell themselves by the size of
the file; uint8 and int8 do not, so that `stored` has to. As neighbours it is a ground truth, in the layout of `.ibin`.

Source: https://github.com/microsoft/DiskANN, workflows; https://docs.rs/diskann-utils, "io".
"""

from __future__ import annotations

import struct
from pathlib import Path

import torch

from janelia_core.files.errors import VectorFileError
from janelia_core.files.formats.binary.bigann import open_bigann, write_bigann
from janelia_core.files.formats.binary.raw_memory import stored_numbers
from janelia_core.files.formats.contract import Arrays, Format, VectorFile, first
from janelia_core.files.formats.named import ROLES

_TRUTH = ("indices", "distances")
_NUMBERS = {"float32": "<f4", "uint8": "u1", "int8": "i1"}


def open_bin(path: Path, name: str | None, preferred: tuple[str, ...], *, stored: str | None) -> VectorFile:
    """Open a file of vectors, or the neighbours or distances of a ground truth."""
    if name in _TRUTH or preferred in (ROLES["indices"], ROLES["distances"]):
        return open_bigann(path, name, preferred, number="<i4")
    return open_bigann(path, name, preferred, number=_number(path, stored))


def _number(path: Path, stored: str | None) -> str:
    """Return the numbers that the caller names, else those that the size leaves no choice of."""
    if stored is not None:
        named = {stored_numbers(path, one): number for one, number in _NUMBERS.items()}
        found = named.get(stored_numbers(path, stored))
        if found is None:
            raise VectorFileError(path, f"holds one of {', '.join(_NUMBERS)} as a .bin, not {stored!r}")
        return found
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(8)
    n, d = struct.unpack("<II", head) if len(head) == 8 else (0, 0)
    if size == 8 + n * d and n * d:
        raise VectorFileError(path, "holds uint8 or int8; say which by --stored (in Python Input(.., stored='uint8'))")
    if size == 8 + 8 * n * d and n * d:
        raise VectorFileError(path, f"is a ground truth by its size, not vectors; {path}::indices are its neighbours")
    return "<f4"


def write_bin(path: Path, arrays: Arrays) -> None:
    """Write vectors as float32, uint8 or int8, or a ground truth: integers, with the distances after them."""
    dtype = first(arrays).dtype
    vectors = {torch.uint8: "u1", torch.int8: "i1"}
    number = "<f4" if dtype.is_floating_point else vectors.get(dtype, "<i4")
    write_bigann(path, arrays, number=number)


BIN = Format(open_bin, write_bin, several=True, index_bits=32, options=("stored",))
