"""Vectors as callers name them, one file or several, opened."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from janelia_core.files.formats.contract import MEMORY, OPENING, Reading, VectorFile
from janelia_core.files.formats.registry import Where, open_file, split_name, suffix_of
from janelia_core.files.inputs.several import Several
from janelia_core.files.inputs.which_files import files_of
from janelia_core.suffixes import ALIASES, FORMATS, READ_ONLY


@dataclass(frozen=True)
class Input:
    """A file of vectors or several as one, and how they are to be read where they do not say it themselves.

    Attributes:
        where: The file, or FILE::NAME for one of several arrays in it; a folder, or a pattern as `base.*.fbin`, whose
            files are taken in natural order (part.2 before part.10); or several of all these, in their order.
        format: One of `FORMATS`; None: by the suffix.
        header: Whether the first line of a table (`.csv`) holds names; None: the table decides.
        shape: (n, d) of raw memory; n None: as many rows as there are.
        stored: The numbers of raw memory, and of `.bin`: "float32", "uint8", ">f8", ..
    """

    where: Where | Sequence[Where]
    format: str | None = None
    header: bool | None = None
    shape: tuple[int | None, int] | None = None
    stored: str | None = None

    @classmethod
    def of(cls, given: Where | Sequence[Where] | Input, format: str | None = None) -> Input:
        """Return what a caller gave as an input; its own format goes before `format`."""
        if isinstance(given, Input):
            return given if given.format is not None else replace(given, format=format)
        return cls(given, format)

    @property
    def all(self) -> list[Where]:
        """What the caller named: one, or several."""
        return [self.where] if isinstance(self.where, str | os.PathLike | bytes) else list(self.where)

    @property
    def name(self) -> str | None:
        """Which of several arrays of the file is meant, where a caller says it."""
        named = {split_name(one)[1] for one in self.all} - {None}
        return ", ".join(sorted(name for name in named if name)) if named else None

    def rounded(self, dtype: torch.dtype | str | None) -> Input:
        """Return the input of a search whose numbers are rounded to `dtype`: of raw memory it says what is stored."""
        if dtype is None or self.stored is not None or self._format != "raw":
            return self
        return replace(self, stored=str(dtype).removeprefix("torch."))

    def opened(self, role: str, memory: int = MEMORY, opening: int = OPENING) -> VectorFile:
        """Open it, used as `role`, for reading within so many bytes; opening may take bytes of its own."""
        reading, format = Reading(memory, opening, self.header, self.shape, self.stored), self._format
        files = files_of(self.where, format, role)
        if len(files) == 1:
            return open_file(files[0], format, role, reading)
        given = os.fsdecode(self.all[0]) if len(self.all) == 1 else f"{files[0]} .. {files[-1]}"
        return Several(Path(given), files, lambda file: open_file(file, format, role, reading))

    @property
    def _format(self) -> str | None:
        """The format asked for; None: by the suffix. A shape is of raw memory, whatever its suffix."""
        if self.format is not None:
            return self.format.lower()
        endings = {suffix_of(split_name(one)[0]).format for one in self.all}
        raw = endings == {"raw"} or (self.shape is not None and not endings & {*FORMATS, *READ_ONLY, *ALIASES})
        return "raw" if raw else None


def open_vectors(path: Where | Sequence[Where] | Input, format: str | None = None, *, role: str = "") -> VectorFile:
    """Open a file of vectors and read its header; the vectors are read when they are asked for.

    Args:
        path: The file, or FILE::NAME for one of several arrays in it; a folder, a pattern, several files; or an
            `Input` that says more.
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
    return Input.of(path, format).opened(role)
