"""`-`: an answer that goes to standard output. It is made in a folder of TMPDIR, of which nothing stays."""

from __future__ import annotations

import contextlib
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from janelia_core.files.answer.place import Place
from janelia_core.files.errors import VectorFileError
from janelia_core.files.formats.registry import Where

DASH = "-"
STREAMED = ("npy", "ivecs", "ibin", "bin", "csv")
_TEXT = ("csv",)


@contextlib.contextmanager
def opened_place(out: Where, format: str | None, resume: bool, formats: Sequence[str] = STREAMED) -> Iterator[Place]:
    """Yield where an answer is to be made; where `out` is "-", it is written to standard output after the block.

    Args:
        out: A file, or the text "-"; a file of that name is "./-".
        format: Of the answer; standard output has no suffix that would say it.
        resume: Refused with "-": nothing is kept of what was to go there.
        formats: Which can be read from their beginning to their end.

    Raises:
        VectorFileError: Standard output cannot take the answer.
        BrokenPipeError: Nobody reads it any more.
    """
    if out != DASH:
        yield Place.of(out)
        return
    stream = _checked(format, resume, formats)
    with tempfile.TemporaryDirectory(prefix="janelia-knn.") as folder:
        made = Path(folder) / "answer"
        yield Place(Path(DASH), made)
        try:
            sys.stdout.flush()
            with made.open("rb") as file:
                shutil.copyfileobj(file, stream, 1 << 20)
            stream.flush()
        except OSError as error:
            raise OSError(error.errno, error.strerror, "standard output") from error  # by its number of the same kind


def _checked(format: str | None, resume: bool, formats: Sequence[str]) -> BinaryIO:
    """Return standard output as bytes, where it can take an answer of that format."""
    if resume:
        raise ValueError("resume must be False for an answer to standard output, of which nothing is kept")
    told = f"standard output takes one of the formats {', '.join(formats)}"
    if format is None:
        raise VectorFileError(DASH, f"has no suffix; say which format (--out-format); {told}")
    if format.lower() not in formats:
        raise VectorFileError(DASH, f"{told}, not {format}; write that to a file")
    stream: BinaryIO | None = getattr(sys.stdout, "buffer", None)
    if stream is None:
        raise VectorFileError(DASH, "standard output is closed, or takes no bytes here; write to a file")
    if format.lower() not in _TEXT and stream.isatty():
        raise VectorFileError(DASH, f"standard output is a terminal, {format} no text; redirect it, or take csv")
    return stream
