"""The answer's file: made from finished raw arrays beside its place, then renamed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from janelia_core.durable import replaced
from janelia_core.extras import import_extra
from janelia_core.files.errors import VectorFileError
from janelia_core.files.formats.contract import Arrays, Rows
from janelia_core.files.formats.raw import RawVectors
from janelia_core.files.formats.registry import Where, format_named, format_of


@dataclass(frozen=True)
class Answer:
    """Where an answer goes.

    Attributes:
        path: Of the indices, and of the distances where the format holds both.
        format: Of path.
        distances: Of the distances alone, or None.
    """

    path: Path
    format: str
    distances: Path | None

    @classmethod
    def at(cls, out: Where, distances: Where | None, format: str | None) -> Answer:
        """Check where an answer is to go, so that no search ends with an answer that cannot be written."""
        path = Path(out)
        name = format_of(path, format)
        if not format_named(name).index_bits:
            raise VectorFileError(path, f"the format {name} holds vectors, no indices; take npy, npz, ivecs, ibin, ...")
        _check_place(path, name)
        if distances is None:
            return cls(path, name, None)
        apart = Path(distances)
        kind = format_of(apart)
        if not format_named(kind).distances:
            raise VectorFileError(apart, f"the format {kind} holds integers, no distances; take npy, fvecs, fbin, ...")
        _check_place(apart, kind)
        if _same(path, apart):
            raise VectorFileError(apart, "is the file of the indices; give the distances one of their own")
        return cls(path, name, apart)

    @property
    def wants_distances(self) -> bool:
        """Whether distances are written at all."""
        return format_named(self.format).several or self.distances is not None

    def check(self, n_ctrs: int, inputs: Sequence[Path]) -> None:
        """Refuse row numbers that the format cannot hold, and to replace an input, before the work."""
        for target in (self.path, self.distances):
            if target is not None:
                check_no_input(target, inputs)
        bits = format_named(self.format).index_bits
        if n_ctrs > 2 ** (bits - 1):
            reason = f"the format {self.format} has int{bits} only, too small for {n_ctrs} centres"
            raise VectorFileError(self.path, reason)

    def write(self, folder: Path, n: int, k: int, distances: torch.dtype | None) -> None:
        """Write the answer from the arrays that a finished stream left in a folder."""
        indices = RawVectors(folder / "indices", 0, n, k, "i8")
        with indices:
            if distances is None:
                _put(self.path, self.format, {"indices": indices})
                return
            measured = RawVectors(folder / "distances", 0, n, k, f"f{distances.itemsize}")
            with measured:
                if self.distances is not None:
                    _put(self.distances, format_of(self.distances), {"distances": measured})
                both: dict[str, Rows] = {"indices": indices, "distances": measured}
                _put(self.path, self.format, both if format_named(self.format).several else {"indices": indices})


def _check_place(path: Path, format: str) -> None:
    """Refuse a place that no file can be renamed to, and a format that cannot be written here."""
    check_place(path)
    writer = format_named(format).writer
    if writer is not None:
        import_extra(writer, "files")


def check_place(path: Path) -> None:
    """Refuse a place that no file can be renamed to."""
    if not path.absolute().parent.is_dir():
        raise VectorFileError(path, "is to be in a folder that does not exist")
    if path.is_dir():
        raise VectorFileError(path, "is a folder")
    if path.exists() and not path.is_file():
        raise VectorFileError(path, "is no regular file, and would be replaced by one")


def check_no_input(target: Path, inputs: Sequence[Path]) -> None:
    """Refuse to replace an input."""
    if any(_same(target, source) for source in inputs):
        raise VectorFileError(target, "is an input of this search, which its answer would replace")


def _same(one: Path, other: Path) -> bool:
    """Tell whether two paths lead to the same file, or would if it existed."""
    if one.exists() and other.exists():
        return one.samefile(other)
    return one.resolve() == other.resolve()


def _put(path: Path, format: str, arrays: Arrays) -> None:
    """Write a file under another name beside its place, put it on the disk, then rename it."""
    beside = path.with_name(f"{path.name}.unfinished~")
    with replaced(path, beside):  # what it removes on failure can be made again from the folder
        format_named(format).write(beside, arrays)
