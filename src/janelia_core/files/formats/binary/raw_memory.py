"""`.raw`: numbers one after the other, row by row, and nothing else: how many, and which, is the caller's to say."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from janelia_core.files.errors import VectorFileError
from janelia_core.files.formats.contract import Arrays, Format, VectorFile
from janelia_core.files.formats.named import refuse_name
from janelia_core.files.formats.raw import TORCH_DTYPES, RawVectors

_KINDS = {str(dtype).removeprefix("torch."): kind for kind, dtype in TORCH_DTYPES.items()}
NUMBERS = (*_KINDS, "bfloat16")
"""Names of numbers; NumPy's short ones with a byte order, ">f8", are known too."""


def stored_numbers(path: Path, stored: str) -> np.dtype[np.generic]:
    """Return the numbers that a name means, little-endian where it does not say; bfloat16 are int16.

    Raises:
        VectorFileError: It is the name of none.
    """
    kind = "i2" if stored == "bfloat16" else _KINDS.get(stored, stored.lstrip("<>|="))
    if kind not in TORCH_DTYPES:
        raise VectorFileError(path, f"stored must be one of {', '.join(NUMBERS)}, or as '>f8', got {stored!r}")
    return np.dtype((">" if stored.startswith(">") else "<") + kind)


def open_raw(
    path: Path,
    name: str | None,
    preferred: tuple[str, ...],
    *,
    shape: tuple[int | None, int] | None,
    stored: str | None,
) -> VectorFile:
    """Open numbers of which the caller says how many make a row, and what they are."""
    refuse_name(path, name)
    if shape is None or stored is None:
        lacking = " and ".join(
            option for option, value in (("--shape N,D", shape), ("--stored DTYPE", stored)) if value is None
        )
        raise VectorFileError(
            path, f"holds numbers only; say {lacking} (in Python Input(.., shape=(None, D), stored='float32'))"
        )
    n, d = shape
    dtype = stored_numbers(path, stored)
    size = path.stat().st_size
    if d < 1 or (n is not None and n < 0):
        raise VectorFileError(path, f"shape must be N,D with D at least 1, got {shape}")
    row = d * dtype.itemsize
    if size % row or (n is not None and n * row != size):
        rows = f"{size / row:.6g} rows of {d} {stored}, {row} bytes each"
        wanted = "a whole number" if n is None else n
        raise VectorFileError(path, f"has {size} bytes: {rows}, not {wanted}")
    return RawVectors(path, 0, size // row, d, dtype, bfloat16=stored == "bfloat16")


def refuse_to_write(path: Path, arrays: Arrays) -> None:
    """Raise VectorFileError: this format is only read."""
    raise VectorFileError(path, "is of a format that is read only; take npy, npz, fvecs, fbin, ...")


RAW = Format(open_raw, refuse_to_write, index_bits=0, distances=False, options=("shape", "stored"))
