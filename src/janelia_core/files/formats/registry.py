"""What a file is, by its suffix: who opens it and who writes it, as the table of `janelia_core.suffixes` says."""

from __future__ import annotations

import os
from importlib import import_module
from os import PathLike
from pathlib import Path

from torch import Tensor

from janelia_core.files.errors import VectorFileError, printable
from janelia_core.files.formats.contract import Format, InMemory, Reading, VectorFile
from janelia_core.files.formats.named import ROLES
from janelia_core.suffixes import ALIASES, FORMATS, NAMED

Where = str | PathLike[str]


def split_name(path: Where) -> tuple[Path, str | None]:
    """Split FILE::NAME into the file and the name of an array in it."""
    text = str(path)
    file, mark, name = text.rpartition("::")
    if not mark or os.path.exists(text):  # which takes a name that is too long for one that is not there
        return Path(text), None
    return Path(file), name


def format_of(path: Path, asked: str | None = None) -> str:
    """Return the name of the format: the one asked for, else the one of the suffix."""
    name = (asked or path.suffix.removeprefix(".")).lower()
    name = ALIASES.get(name, name)
    if name not in FORMATS and (asked is None or name not in NAMED):
        known = ", ".join(FORMATS)
        raise VectorFileError(path, f"has no format that is known by {name!r}; say which of: {known}")
    return name


def format_named(name: str) -> Format:
    """Return the format that the table has under a name."""
    module, _, attribute = (FORMATS | NAMED)[name].partition(":")
    found: Format = getattr(import_module(module if "." in module else f"{__package__}.{module}"), attribute)
    return found


def open_file(path: Where, format: str | None, role: str, reading: Reading) -> VectorFile:
    """Open one file that is there, as one format, and read its header.

    Args:
        path: The file, or FILE::NAME for one of several arrays in it.
        format: One of `FORMATS`; None: by the suffix.
        role: See `open_vectors`.
        reading: How it is to be read.
    """
    file, name = split_name(path)
    if not file.exists():
        raise FileNotFoundError(f"{printable(str(file))}: there is no such file")
    if not file.is_file():
        raise VectorFileError(file, "is no regular file")
    found = format_named(format_of(file, format))
    return found.open(file, name, ROLES[role], **{option: getattr(reading, option) for option in found.options})


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
    format_named(format_of(target, format)).write(target, {name: InMemory(values)})
