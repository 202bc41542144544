"""Which of a file's arrays is meant, by its name or by what the file is used as."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from janelia_core.files.errors import VectorFileError

ROLES: dict[str, tuple[str, ...]] = {
    "centres": ("train", "centres", "ctrs", "vectors"),
    "queries": ("test", "queries", "x", "vectors"),
    "indices": ("neighbors", "indices"),
    "distances": ("distances",),
    "labels": ("labels",),
    "": ("vectors",),
}
"""Which of several arrays is taken when none is named, by what the file is used as."""


def refuse_name(path: Path, name: str | None, what: str = "array") -> None:
    """Raise VectorFileError where one of several arrays is asked for in a file of a single one."""
    if name is not None:
        raise VectorFileError(path, f"holds one {what} without a name, not {name!r}")


def choose(path: Path, names: Sequence[str], name: str | None, preferred: Sequence[str]) -> str:
    """Return the array asked for by name, else the first preferred one there is, else the only one."""
    shown = ", ".join(names[:12]) + (", ..." if len(names) > 12 else "")
    if name is not None:
        if name not in names:
            raise VectorFileError(path, f"holds no array {name!r}; it holds: {shown or 'none'}")
        return name
    for wanted in preferred:
        if wanted in names:
            return wanted
    if len(names) != 1:
        raise VectorFileError(path, f"holds {len(names)} arrays, say which: {path}::NAME; it holds: {shown or 'none'}")
    return names[0]
