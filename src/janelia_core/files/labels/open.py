"""A pair of files of labels, those of the centres and those of the queries, opened."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from janelia_core.files.errors import VectorFileError
from janelia_core.files.formats.contract import VectorFile
from janelia_core.files.formats.registry import Where, split_name
from janelia_core.files.inputs.input import Input
from janelia_core.files.labels.integers import IntegerLabels
from janelia_core.files.labels.lists import LabelFile, Lists
from janelia_core.files.labels.shared import Shared
from janelia_core.files.labels.spmat import open_spmat
from janelia_core.files.labels.text import open_text

MATCHES = ("any", "all")
_TEXT = (".txt", ".labels")
_PER_ROW, _PER_LABEL = 24, 72  # bytes: lists, sorted keys, and what sorting takes


class Asked(NamedTuple):
    """Which labels a search is asked to go by.

    Attributes:
        files: Of the centres, of the queries.
        match: "any": a query meets centres that have one of its labels; "all": those that have all of them.
    """

    files: tuple[Where, Where]
    match: str = "any"

    def paths(self) -> tuple[Path, Path]:
        """Return the files, without names of arrays."""
        base, query = (split_name(where)[0] for where in self.files)
        return base, query


class Labels:
    """The labels of centres and of queries, of which those of the last block of each are in memory.

    Attributes:
        row_bytes: Bytes that the labels of a query and of a centre take in memory, on average.
    """

    def __init__(self, centres: LabelFile, queries: LabelFile, every: bool) -> None:
        self._centres, self._queries, self._every = centres, queries, every
        self._read = functools.lru_cache(maxsize=2)(_read)
        self.row_bytes = tuple(_PER_ROW + _PER_LABEL * file.n_pairs // max(1, file.n) for file in (queries, centres))

    def shared(self, queries: tuple[int, int], centres: tuple[int, int]) -> Shared:
        """Return what rows start .. stop - 1 of the queries and of the centres have in common."""
        ours, theirs = self._read(self._queries, *queries), self._read(self._centres, *centres)
        return Shared(ours, queries[1] - queries[0], theirs, centres[1] - centres[0], self._every)

    def are_shared(self, first: int, centres: Tensor) -> Tensor:
        """Return (r, k) bool: may queries first, first + 1 .. be answered with these centres (r, k)? -1: no."""
        numbers, place = torch.unique(centres, return_inverse=True)
        parts = [self._read_one(int(number)) for number in numbers]
        counts = torch.tensor([len(part) for part in parts])
        theirs = Lists(torch.repeat_interleave(torch.arange(len(parts)), counts), torch.cat(parts))
        rows = (first, first + len(centres))
        shared = Shared(self._read(self._queries, *rows), len(centres), theirs, len(parts), self._every)
        tile = shared(torch.arange(len(centres)), 0, len(parts)) & (numbers >= 0)
        return torch.gather(tile, 1, place)

    def _read_one(self, number: int) -> Tensor:
        return self._centres.read(number, number + 1).label if number >= 0 else torch.empty(0, dtype=torch.int64)


@contextlib.contextmanager
def opened_labels(asked: Asked, centres: VectorFile, queries: VectorFile) -> Iterator[Labels]:
    """Open the labels of centres and of queries, as many rows as these have.

    Raises:
        VectorFileError: They have not, or one names its labels and the other numbers them.
    """
    numbers: dict[str, int] = {}
    if asked.match not in MATCHES:
        raise ValueError(f"labels_match must be one of {', '.join(MATCHES)}, got {asked.match!r}")
    with contextlib.ExitStack() as stack:
        found = [stack.enter_context(_open(where, numbers)) for where in asked.files]
        for file, vectors in zip(found, (centres, queries), strict=True):
            if file.n != vectors.n:
                raise VectorFileError(file.path, f"has {file.n} rows of labels, but {vectors.path} has {vectors.n}")
        if len({file.named for file in found}) == 2:
            raise VectorFileError(
                found[1].path, f"and {found[0].path} cannot share labels: one is text, the other numbers its labels"
            )
        yield Labels(found[0], found[1], asked.match == "all")


def _read(file: LabelFile, start: int, stop: int) -> Lists:
    return file.read(start, stop)


def _open(where: Where, numbers: dict[str, int]) -> LabelFile:
    path = Path(where)
    if not path.exists() and "::" not in str(where):
        raise FileNotFoundError(f"{path}: there is no such file")
    suffix = path.suffix.lower()
    if suffix == ".spmat":
        return open_spmat(path)
    return open_text(path, numbers) if suffix in _TEXT else IntegerLabels(Input(where).opened("labels"))
