"""A file of vectors as callers name it, opened."""

from __future__ import annotations

from dataclasses import dataclass, replace

from janelia_core.files.formats.contract import MEMORY, OPENING, Reading, VectorFile
from janelia_core.files.formats.registry import Where, open_file, split_name


@dataclass(frozen=True)
class Input:
    """A file of vectors, and how it is to be read where the file does not say it itself.

    Attributes:
        where: The file, or FILE::NAME for one of several arrays in it.
        format: One of `FORMATS`; None: by the suffix.
        header: Whether the first line of a table (`.csv`) holds names; None: the table decides.
        shape: (n, d) of raw memory; n None: as many rows as there are.
        stored: The numbers of raw memory: "float32", "uint8", ">f8", ..
    """

    where: Where
    format: str | None = None
    header: bool | None = None
    shape: tuple[int | None, int] | None = None
    stored: str | None = None

    @classmethod
    def of(cls, given: Where | Input, format: str | None = None) -> Input:
        """Return what a caller gave as an input; its own format goes before `format`."""
        if isinstance(given, Input):
            return given if given.format is not None else replace(given, format=format)
        return cls(given, format)

    @property
    def name(self) -> str | None:
        """Which of several arrays of the file is meant, where a caller says it."""
        return split_name(self.where)[1]

    def opened(self, role: str, memory: int = MEMORY, opening: int = OPENING) -> VectorFile:
        """Open it, used as `role`, for reading within so many bytes; opening may take bytes of its own."""
        return open_file(self.where, self.format, role, Reading(memory, opening, self.header, self.shape, self.stored))


def open_vectors(path: Where | Input, format: str | None = None, *, role: str = "") -> VectorFile:
    """Open a file of vectors and read its header; the vectors are read when they are asked for.

    Args:
        path: The file, or FILE::NAME for one of several arrays in it, or an `Input` that says more.
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
