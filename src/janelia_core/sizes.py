"""Sizes, ranges and times as people write them: 128MiB, 2GB, 0:10000, 3.5 min."""

from __future__ import annotations

import re

_UNITS = {"": 1, "B": 1} | {
    f"{prefix}{ending}": base**power
    for power, prefix in enumerate("KMGT", start=1)
    for ending, base in (("iB", 1024), ("B", 1000), ("", 1024))
}


def parse_bytes(text: str | int) -> int:
    """Return a number of bytes from 2GiB (2^30), 2GB (10^9), 2G (2^30) or a plain number.

    Raises:
        ValueError: It is none of these, or less than 1.
    """
    match = re.fullmatch(r"\s*(\d{1,18}(?:\.\d+)?)\s*([A-Za-z]*)\s*", str(text))
    units = {name.upper(): size for name, size in _UNITS.items()}
    if match is None or match[2].upper() not in units:
        raise ValueError(f"{text!r} is no size; write for example 512MiB or 2GB")
    size = int(float(match[1]) * units[match[2].upper()])
    if size < 1:
        raise ValueError(f"{text!r} is less than one byte")
    return size


def parse_rows(text: str) -> tuple[int | None, int | None]:
    """Return START and STOP of START:STOP, where either may be left out.

    Raises:
        ValueError: It is none.
    """
    match = re.fullmatch(r"(\d*):(\d*)", text.strip())
    if match is None:
        raise ValueError(f"{text!r} is no range of rows; write START:STOP, for example 0:10000")
    start, stop = (int(part) if part else None for part in match.groups())
    return start, stop


def parse_part(text: str) -> tuple[int, int]:
    """Return I and N of I/N: one of N parts, numbered from 0.

    Raises:
        ValueError: It is none.
    """
    match = re.fullmatch(r"\s*(\d{1,9})\s*/\s*(\d{1,9})\s*", text)
    if match is None:
        raise ValueError(f"{text!r} is no part; write I/N, for example 0/8 for the first of 8")
    number, count = int(match[1]), int(match[2])
    if count < 1:
        raise ValueError(f"{text!r} is a part of none; write I/N with N at least 1")
    if not number < count:
        raise ValueError(f"{text!r} is none of {count} parts, numbered from 0: the last is {count - 1}/{count}")
    return number, count


def show_bytes(size: float) -> str:
    """Return a size with three digits and a binary unit."""
    for unit in ("bytes", "KiB", "MiB", "GiB", "TiB"):
        if size < 1000 or unit == "TiB":
            return f"{size:.3g} {unit}" if unit != "bytes" else f"{size:.0f} bytes"
        size /= 1024
    raise AssertionError


def show_seconds(seconds: float) -> str:
    """Return a time with two digits and a unit."""
    for unit, size in (("days", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * size:
            return f"{seconds / size:.{0 if seconds >= 10 * size else 1}f} {unit}"
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.2g} s"
