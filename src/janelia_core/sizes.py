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
