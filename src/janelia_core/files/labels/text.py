"""Labels as text, as DiskANN reads them: a line a row, labels between commas; decoded once to disk.

Labels are texts, and the same text is the same label in both files. A line without any is a row without labels.

Source: https://github.com/microsoft/DiskANN, "Filtered indices".
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from janelia_core.files.errors import VectorFileError
from janelia_core.files.formats.raw import RawVectors
from janelia_core.files.formats.spool import nameless, put
from janelia_core.files.labels.compressed import CompressedLabels

_LONGEST = 1 << 20  # bytes of a line
_AT_A_TIME = 1 << 16  # labels


def open_text(path: Path, numbers: dict[str, int]) -> CompressedLabels:
    """Open labels, numbered in the order in which they first come.

    Args:
        path: The file.
        numbers: The numbers of labels met so far; the file adds its own.
    """
    with nameless(path, 0) as ends, nameless(path, 0) as labels:
        n = pairs = 0
        put(path, ends, np.zeros(1, np.int64), None)
        for lines in _parts(path):
            found = [numbers.setdefault(word, len(numbers)) for line in lines for word in line]
            put(path, labels, np.array(found, np.int64), None)
            put(path, ends, pairs + np.cumsum([len(line) for line in lines], dtype=np.int64), None)
            n, pairs = n + len(lines), pairs + len(found)
        begins = RawVectors(path, 0, n + 1, 1, "i8", fd=os.dup(ends))
        return CompressedLabels(
            path, begins, RawVectors(path, 0, pairs, 1, "i8", fd=os.dup(labels)), len(numbers), named=True
        )


def _parts(path: Path) -> Iterator[list[list[str]]]:
    """Yield the labels of some lines after the other."""
    part: list[list[str]] = []
    at = held = 0
    with path.open("rb") as file:
        while line := file.readline(_LONGEST):
            if len(line) == _LONGEST:
                raise VectorFileError(path, f"has a line longer than {_LONGEST} bytes", at)
            try:
                text = line.decode("utf-8-sig" if at == 0 else "utf-8")
            except UnicodeDecodeError as error:
                raise VectorFileError(path, f"is no text: {error.reason}", at + error.start) from None
            words = [word.strip() for word in text.split(",")] if text.strip() else []
            if not all(words) or "\0" in text:
                raise VectorFileError(path, f"has an empty label in the line {text.strip()!r}", at)
            part.append(words)
            at, held = at + len(line), held + 1 + len(words)
            if held >= _AT_A_TIME:
                yield part
                part, held = [], 0
    if part:
        yield part
