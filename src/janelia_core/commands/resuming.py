"""The command line that goes on with a search that was stopped."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator, Sequence

# Of the disk or the machine, and not of what was asked: when they are over, the search can go on.
_NAMES = ("ENOSPC", "EDQUOT", "EFBIG", "EIO", "ESTALE", "ETIMEDOUT", "ENOMEM")  # a system may lack some
_PASSING = {getattr(errno, name) for name in _NAMES if hasattr(errno, name)}


class CanResumeError(Exception):
    """A search was stopped, and what it had finished is kept."""


@contextlib.contextmanager
def resumable(out: str, arguments: Sequence[str]) -> Iterator[None]:
    """Have whatever stops the search inside the block say how to go on with it.

    Args:
        out: Where the answer goes.
        arguments: Of the command that runs, after its own name.

    Raises:
        CanResumeError: The disk stopped it, after it had finished something.
        KeyboardInterrupt: Somebody stopped it.
    """
    try:
        yield
    except KeyboardInterrupt:
        if out == "-":  # of which nothing is kept
            raise
        raise KeyboardInterrupt(f"go on with: {command_line(arguments)}") from None
    except OSError as error:
        from janelia_core.files.answer.place import Place

        if error.errno not in _PASSING or out == "-" or not (Place.of(out).unfinished / "journal").exists():
            raise
        raise CanResumeError(f"{error.strerror}; go on with: {command_line(arguments)}") from error


def command_line(arguments: Sequence[str]) -> str:
    """Return what to type in order to go on."""
    given = [part for part in arguments if part != "--resume"]
    at = given.index("--") if "--" in given else len(given)
    return " ".join(map(quoted, ["janelia-knn", *given[:at], "--resume", *given[at:]]))


def quoted(part: str) -> str:
    """Return an argument as a shell wants it; bytes that are no UTF-8, which no terminal shows, as bash and zsh do."""
    try:
        part.encode()
    except UnicodeEncodeError:
        raw = part.encode(errors="surrogateescape")
        return "$'" + "".join(chr(b) if 32 <= b < 127 and b not in b"'\\" else f"\\x{b:02x}" for b in raw) + "'"
    import shlex

    return shlex.quote(part)
