"""Datasets of an HDF5 file by name: found in bounded time, and never in another file."""

from __future__ import annotations

from collections import deque
from pathlib import Path
from typing import Any

from janelia_core.extras import import_extra
from janelia_core.files.errors import VectorFileError
from janelia_core.files.formats.named import choose

_MOST = 500  # links that are looked at where no dataset is named
_DEPTH = 16  # soft links that lead to soft links


def find_dataset(path: Path, file: Any, name: str | None, preferred: tuple[str, ...]) -> tuple[str, Any]:
    """Return the name and the identifier of the dataset asked for, of the first preferred one, or of the only one.

    Args:
        path: The file, for messages.
        file: The same, open.
        name: One that is asked for, with the groups that it lies in.
        preferred: Names of which the first in the root that there is is taken, where none is asked for.
    """
    h5py = import_extra("h5py", "files")
    for wanted in preferred if name is None else (name,):
        found = _Links(h5py, path, file.id).at(file.id, wanted.encode("utf-8", "surrogateescape"), wanted, _DEPTH)
        if isinstance(found, h5py.h5d.DatasetID) and (name is not None or is_matrix(h5py, found)):
            return wanted, found
    names, whole = _matrices(h5py, file.id)
    if not whole and name is None:
        raise VectorFileError(path, f"holds more than {_MOST} objects; say which is meant: FILE::NAME")
    chosen = choose(path, sorted(names), name, preferred)
    return chosen, names[chosen]


def is_matrix(h5py: Any, dataset: Any) -> bool:
    """Tell whether a dataset has rows and columns; a virtual one is not asked, as it may look them up elsewhere."""
    if dataset.get_create_plist().get_layout() == h5py.h5d.VIRTUAL:
        return True
    space = dataset.get_space()
    return bool(space.get_simple_extent_type() == h5py.h5s.SIMPLE and space.get_simple_extent_ndims() == 2)


class _Links:
    """Links of one file, followed within it."""

    def __init__(self, h5py: Any, path: Path, root: Any) -> None:
        self._h5py, self._path, self._root = h5py, path, root

    def at(self, group: Any, where: bytes, name: str, depth: int) -> Any:
        """Return what lies at a path from a group on, None if nothing does."""
        if depth == 0:
            raise VectorFileError(self._path, f"{name} is a link to a link to a link, and so on")
        found = self._root if where.startswith(b"/") else group
        for part in where.split(b"/"):
            if part in (b"", b"."):
                continue
            if not isinstance(found, self._h5py.h5g.GroupID) or not found.links.exists(part):
                return None
            found = self._behind(found, part, name, depth)
        return found

    def _behind(self, group: Any, part: bytes, name: str, depth: int) -> Any:
        kind = group.links.get_info(part).type
        if kind == self._h5py.h5l.TYPE_HARD:
            return self._h5py.h5o.open(group, part)
        if kind == self._h5py.h5l.TYPE_SOFT:
            return self.at(group, group.links.get_val(part), name, depth - 1)
        raise VectorFileError(self._path, f"{name} is a link out of this file, which is not followed; open its target")


def _matrices(h5py: Any, root: Any) -> tuple[dict[str, Any], bool]:
    """Return datasets of two dimensions by name, the nearest first, and whether these are all behind hard links."""
    found: dict[str, Any] = {}
    groups = deque([("", root)])
    seen = {h5py.h5o.get_info(root).addr}
    looked = 0
    while groups:
        prefix, group = groups.popleft()
        for part in _parts(h5py, group):
            looked += 1
            if looked > _MOST:
                return found, False
            if group.links.get_info(part).type != h5py.h5l.TYPE_HARD:
                continue
            item = h5py.h5o.open(group, part)
            name = prefix + part.decode("utf-8", "surrogateescape")
            if isinstance(item, h5py.h5d.DatasetID) and is_matrix(h5py, item):
                found[name] = item
            elif isinstance(item, h5py.h5g.GroupID) and (where := h5py.h5o.get_info(item).addr) not in seen:
                seen.add(where)
                groups.append((f"{name}/", item))
    return found, True


def _parts(h5py: Any, group: Any) -> list[bytes]:
    """Return the names of a group's links, of a vast group only the first."""
    parts: list[bytes] = []

    def note(part: bytes) -> bool | None:
        parts.append(part)
        return True if len(parts) > _MOST else None

    group.links.iterate(note, idx_type=h5py.h5.INDEX_NAME, order=h5py.h5.ITER_NATIVE)
    return parts
