"""A pair of files of labels, those of the centres and those of the queries, opened."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from janelia_core.files.errors import VectorFileError
from janelia_core.files.formats.contract import VectorFile
from janelia_core.files.formats.registry import Where
from janelia_core.files.inputs.input import Input
from janelia_core.files.labels.integers import IntegerLabels
from janelia_core.files.labels.lists import LabelFile
from janelia_core.files.labels.spmat import SparseLabels
from janelia_core.files.labels.text import TextLabels

_TEXT = (".txt", ".labels")


@contextlib.contextmanager
def opened_labels(
    labels: tuple[Where, Where], centres: VectorFile, queries: VectorFile
) -> Iterator[tuple[LabelFile, LabelFile]]:
    """Open the labels of centres and of queries, as many rows as these have.

    Raises:
        VectorFileError: They have not, or one names its labels and the other numbers them.
    """
    numbers: dict[str, int] = {}
    with contextlib.ExitStack() as stack:
        found = [stack.enter_context(_open(where, numbers)) for where in labels]
        for file, vectors in zip(found, (centres, queries), strict=True):
            if file.n != vectors.n:
                raise VectorFileError(file.path, f"has {file.n} rows of labels, but {vectors.path} has {vectors.n}")
        if len({isinstance(file, TextLabels) for file in found}) == 2:
            raise VectorFileError(
                found[1].path, f"and {found[0].path} cannot share labels: one is text, the other numbers its labels"
            )
        yield found[0], found[1]


def _open(where: Where, numbers: dict[str, int]) -> LabelFile:
    path = Path(where)
    if not path.exists() and "::" not in str(where):
        raise FileNotFoundError(f"{path}: there is no such file")
    suffix = path.suffix.lower()
    if suffix == ".spmat":
        return SparseLabels(path)
    return TextLabels(path, numbers) if suffix in _TEXT else IntegerLabels(Input(where).opened("labels"))
