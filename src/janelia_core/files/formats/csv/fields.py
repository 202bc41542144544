"""Fields of a line of a `.csv`: where they are, what a number is, and which one is wrong."""

from __future__ import annotations

import re
from typing import NamedTuple

MARKS = ";,\t"
"""What separates numbers where a line has it, the first of them before the others; else blanks do.

Where semicolons do, commas are those of decimal numbers, which are refused.
"""
DECIMAL_COMMAS = "; decimal commas are not read, write 1.5"
NUMBER_LETTERS = "0123456789+-.eE nNaAiIfFtTyY"
"""All that a number may be made of, and blanks around it."""

_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?", re.ASCII | re.IGNORECASE)
_WORD = re.compile(r"[+-]?(?:nan|inf|infinity)", re.ASCII | re.IGNORECASE)
_BY_BLANKS = re.compile(r'"[^"]*"|[^"\s]+|"')
_SHOWN = 40


class Field(NamedTuple):
    """One field of a line, without its quotes and the blanks around it."""

    text: str
    quoted: bool

    @property
    def is_word(self) -> bool:
        """Whether it is nan or inf, which is a number, but also a name."""
        return _WORD.fullmatch(self.text) is not None

    @property
    def is_number(self) -> bool:
        """Whether it is a number as C and NumPy write it; 1_000, 0x1F and digits of other scripts are none."""
        return _NUMBER.fullmatch(self.text) is not None or self.is_word

    @property
    def is_digits(self) -> bool:
        """Whether it is an integer written without point and exponent."""
        return self.text.isascii() and self.text.lstrip("+-").isdigit()

    def __str__(self) -> str:
        return repr(self.text if len(self.text) <= _SHOWN else self.text[:_SHOWN] + "...")


def mark_of(line: str) -> str | None:
    """Return what separates the fields of a line, None: blanks."""
    bare = re.sub(r'"[^"]*"', "", line)
    return next((mark for mark in MARKS if mark in bare), None)


def blanks_beside(mark: str | None) -> str:
    """Return what may stand around a number that `mark` separates."""
    return " " if mark == "\t" else " \t"


def split(line: str, mark: str | None) -> list[Field]:
    """Return the fields of a line; a mark between quotes separates none."""
    blanks = blanks_beside(mark)
    if mark is None:
        found = _BY_BLANKS.findall(line)
    elif '"' in line:
        found = re.findall(rf'(?:^|{mark})((?:[{blanks}]*"(?:[^"]|"")*"[{blanks}]*(?={mark}|$))|[^{mark}]*)', line)
    else:
        found = line.split(mark)
    fields = []
    for text in (text.strip(blanks) for text in found):
        quoted = len(text) > 1 and text[0] == text[-1] == '"'
        fields.append(Field(text[1:-1].replace('""', '"').strip() if quoted else text, quoted))
    return fields


def wrong_number(field: Field) -> str | None:
    """Return why a field cannot be taken as the float64 nearest to it, or None.

    Fractions are rounded to the nearest float64, however small; integers are not: two row numbers or hashes that
    become one would be neighbours at distance 0.
    """
    if not field.text:
        return "is empty"
    if not field.is_number:
        hint = DECIMAL_COMMAS if "," in field.text else ""
        return f"is {field}, which is no number{hint}"
    value = float(field.text)
    if abs(value) == float("inf") and not field.is_word:
        return f"is {field}, more than float64 holds"
    if field.is_digits and abs(value) >= 2**53:
        sign = -1 if field.text[0] == "-" else 1
        if sign * int(field.text.lstrip("+-0")) != int(value):
            return f"is {field}, an integer that float64 does not hold; write it as a fraction if it may be rounded"
    return None


def wrong_line(line: str, mark: str | None, d: int | None) -> str | None:
    """Return what is wrong in a line that should hold d numbers (None: any), or None."""
    fields = split(line, mark)
    wrong = (f"field {at} {why}" for at, field in enumerate(fields, 1) if (why := wrong_number(field)))
    first = next(wrong, None)
    if d is not None and len(fields) != d:
        return f"there are lines of different lengths: {d} fields before, {len(fields)} here" + (
            f"; {first}" if first else ""
        )
    return first
