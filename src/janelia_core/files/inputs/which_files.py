"""Which files an input is made of: a file, several, those that a pattern meets, or those of a folder, in natural order.

Natural order compares numbers by their value: part.2 comes before part.10. What a folder holds beside vectors is left
out where it is known not to be any; what might be meant, or might not, is an error that names it.
"""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Sequence
from pathlib import Path

from janelia_core.files.errors import VectorFileError
from janelia_core.files.formats.registry import Where, folder_format, format_of, split_name
from janelia_core.suffixes import ALIASES, FORMATS

_COMPANIONS = {"md", "json", "jsonl", "yaml", "yml", "md5", "sha256", "crc", "license", "log"}
_TEXTS = {"txt"}  # which may as well be what a format is asked for
_NAMES = {"README", "LICENSE", "LICENCE", "SHA256SUMS", "MD5SUMS"}
_ROLES = "train|training|test|testing|validation|valid|val|dev|eval|query|queries|learn|base|gt|truth|groundtruth"
_ROLE = re.compile(rf"(?:^|(?<=[^A-Za-z]))(?:{_ROLES}|neighbors|distances|indices)(?=$|[^A-Za-z])", re.IGNORECASE)
_PART = re.compile(r"(.*)-(\d+)-of-(\d+)\.")  # Hugging Face: train-00000-of-00005.parquet
_SHOWN = 4


def natural(name: str) -> tuple[list[tuple[int, str]], str]:
    """Return what puts names in natural order: numbers by value, all else by letters, equals by their whole text."""
    parts = re.split(r"([0-9]+)", name)
    numbers = [(len(part.lstrip("0")), part.lstrip("0")) if odd % 2 else (0, part) for odd, part in enumerate(parts)]
    return numbers, name


def files_of(where: Where | Sequence[Where], format: str | None, role: str) -> list[str]:
    """Return the files of an input, each FILE or FILE::NAME as the caller wrote it.

    Args:
        where: A file, a folder, a pattern with `*`, `?` or `[..]`, or several of them, which stay in their order.
        format: Asked for; None: by the suffix.
        role: What it is used as.

    Raises:
        VectorFileError: A pattern meets nothing, or a folder holds no vectors, or several kinds.
    """
    if not isinstance(where, str | os.PathLike | bytes):
        found = [file for one in where for file in files_of(one, format, role)]
        if not found:
            raise ValueError(f"{role or 'path'} must name at least one file, got none")
        return found
    file, name = split_name(where)
    ending = "" if name is None else f"::{name}"
    if file.is_dir() and folder_format(file, format) is None:
        return [f"{part}{ending}" for part in _in_folder(file, format, role)]
    if not file.exists() and glob.has_magic(str(file)):
        met = [path for path in sorted(glob.glob(str(file)), key=natural) if not path.endswith("~")]
        if not met:
            raise VectorFileError(file, "meets no file")
        return [f"{path}{ending}" for path in met]
    return [os.fsdecode(where)]


def _in_folder(folder: Path, format: str | None, role: str) -> list[Path]:
    """Return the vectors of a folder."""
    files: list[Path] = []
    folders: list[Path] = []
    for entry in folder.iterdir():
        if entry.name[0] in "._" or entry.name.endswith((".unfinished", "~")) or _is_companion(entry, format):
            continue
        (folders if entry.is_dir() and folder_format(entry, format) is None else files).append(entry)
    files.sort(key=lambda path: natural(path.name))
    if folders:
        raise VectorFileError(
            folder, f"holds folders as well as files ({_listed(folders)}); name one of them, or write a pattern"
        )
    if not files:
        raise VectorFileError(folder, "is a folder without vectors")
    if format is None:
        kinds: dict[str, Path] = {}
        for file in files:
            kinds.setdefault(format_of(file, None, role), file)
        if len(kinds) > 1:
            raise VectorFileError(
                folder, f"holds {' and '.join(kinds)}; write a pattern: 'FOLDER/*{next(iter(kinds.values())).suffix}'"
            )
    _refuse_several_meanings(folder, files)
    _refuse_missing_parts(folder, files)
    return files


def _is_companion(path: Path, format: str | None) -> bool:
    ending = path.suffix.removeprefix(".").lower()
    known = ending in FORMATS or ending in ALIASES or (format is not None and ending in _TEXTS)
    return not path.is_dir() and not known and (ending in _COMPANIONS | _TEXTS or path.name in _NAMES)


def _listed(paths: Sequence[Path]) -> str:
    names = sorted((path.name for path in paths), key=natural)
    return ", ".join(names[:_SHOWN]) + (", .." if len(names) > _SHOWN else "")


def _refuse_several_meanings(folder: Path, files: Sequence[Path]) -> None:
    """Refuse a training set and its test set in one folder, or vectors and their neighbours, as one input."""
    roles = {tuple(sorted({word.lower() for word in _ROLE.findall(file.name)})): file for file in files}
    if len(roles) > 1:
        some, other = list(roles.values())[:2]
        said = next((word for file in (some, other) for word in _ROLE.findall(file.name)), "")
        raise VectorFileError(
            folder,
            f"holds files of several meanings ({some.name}, {other.name}); write a pattern: 'FOLDER/*{said}*'",
        )


def _refuse_missing_parts(folder: Path, files: Sequence[Path]) -> None:
    """Refuse a set of which files say that there are more."""
    parts = [match for file in files if (match := _PART.match(file.name))]
    said = {(match[1], int(match[3][:9])) for match in parts}
    for name, n in said:
        there = {int(match[2][:9]) for match in parts if match[1] == name}
        if len(there) < n:
            raise VectorFileError(
                folder, f"holds {len(there)} of {n} parts of {name}; fetch the others, or write a pattern of these"
            )
