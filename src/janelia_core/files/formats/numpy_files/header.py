"""The text before the numbers of a `.npy` array, read without Python's parser: that one warns, and may take seconds.

Source: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
"""

from __future__ import annotations

import re
from typing import BinaryIO

MOST_HEADER = 1 << 16  # bytes
KINDS = {
    "O": "Python objects",
    "b": "booleans",
    "c": "complex numbers",
    "U": "text",
    "S": "text",
    "M": "times",
    "m": "times",
    **dict.fromkeys("fiu", "numbers"),
}
"""What numbers of a type are, by its letter, where they are no coordinates."""
_MAGIC = b"\x93NUMPY"
_STRING = r"""'[^'\\]*'|"[^"\\]*\""""
_SHAPE = r"\(\s*(?:\d{1,20}L?\s*(?:,\s*|(?=\))))*\)"  # Python 2 wrote 3L
_FIELD = re.compile(rf"\s*({_STRING})\s*:\s*({_STRING}|True|False|{_SHAPE}|\[[^\]]*\])\s*(?:,|(?=\}}))")
_END = re.compile(r"\s*\}\s*\Z")


def header_fields(file: BinaryIO) -> tuple[dict[str, str], int]:
    """Return "descr", "fortran_order" and "shape" as they are written, and how many bytes there are before the numbers.

    Raises:
        ValueError: This is no header.
    """
    start = file.read(MOST_HEADER)
    if start[:6] != _MAGIC:
        raise ValueError(f"it begins with {start[:6]!r}")
    major, minor = start[6:7], start[7:8]
    if (major, minor) not in ((b"\1", b"\0"), (b"\2", b"\0")):
        raise ValueError(f"version {major.hex()}.{minor.hex()} is none of vectors (1.0 or 2.0)")
    begin = 10 if major == b"\1" else 12
    end = begin + int.from_bytes(start[8:begin], "little")
    if end > len(start):
        raise ValueError(f"it should have {end} bytes, there are {len(start)}")
    return _fields(start[begin:end].decode("latin-1")), end


def _fields(text: str) -> dict[str, str]:
    fields: dict[str, str] = {}
    at = len(text) - len(text.lstrip())
    if text[at : at + 1] != "{":
        raise ValueError(f"{text[:80]!r} is no list of fields")
    at += 1
    while not _END.match(text, at):
        field = _FIELD.match(text, at)
        if field is None or field[1][1:-1] in fields:
            raise ValueError(f"{text[at : at + 80]!r} is no field")
        fields[field[1][1:-1]] = field[2]
        at = field.end()
    if set(fields) != {"descr", "fortran_order", "shape"} or fields["fortran_order"] not in ("True", "False"):
        raise ValueError(f"{text.strip()!r} does not give descr, fortran_order and shape")
    return fields


def shape_of(text: str) -> tuple[int, ...]:
    """Return a shape as it is written.

    Raises:
        ValueError: It is none.
    """
    if re.fullmatch(_SHAPE, text) is None:
        raise ValueError(f"{text!r} is no shape")
    return tuple(int(extent) for extent in re.findall(r"\d+", text))
