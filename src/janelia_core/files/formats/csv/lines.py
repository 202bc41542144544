"""Lines of a text file, one by one or many at a time, with their place in the file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from janelia_core.files.errors import VectorFileError

_BOM = b"\xef\xbb\xbf"


class Lines(NamedTuple):
    """Whole lines, one after the other, that end as on Unix, Windows or old Macs.

    Attributes:
        number: Of the first, from 1.
        at: Its first byte in the file.
        text: Their bytes.
    """

    number: int
    at: int
    text: bytes

    @property
    def after(self) -> tuple[int, int]:
        """Number and first byte of the line that comes after."""
        ends = self.text.count(b"\n")
        if b"\r" in self.text:  # rare: counting pairs takes as long as a tenth of the parsing
            ends += self.text.count(b"\r") - self.text.count(b"\r\n")
        return self.number + ends, self.at + len(self.text)

    def decoded(self, path: Path) -> str:
        """Return the text, which must be UTF-8."""
        try:
            return self.text.decode("utf-8")
        except UnicodeDecodeError as error:
            hint = "; it begins as UTF-16, save it as UTF-8" if self.text[:2] in {b"\xff\xfe", b"\xfe\xff"} else ""
            raise VectorFileError(path, f"is no text: {error.reason}{hint}", self.at + error.start) from None

    def each(self) -> Iterator[Lines]:
        """Yield them one by one."""
        number, at = self.number, self.at
        for text in self.text.splitlines(keepends=True):
            yield Lines(number, at, text)
            number, at = number + 1, at + len(text)


def one_line(path: Path, file: BinaryIO, before: Lines | None, longest: int) -> Lines | None:
    """Return the next line that is not blank, or None; without the mark that UTF-8 files may begin with."""
    number, at = (1, 0) if before is None else before.after
    if before is None and file.read(len(_BOM)) == _BOM:
        at = len(_BOM)
    while True:
        file.seek(at)
        text = file.readline(longest + 1)
        ended = text.find(b"\r") + 1
        if ended and text[ended : ended + 1] != b"\n":
            text = text[:ended]
        if len(text) > longest:
            raise too_long(path, at, longest)
        line = Lines(number, at, text)
        if not text or text.strip(b" \t\r\n"):
            return line if text else None
        number, at = line.after


def many_lines(path: Path, file: BinaryIO, head: Lines, size: int, longest: int) -> Iterator[Lines]:
    """Yield all lines from `head` on, about `size` bytes at a time."""
    number, at, rest = head.number, head.at, b""
    file.seek(at)
    while data := file.read(size):
        text = rest + data
        # a \r at the end may be half of \r\n
        cut = text.rfind(b"\n") + 1 or text.rfind(b"\r", 0, -1) + 1
        if not cut and len(text) > longest:
            raise too_long(path, at, longest)
        rest = text[cut:]
        if cut:
            lines = Lines(number, at, text[:cut])
            yield lines
            number, at = lines.after
    if rest:
        yield Lines(number, at, rest)


def too_long(path: Path, at: int, longest: int) -> VectorFileError:
    """Return the error of a line that would take too much memory."""
    return VectorFileError(path, f"has a line longer than {longest} bytes; give more memory with --max-memory", at)
