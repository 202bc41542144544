"""The error of files that cannot be what their name says, and how any error is said in one printable line."""

from __future__ import annotations

from os import PathLike, fsdecode

MOST = 256
"""Characters of what is said about one file; the name of the command before it stays within 300."""
_PATH = 120  # of them for the path, where the reason needs the others


def printable(text: str, most: int = MOST) -> str:
    """Return a text with what no terminal should be sent as escapes, and its middle left out where it is too long.

    Control characters, ends of lines, marks that turn the direction of writing and bytes of no encoding are escaped; a
    letter of any language is not.
    """
    if len(text) > most:  # a header may hold megabytes: what will be left out is not looked at
        text = text[:most] + text[-most:]
        cut = True
    else:
        cut = False
    shown = text if text.isprintable() else "".join(map(_escaped, text))
    if not cut and len(shown) <= most:
        return shown
    head = (most - 5) * 2 // 3
    return f"{shown[:head]} ... {shown[len(shown) - (most - 5 - head) :]}"


def _escaped(character: str) -> str:
    code = ord(character)
    if character.isprintable():
        return character
    if 0xDC80 <= code <= 0xDCFF:  # a byte of a name that is no UTF-8
        return f"\\x{code - 0xDC00:02x}"
    return character.encode("unicode_escape").decode("ascii")


def one_line(text: str, most: int = MOST) -> str:
    """Return a text of any origin as one line of at most so many printable characters."""
    if len(text) > 16 * most:
        text = f"{text[: 8 * most]} ... {text[-8 * most :]}"
    return printable(" ".join(text.split()), most)


def error_line(error: BaseException, most: int = MOST) -> str:
    """Return what an error says in one line: of the system's, the file and the reason without the number."""
    if isinstance(error, OSError) and error.strerror:
        reason = one_line(error.strerror, most)
        return f"{printable(str(error.filename), most - len(reason) - 2)}: {reason}" if error.filename else reason
    return one_line(str(error) or type(error).__name__, most)


class VectorFileError(ValueError):
    """A file is not what it should be: one line with the file, where in it, and why.

    Attributes:
        path: The file.
        reason: What is wrong.
        offset: Byte at which it is wrong, or None.
    """

    def __init__(self, path: str | PathLike[str], reason: str, offset: int | None = None) -> None:
        self.path, self.reason, self.offset = path, reason, offset
        where = "" if offset is None else f" at byte {offset}"
        said = one_line(reason)
        file = printable(fsdecode(path), max(_PATH, MOST - len(where) - 2 - len(said)))
        super().__init__(f"{file}{where}: {one_line(said, MOST - len(where) - 2 - len(file))}")

    def __reduce__(self) -> tuple[type[VectorFileError], tuple[str | PathLike[str], str, int | None]]:
        return type(self), (self.path, self.reason, self.offset)
