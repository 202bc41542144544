"""Every format by its suffix: who opens it and who writes it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from os import PathLike
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from janelia_core.files.errors import VectorFileError
from janelia_core.files.formats.bigann import open_bigann, write_bigann
from janelia_core.files.formats.contract import Arrays, InMemory, VectorFile
from janelia_core.files.formats.csv_text import open_csv, write_csv
from janelia_core.files.formats.hdf5 import open_hdf5, write_hdf5
from janelia_core.files.formats.npy import open_npy, write_npy
from janelia_core.files.formats.npz import open_npz, write_npz
from janelia_core.files.formats.parquet import open_parquet, write_parquet
from janelia_core.files.formats.safetensors_file import open_safetensors, write_safetensors
from janelia_core.files.formats.texmex import open_texmex, write_texmex
from janelia_core.files.formats.torch_file import open_torch, write_torch

Where = str | PathLike[str]

ROLES: dict[str, tuple[str, ...]] = {
    "centres": ("train", "centres", "ctrs", "vectors"),
    "queries": ("test", "queries", "x", "vectors"),
    "indices": ("neighbors", "indices"),
    "distances": ("distances",),
    "": ("vectors",),
}
"""Which of several arrays is taken when none is named, by what the file is used as."""


class Format(NamedTuple):
    """One format.

    Attributes:
        open: (path, name or None, preferred names) -> file.
        write: (path, arrays by name).
        several: It holds several arrays by name; else `write` takes the first.
    """

    open: Callable[[Path, str | None, tuple[str, ...]], VectorFile]
    write: Callable[[Path, Arrays], None]
    several: bool


def _single(open_: Callable[[Path, str | None], VectorFile]) -> Callable[..., VectorFile]:
    return lambda path, name, preferred: open_(path, name)


def _bigann(path: Path, name: str | None, preferred: tuple[str, ...], kind: str) -> VectorFile:
    # The distances of a ground truth have to be asked for; its neighbours are what it is.
    return open_bigann(path, "distances" if name is None and preferred == ROLES["distances"] else name, kind)


FORMATS: dict[str, Format] = {
    "npy": Format(_single(open_npy), write_npy, False),
    "npz": Format(open_npz, write_npz, True),
    **{
        kind: Format(
            _single(functools.partial(open_texmex, letter=kind)), functools.partial(write_texmex, letter=kind), False
        )
        for kind in ("fvecs", "bvecs", "ivecs")
    },
    **{
        kind: Format(functools.partial(_bigann, kind=kind), functools.partial(write_bigann, kind=kind), kind == "ibin")
        for kind in ("fbin", "u8bin", "i8bin", "ibin")
    },
    "hdf5": Format(open_hdf5, write_hdf5, True),
    "pt": Format(open_torch, write_torch, True),
    "safetensors": Format(open_safetensors, write_safetensors, True),
    "parquet": Format(open_parquet, write_parquet, True),
    "csv": Format(_single(open_csv), write_csv, False),
}
WRITERS = {"hdf5": "h5py", "parquet": "pyarrow.parquet"}
"""What of the extra `files` a format is written with."""
ALIASES = {"h5": "hdf5", "pth": "pt"}


def split_name(path: Where) -> tuple[Path, str | None]:
    """Split FILE::NAME into the file and the name of an array in it."""
    text = str(path)
    file, mark, name = text.rpartition("::")
    if not mark or Path(text).exists():
        return Path(text), None
    return Path(file), name


def format_of(path: Path, asked: str | None = None) -> str:
    """Return the name of the format: the one asked for, else the one of the suffix."""
    name = (asked or path.suffix.removeprefix(".")).lower()
    name = ALIASES.get(name, name)
    if name not in FORMATS:
        known = ", ".join(FORMATS)
        raise VectorFileError(path, f"has no format that is known by {name!r}; say which of: {known}")
    return name


def open_vectors(path: Where, format: str | None = None, *, role: str = "") -> VectorFile:
    """Open a file of vectors and read its header; the vectors are read when they are asked for.

    Args:
        path: The file, or FILE::NAME for one of several arrays in it.
        format: One of `FORMATS`; None: by the suffix.
        role: What it is used as ("centres", "queries", "indices", "distances"), which decides between several
            arrays when none is named: in ann-benchmarks' HDF5 files "train", "test", "neighbors", "distances".

    Returns:
        The open file: `shape`, `dtype`, `read(start, stop)`, `take(row_numbers)`, `close()`; a context manager.

    Raises:
        VectorFileError: It is not what its suffix or `format` says.
        OSError: It cannot be opened.
        MissingExtraError: Its format needs a package that is not installed.

    Example:
        >>> import tempfile, torch
        >>> path = tempfile.mkdtemp() + "/a.fvecs"
        >>> save_vectors(path, torch.arange(6.0).reshape(3, 2))
        >>> with open_vectors(path) as file:
        ...     file.shape, file.read(1, 3)
        ((3, 2), tensor([[2., 3.],
                [4., 5.]]))
    """
    file, name = split_name(path)
    if not file.exists():
        raise FileNotFoundError(f"{file}: there is no such file")
    if not file.is_file():
        raise VectorFileError(file, "is no regular file")
    return FORMATS[format_of(file, format)].open(file, name, ROLES[role])


def save_vectors(path: Where, values: Tensor, format: str | None = None, *, name: str = "vectors") -> None:
    """Write a tensor (n, d) to a file.

    Args:
        path: Where to.
        values: (n, d), on the CPU.
        format: As for `open_vectors`.
        name: What it is called in formats that hold several arrays.

    Raises:
        VectorFileError: The format cannot hold these values.
    """
    target = Path(path)
    FORMATS[format_of(target, format)].write(target, {name: InMemory(values)})
