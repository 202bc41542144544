"""Words as a shell takes them, on one line that any terminal shows."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence

COMMAND = "janelia-knn "
"""How a command to type begins, in what is said to people."""


def command(words: Sequence[str]) -> str:
    """Return the command of these words, without the name of the program."""
    return COMMAND + " ".join(map(_quoted, words))


def _quoted(word: str) -> str:
    """Return a word quoted; ends of lines, and bytes that are no UTF-8, by their numbers, as bash and zsh read them."""
    if word.isprintable():
        return shlex.quote(word)
    shown = (chr(byte) if 32 <= byte < 127 and byte not in b"'\\" else f"\\x{byte:02x}" for byte in os.fsencode(word))
    return f"$'{''.join(shown)}'"
