"""`.csv`: a line a row, read as float64, with or without a line of names. Decoded once to disk.

Numbers are separated by commas, semicolons, tabs or blanks, whichever the first line of numbers has.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from janelia_core.files.errors import VectorFileError
from janelia_core.files.formats.contract import Arrays, Format, VectorFile, blocks, first
from janelia_core.files.formats.named import refuse_name
from janelia_core.files.formats.spool import spooled

_LONGEST = 1 << 24  # bytes of a line
_CHUNK = 1 << 20


def open_csv(path: Path, name: str | None, preferred: tuple[str, ...]) -> VectorFile:
    """Open a table of numbers."""
    refuse_name(path, name, "table")
    with path.open("rb") as file:
        lines = _lines(path, file)
        head = next(lines, None)
        if head is not None and not _is_numbers(head[1]):
            head = next(lines, None)  # the line before holds names
        if head is None:
            raise VectorFileError(path, "holds no line of numbers", 0)
        separator = next((mark for mark in ",;\t" if mark in head[1]), None)
        d = _parsed(path, [head], separator).shape[1]
        return spooled(path, d, np.dtype(np.float64), _blocks(path, head, lines, separator, d))


def _lines(path: Path, file: BinaryIO) -> Iterator[tuple[int, str]]:
    """Yield the offset and the text of every line that is not blank."""
    at = 0
    while line := file.readline(_LONGEST):
        if len(line) == _LONGEST:
            raise VectorFileError(path, f"has a line longer than {_LONGEST} bytes", at)
        try:
            text = line.decode("ascii" if at else "utf-8-sig").strip()
        except UnicodeDecodeError as error:
            raise VectorFileError(path, f"is no text: {error.reason}", at + error.start) from None
        if text:
            yield at, text
        at += len(line)


def _is_numbers(text: str) -> bool:
    for mark in ",;\t":
        text = text.replace(mark, " ")
    try:
        return len([float(part) for part in text.split()]) > 0
    except ValueError:
        return False


def _parsed(path: Path, lines: list[tuple[int, str]], separator: str | None) -> npt.NDArray[np.float64]:
    try:
        return np.loadtxt([text for _, text in lines], np.float64, comments=None, delimiter=separator, ndmin=2)
    except ValueError as error:
        for at, text in lines:  # which line was it?
            try:
                np.loadtxt([text], np.float64, comments=None, delimiter=separator, ndmin=2)
            except ValueError as wrong:
                raise VectorFileError(path, str(wrong).partition(" at row")[0], at) from error
        raise VectorFileError(path, f"holds lines of different lengths: {error}", lines[0][0]) from error


def _blocks(
    path: Path, head: tuple[int, str], lines: Iterator[tuple[int, str]], separator: str | None, d: int
) -> Iterator[npt.NDArray[np.float64]]:
    pending, size = [head], len(head[1])
    for line in lines:
        pending.append(line)
        size += len(line[1])
        if size >= _CHUNK:
            yield _of_width(path, _parsed(path, pending, separator), d, pending[0][0])
            pending, size = [], 0
    if pending:
        yield _of_width(path, _parsed(path, pending, separator), d, pending[0][0])


def _of_width(path: Path, block: npt.NDArray[np.float64], d: int, at: int) -> npt.NDArray[np.float64]:
    if block.shape[1] != d:
        raise VectorFileError(path, f"has lines of {d} and of {block.shape[1]} numbers", at)
    return block


def write_csv(path: Path, arrays: Arrays) -> None:
    """Write the first array, each number with as many digits as tell it from all others."""
    with path.open("w", encoding="ascii", newline="\n") as file:
        for block in blocks(first(arrays)):
            file.writelines(",".join(map(str, row)) + "\n" for row in block.tolist())


CSV = Format(open_csv, write_csv)
