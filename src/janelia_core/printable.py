"""Text of any origin as one printable line: what may be sent to a terminal, or into a log."""

from __future__ import annotations

MOST = 256
"""Characters of what is said about one file; the name of the command before it stays within 300."""


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
