"""What a file is, by its suffix: who opens it and who writes it, as the table of `janelia_core.suffixes` says."""

from __future__ import annotations

import difflib
import functools
import os
import re
from importlib import import_module
from os import PathLike
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from janelia_core.files.errors import VectorFileError, named
from janelia_core.files.formats.contract import Format, InMemory, Reading, VectorFile
from janelia_core.files.formats.named import ROLES
from janelia_core.files.formats.other_names import opened_otherwise, written_otherwise
from janelia_core.printable import printable
from janelia_core.suffixes import ALIASES, FORMATS, NAMED, PACKED, READ_ONLY, REFUSED

Where = str | PathLike[str]
OPTIONS = {"centres": "--centres-format or --format", "queries": "--queries-format", "indices": "--answer-format"}
"""What says the format on the command line, by what a file is used as."""


class Suffix(NamedTuple):
    """What a name ends with.

    Attributes:
        format: The suffix that says the format, in small letters.
        packed: The one after it, of `PACKED`, or None.
    """

    format: str
    packed: str | None


def split_name(path: Where) -> tuple[Path, str | None]:
    """Split FILE::NAME into the file and the name of an array in it."""
    text = os.fsdecode(path)
    if not text.partition("::")[0]:  # which would be the folder that one is in
        raise VectorFileError(repr(text), "names no file")
    file, mark, name = text.rpartition("::")
    if not mark or os.path.exists(text):  # which takes a name that is too long for one that is not there
        return Path(text), None
    return Path(file), name


def suffix_of(path: Path) -> Suffix:
    """Return what a name says: of base.fbin.gz that it is an fbin, packed; `.crop_nb_10` says nothing about that."""
    name, packed = path.name, None
    for ending in PACKED:
        if name.lower().endswith(f".{ending}"):
            name, packed = name[: -len(ending) - 1], ending
    name = re.sub(r"\.crop_nb_\d+$", "", name)
    return Suffix(Path(name).suffix.removeprefix(".").lower() if name else "", packed)


def format_of(path: Path, asked: str | None = None, role: str = "out") -> str:
    """Return the name of the format: the one asked for, else the one of the suffix.

    Raises:
        VectorFileError: It is none that is known; the message tells how to say it for a file used as `role`. What is
            written, "out", is neither packed nor cropped.
    """
    suffix, packed = suffix_of(path)
    if role == "out":  # what is written plain must not be read as packed, nor as cropped, by its name
        suffix = path.suffix.removeprefix(".")
        if packed is not None:
            reason = f"would not be packed as {packed}; write {path.name[: -len(packed) - 1]}, and pack that"
            raise VectorFileError(path, reason)
    name = (asked or suffix).lower()
    name = ALIASES.get(name, name)
    known = {**FORMATS, **READ_ONLY}
    if name in known or (asked is not None and name in NAMED):
        return name
    if name in REFUSED:
        raise VectorFileError(path, REFUSED[name])
    near = difflib.get_close_matches(name, [*known, *ALIASES], 1)
    meant = f" (did you mean {near[0]}?)" if near else ""
    said = f"has no format that is known by {name[:20]!r}{meant}" if name else "has no suffix to say its format"
    option = OPTIONS.get(role, f"--{role}-format" if role else "--format")
    raise VectorFileError(path, f"{said}; {option} (in Python format) takes {', '.join(known)}")


def format_named(name: str) -> Format:
    """Return the format that the table has under a name."""
    module, _, attribute = (FORMATS | READ_ONLY | NAMED)[name].partition(":")
    place = import_module(module if "." in module else f".{module}", __package__)
    found: Format = getattr(place, attribute)
    return found._replace(write=functools.partial(written_otherwise, found.write))


def folder_format(path: Path, asked: str | None) -> str | None:
    """Return the format that takes a folder as one input, by what is asked for, its suffix or what it holds."""
    name = (asked or suffix_of(path).format).lower()
    if name in READ_ONLY or name in FORMATS:
        return name if format_named(name).folder else None
    marked = asked is None and any((path / mark).is_file() for mark in (".zarray", ".zgroup", "zarr.json"))
    return "zarr" if marked else None


def open_file(path: Where, format: str | None, role: str, reading: Reading) -> VectorFile:
    """Open one file that is there, as one format, and read its header.

    Args:
        path: The file, or FILE::NAME for one of several arrays in it.
        format: One of `FORMATS` and `READ_ONLY`; None: by the suffix.
        role: See `open_vectors`.
        reading: How it is to be read.
    """
    file, name = split_name(path)
    if not file.exists():
        raise FileNotFoundError(f"{printable(os.fsdecode(path))}: there is no such file")
    whole = folder_format(file, format) if file.is_dir() else None
    if not file.is_file() and whole is None:
        raise VectorFileError(file, "is a folder" if file.is_dir() else "is no regular file")
    kind = whole or format_of(file, format, role)
    found = format_named(kind)
    if found.folder and whole is None:
        raise VectorFileError(file, f"is a file; {kind} is a folder")
    if reading.shape is not None and "shape" not in found.options:
        raise VectorFileError(file, f"is {kind}, which says its shape itself; --shape (in Python shape=) is for raw")
    packed = suffix_of(file).packed
    if packed is not None and not found.unpacks:
        raise VectorFileError(file, f"is packed, and {kind} is not read packed; unpack it first")
    options = {option: getattr(reading, option) for option in found.options}
    with named(file):
        opened = opened_otherwise(
            file, packed, reading.memory, lambda place: found.open(place, name, ROLES[role], **options)
        )
    opened.format = kind
    return opened


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
    target = Path(os.fsdecode(path))
    kind = format_of(target, format)
    format_named(kind).write(target, {name: InMemory(values)})
