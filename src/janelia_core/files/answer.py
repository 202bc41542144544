"""The answer's file: made from finished raw arrays beside its place, then renamed."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import torch

from janelia_core.files.contract import Arrays, Rows
from janelia_core.files.errors import VectorFileError
from janelia_core.files.formats import FORMATS, Where, format_of
from janelia_core.files.journal import sync_folder
from janelia_core.files.raw import RawVectors

_INT32 = ("ivecs", "ibin")
_NO_INDICES = ("fvecs", "bvecs", "fbin", "u8bin", "i8bin")


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
        """Check where an answer is to go."""
        path = Path(out)
        name = format_of(path, format)
        if name in _NO_INDICES:
            raise VectorFileError(path, f"the format {name} holds vectors, no indices; take npy, npz, ivecs, ibin, ...")
        apart = None if distances is None else Path(distances)
        for target in (path, *([apart] if apart else [])):
            format_of(target, name if target == path else None)
            if not target.absolute().parent.is_dir():
                raise VectorFileError(target, "is to be in a folder that does not exist")
            if target.is_dir():
                raise VectorFileError(target, "is a folder")
        return cls(path, name, apart)

    @property
    def wants_distances(self) -> bool:
        """Whether distances are written at all."""
        return FORMATS[self.format].several or self.distances is not None

    def check(self, n_ctrs: int) -> None:
        """Refuse row numbers that the format cannot hold, before the work."""
        if self.format in _INT32 and n_ctrs > 2**31:
            raise VectorFileError(self.path, f"the format {self.format} has int32 only, too small for {n_ctrs} centres")

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
                _put(self.path, self.format, both if FORMATS[self.format].several else {"indices": indices})


def _put(path: Path, format: str, arrays: Arrays) -> None:
    """Write a file under another name beside its place, put it on the disk, then rename it."""
    beside = path.with_name(f"{path.name}.unfinished~")
    FORMATS[format].write(beside, arrays)
    with beside.open("rb+") as file:
        os.fsync(file.fileno())
    os.replace(beside, path)
    sync_folder(path.absolute().parent)
