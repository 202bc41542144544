"""`.csv`: a line a row, read as float64, with or without a line of names. Decoded once to disk.

Numbers, which may be quoted, are separated by commas, semicolons, tabs or blanks, whichever the first line of them has.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from janelia_core.files.errors import VectorFileError
from janelia_core.files.formats.contract import OPENING, Arrays, Format, VectorFile, blocks, first
from janelia_core.files.formats.csv.fields import NUMBER_LETTERS, blanks_beside, mark_of, split, wrong_line
from janelia_core.files.formats.csv.index import RowNumbers
from janelia_core.files.formats.csv.lines import Lines, many_lines, one_line
from janelia_core.files.formats.csv.names import Head, head_of
from janelia_core.files.formats.named import refuse_name
from janelia_core.files.formats.spool import spooled

_HELD = 16  # times its text that a block of lines takes while it is read
_LARGEST = 2.0**53  # not all integers from here on are float64


def open_csv(
    path: Path, name: str | None, preferred: tuple[str, ...], *, memory: int = OPENING, header: bool | None = None
) -> VectorFile:
    """Open a table of numbers; `header` says whether its first line holds names, None: the line itself."""
    refuse_name(path, name, "table")
    longest = max(memory // 2, 1 << 16)
    with path.open("rb") as file:
        line = one_line(path, file, None, longest)
        after = None if line is None else one_line(path, file, line, longest)
        head, mark = (Head(False), None) if line is None else _first_line(path, line, after, header)
        data = after if head.is_names else line
        if data is None:
            raise VectorFileError(path, "holds no line of numbers", 0)
        fields = split(_bare(data.decoded(path)), mark)
        rows = RowNumbers(path, head, fields, header is not None)
        chunk = min(1 << 19, max(1 << 16, memory // _HELD))
        table = _Table(path, mark, len(fields), rows)
        return spooled(path, rows.d, np.dtype(np.float64), table.blocks(many_lines(path, file, data, chunk, longest)))


def _first_line(path: Path, line: Lines, after: Lines | None, header: bool | None) -> tuple[Head, str | None]:
    """Return what the first line is, and what separates the numbers."""
    text = line.text.decode("utf-8", "replace") if header else line.decoded(path)
    text, next_text = _bare(text), None if after is None else _bare(after.decoded(path))
    mark = mark_of(text)
    may_be_names = header or (header is None and not any(field.is_number for field in split(text, mark)))
    if next_text is not None and may_be_names:
        mark = mark_of(next_text)
    try:
        return head_of(split(text, mark), None if next_text is None else split(next_text, mark), header), mark
    except ValueError as error:
        raise VectorFileError(path, f"line {line.number}: {error}", line.at) from None


def _bare(text: str) -> str:
    return text.rstrip("\r\n")


class _Table:
    """Lines of numbers, read many at a time."""

    def __init__(self, path: Path, mark: str | None, d: int, rows: RowNumbers) -> None:
        self._path, self._mark, self._d, self._rows = path, mark, d, rows
        self._blanks = blanks_beside(mark)
        self._letters = (NUMBER_LETTERS + '"\r\n' + self._blanks + (mark or "")).encode()
        self._between = "[ \t]" if mark is None else mark
        self._quoted = re.compile(rf'(?m)(?:^|(?<={self._between})) *" *([^"\s,;]+) *" *(?=[\r\n]|{self._between}|\Z)')
        self._gap: int | None = None  # number of a blank line

    def blocks(self, parts: Iterable[Lines]) -> Iterator[npt.NDArray[np.float64]]:
        """Yield the rows of all lines, without the columns that number them."""
        for lines in parts:
            yield self._rows.left_out(self._parsed(lines))
        self._rows.ended()

    def _parsed(self, lines: Lines) -> npt.NDArray[np.float64]:
        if lines.text.translate(None, self._letters):
            raise self._wrong(lines, "holds what is no number")
        text = lines.text.decode("ascii")
        if '"' in text:
            text = self._quoted.sub(r"\1", text)
        rows = self._without_blanks(lines, text.splitlines())
        if not rows:
            return np.empty((0, self._d))
        try:
            block = np.loadtxt(rows, np.float64, comments=None, delimiter=self._mark, ndmin=2)
        except ValueError as error:
            raise self._wrong(lines, str(error)) from None
        if block.shape[1] != self._d:
            raise self._wrong(lines, f"there are lines of different lengths: {self._d} and {block.shape[1]} numbers")
        for at in np.flatnonzero((np.abs(block) >= _LARGEST).any(1)):
            if wrong_line(rows[at], self._mark, self._d):
                raise self._wrong(lines, "holds a number that float64 does not")
        return block

    def _without_blanks(self, lines: Lines, rows: list[str]) -> list[str]:
        """Return the lines that are not blank; in a single column a blank one is a value that misses."""
        kept = [row for row in rows if row.strip(self._blanks)]
        if self._d == 1 and kept:
            until = len(rows) - next(at for at, row in enumerate(reversed(rows)) if row.strip(self._blanks))
            if self._gap is not None or until > len(kept):
                raise VectorFileError(
                    self._path, "has a blank line between its numbers, which misses a value", lines.at
                )
        if len(kept) < len(rows):
            self._gap = lines.number
        return kept

    def _wrong(self, lines: Lines, otherwise: str) -> VectorFileError:
        """Return the error of the first line that is wrong."""
        for line in lines.each():
            text = _bare(line.decoded(self._path))
            reason = wrong_line(text, self._mark, self._d) if text.strip(self._blanks) else None
            if reason:
                return VectorFileError(self._path, f"line {line.number}: {reason}", line.at)
        return VectorFileError(self._path, otherwise, lines.at)


def write_csv(path: Path, arrays: Arrays) -> None:
    """Write the first array, each number with as many digits as tell it from all others."""
    with path.open("w", encoding="ascii", newline="\n") as file:
        for at, block in enumerate(blocks(first(arrays))):
            lines = [",".join(map(str, row)) + "\n" for row in block.tolist()]
            if at == 0 and lines and lines[0].rstrip() == ",".join(map(str, range(block.shape[1]))):
                file.write("+")  # 0,1,2 would be read as a line that numbers the columns
            file.writelines(lines)


CSV = Format(open_csv, write_csv, options=("memory", "header"))
