"""Whether parts belong together, and are all there."""

from __future__ import annotations

import glob
import hashlib
import json
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from janelia_core.files.errors import VectorFileError
from janelia_core.files.formats.registry import Where
from janelia_core.files.parts.answer import SUFFIX
from janelia_core.files.parts.part_file import PartFile


def parts_of(given: Where | Sequence[Where]) -> list[PartFile]:
    """Open the parts that a caller names: files, folders of `.part` files, patterns.

    Returns:
        Them in the order of their centres.

    Raises:
        VectorFileError: One of them is none, or not of the same search as the others; or some centres are in none, or
            in two.
    """
    paths = [path for one in ([given] if isinstance(given, str | os.PathLike) else given) for path in _files(one)]
    if not paths:
        raise ValueError("parts must name one file at least")
    files = [PartFile(path) for path in paths]
    tasks = Counter(_text(file) for file in files)
    usual = max(files, key=lambda file: tasks[_text(file)])  # so that the one that is of another search is named
    for file in files:
        _compare(usual, file)
    files.sort(key=lambda file: file.header.ctr_rows)
    _check_tiled(files)
    return files


def identity(files: Sequence[PartFile]) -> str:
    """Return what tells parts from all others."""
    return hashlib.blake2b("".join(file.identity for file in files).encode(), digest_size=16).hexdigest()


def _text(file: PartFile) -> str:
    return json.dumps(file.header.task, sort_keys=True)


def _files(given: Where) -> list[Path]:
    path = Path(os.fsdecode(given))
    if path.is_dir():
        found = sorted(path.glob(f"*{SUFFIX}"))
        if not found:
            raise VectorFileError(path, f"has no {SUFFIX} files")
        return found
    if path.exists() or not any(mark in str(path) for mark in "*?["):
        return [path]
    found = [Path(one) for one in sorted(glob.glob(str(path)))]
    if not found:
        raise VectorFileError(path, "is a pattern that no file matches")
    return found


def _compare(usual: PartFile, other: PartFile) -> None:
    ours, theirs = usual.header, other.header
    for key in [*ours.task, *(theirs.task.keys() - ours.task.keys())]:
        one, two = ours.task.get(key), theirs.task.get(key)
        if one != two:
            told = f"{key} {two!r}, but {usual.path} with {one!r}" if key not in ("centres", "queries") else ""
            reason = f"was searched with {told}" if told else f"is of other {key} than {usual.path}"
            raise VectorFileError(other.path, f"{reason}; all parts must be of one search")


def _check_tiled(files: Sequence[PartFile]) -> None:
    """Check that each centre is in one part, for parts in the order of their centres."""
    first, n = files[0].header.task["centre rows"]
    end, before = first, None
    for file in files:
        start, count = file.header.ctr_rows
        if start > end:
            break
        if start < end and before is not None:
            if file.header.ctr_rows == before.header.ctr_rows:
                raise VectorFileError(file.path, f"is part {file.header}, as {before.path} is: one of them is too many")
            reason = f"is part {file.header} and has centres from {start} on, but {before.path} has those up to {end}"
            raise VectorFileError(file.path, f"{reason} already: all parts must be of the same number of parts")
        end, before = start + count, file
    if end == first + n:
        return
    missing = next((file for file in files if file.header.ctr_rows[0] > end), None)
    upto = first + n if missing is None else missing.header.ctr_rows[0]
    known = missing or files[-1]
    which = _missing(files, known.header.part[1])
    told = f"a part is missing{which}: no file has centres {end} to {upto - 1}"
    near = f"{before.path} ends before them" if before is not None else f"{known.path} begins after them"
    raise VectorFileError(known.path if before is None else before.path, f"{told}; {near}")


def _missing(files: Sequence[PartFile], count: int) -> str:
    """Return which numbers of so many parts are missing, in words; nothing, where parts are of several numbers."""
    if any(file.header.part[1] != count for file in files):
        return ""
    left = sorted(set(range(count)) - {file.header.part[0] for file in files})
    some = ", ".join(f"{number}/{count}" for number in left[:5])
    return f" ({some}{', ..' if len(left) > 5 else ''})" if left else ""
