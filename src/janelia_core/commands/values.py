"""As what the text after an option is read."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import click

from janelia_core.sizes import parse_bytes, parse_part, parse_rows, show_bytes

if TYPE_CHECKING:  # which is generic in later versions of click than the oldest that serves
    from click.shell_completion import CompletionItem

    _Type = click.ParamType[Any]
else:
    _Type = click.ParamType


class Read(_Type):
    """Reads a text by a function that raises ValueError with the reason.

    Args:
        name: What it is, for help.
        read: The function.
    """

    def __init__(self, name: str, read: Callable[[str], Any]) -> None:
        self.name, self._read = name, read

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return what a text means; what is none any more is left as it is."""
        if not isinstance(value, str):
            return value
        try:
            return self._read(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class FileName(_Type):
    """A file, for the shell to complete; whether it is there is asked by who opens it. Its name may be no UTF-8."""

    name = "file"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Leave it to the shell."""
        from click.shell_completion import CompletionItem

        return [CompletionItem(incomplete, type="file")]


class FormatName(_Type):
    """The name of a format, looked up when it is given: the tables may have grown since the command was made."""

    name = "format"

    def __init__(self, *tables: Iterable[str]) -> None:
        self._tables = tables

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the name in small letters."""
        known = [name for table in self._tables for name in table]
        if str(value).lower() not in known:
            near = difflib.get_close_matches(str(value).lower(), known, 1)
            meant = f" Did you mean {near[0]}?" if near else ""
            self.fail(f"{value!r} is none of: {', '.join(known)}.{meant}", param, ctx)
        return str(value).lower()

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Return the names that begin so."""
        from click.shell_completion import CompletionItem

        known = (name for table in self._tables for name in table)
        return [CompletionItem(name) for name in known if name.startswith(incomplete.lower())]


def _whole(text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        raise ValueError(f"{text!r} is no whole number") from None
    if number < 1:
        raise ValueError(f"{number} is less than 1")
    return number


def _threads(text: str) -> int:
    number, processors = _whole(text), os.cpu_count() or 1
    if number > processors:
        raise ValueError(f"{number} threads are more than this machine's {processors} processors")
    return number


def _memory_here(text: str) -> int:
    size, machine = parse_bytes(text), _machine_memory()
    if machine is not None and size > machine:
        raise ValueError(f"{text!r} is more than this machine's memory, {show_bytes(machine)}")
    return size


def _machine_memory() -> int | None:
    """Return the bytes of the machine's memory, or None where the system does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return None


def _shape(text: str) -> tuple[int | None, int]:
    match = re.fullmatch(r"\s*(?:(\d{1,18})?\s*,)?\s*(\d{1,18})\s*", text)
    if match is None or int(match[2]) < 1:
        raise ValueError(f"{text!r} is no shape; write N,D (rows and columns), or D for as many rows as there are")
    return None if match[1] is None else int(match[1]), int(match[2])


FILE = FileName()
WHOLE = Read("whole number", _whole)
THREADS = Read("threads", _threads)
SIZE = Read("size", parse_bytes)
SIZE_HERE = Read("size", _memory_here)
ROWS = Read("rows", parse_rows)
PART = Read("part", parse_part)
SHAPE = Read("shape", _shape)
