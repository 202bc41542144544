"""The error of a file that holds no index which can be read here."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from os import PathLike, fsdecode
from typing import Final

_PATH, _FOUND, _REMEDY = 100, 120, 70  # characters, of at most 300 with what joins them

SAVE_AGAIN: Final = "save the index again"
WRONG_FILE: Final = "give a file that CenterIndex.save wrote"
UPDATE: Final = "update janelia-core, or save the index with this version"


class IndexFileError(ValueError):
    """A file is damaged, foreign or newer: one short line with the file, what was found, and what to do.

    Attributes:
        path: The file.
        found: What is wrong with it.
        remedy: What to do.
    """

    def __init__(self, path: str | PathLike[str], found: str, remedy: str = SAVE_AGAIN) -> None:
        super().__init__(path, found, remedy)
        self.path, self.found, self.remedy = path, found, remedy

    def __str__(self) -> str:
        return f"{shown(fsdecode(self.path), _PATH)}: {shown(self.found, _FOUND)}; {shown(self.remedy, _REMEDY)}"


def shown(text: str, most: int = 40) -> str:
    """Return at most so many printable characters of a text: its beginning and its end."""
    cut = text if len(text) <= most else f"{text[: most // 2 - 2]}...{text[len(text) - (most - most // 2 - 1) :]}"
    return "".join(one if one.isprintable() else "?" for one in cut)


@contextlib.contextmanager
def understood(path: str | PathLike[str], what: str) -> Iterator[None]:
    """Make the one error of whatever is raised by a block that makes something of what a file holds.

    Args:
        path: The file.
        what: What is made, such as the index.
    """
    try:
        yield
    except IndexFileError:
        raise
    except (ValueError, TypeError, AttributeError, LookupError, ArithmeticError) as error:
        reason = shown(str(error))
        raise IndexFileError(
            path, f"damaged: {what} does not fit together ({type(error).__name__}: {reason})"
        ) from None
