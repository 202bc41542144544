"""Which of a file's arrays is meant."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from janelia_core.files.errors import VectorFileError


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
