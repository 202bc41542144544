"""Several files as one: the rows of each follow those of the one before, and row numbers run on."""

from __future__ import annotations

import bisect
import itertools
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy.typing as npt
import torch
from torch import Tensor

from janelia_core.files.errors import VectorFileError
from janelia_core.files.formats.contract import VectorFile, stored_blocks
from janelia_core.files.formats.raw import RawVectors
from janelia_core.files.formats.spool import spooled

_OPEN = 8  # files that are open at a time, whatever their number


class Part(NamedTuple):
    """One of the files.

    Attributes:
        where: The file, as it is opened.
        n: Number of its rows.
        decoded_at: Row of the common spool where its rows begin, for what can only be decoded as a whole; else None.
    """

    where: str
    n: int
    decoded_at: int | None


class Several(VectorFile):
    """Files of one format, of equal columns and dtype, one after the other.

    All headers are read when it is opened; then a file is opened when its rows are asked for. Those that opening
    decodes are decoded once, into one file for all.

    Args:
        path: What stands for all of them in messages.
        parts: The files.
        opener: Opens one.
    """

    def __init__(self, path: Path, parts: Sequence[str], opener: Callable[[str], VectorFile]) -> None:
        self._opener, self._opened = opener, OrderedDict[int, VectorFile]()
        self._turn = threading.RLock()
        self._parts: list[Part] = []
        first = opener(parts[0])
        super().__init__(path, 0, first.d, first.dtype)
        self.metric, self.format, self.decoded = first.metric, first.format, first.decoded
        self._row_bytes, self._head = first.row_bytes, first.path
        files: dict[Path, None] = {}
        others = itertools.chain([(parts[0], first)], ((part, opener(part)) for part in parts[1:]))
        self._spool: RawVectors = spooled(
            path,
            first.d,
            _plain(torch.empty(0, dtype=first.dtype)).numpy().dtype,
            self._walk(others, files),
            bfloat16=first.dtype == torch.bfloat16,
        )
        self.files, self.spooled_bytes = tuple(files), self._spool.spooled_bytes
        self._starts = [0, *itertools.accumulate(part.n for part in self._parts)]
        self.n = self._starts.pop()

    @property
    def row_bytes(self) -> int:
        """Bytes that a row takes in its file."""
        return self._row_bytes

    def _walk(self, parts: Iterator[tuple[str, VectorFile]], files: dict[Path, None]) -> Iterator[npt.NDArray[Any]]:
        """Look at every file, and yield the rows of those that opening decodes."""
        decoded = 0
        for where, file in parts:
            with file:
                self._check(file)
                files.update(dict.fromkeys(file.files))
                self._parts.append(Part(where, file.n, decoded if file.decoded else None))
                if file.decoded:
                    decoded += file.n
                    yield from (_plain(block).numpy() for block in stored_blocks(file))

    def _check(self, file: VectorFile) -> None:
        for what, its, ours in (
            ("format", file.format, self.format),
            ("number of columns", file.d, self.d),
            ("dtype", file.dtype, self.dtype),
            ("metric", file.metric, self.metric),
        ):
            if its != ours:
                raise VectorFileError(file.path, f"has another {what} ({its}) than {self._head} ({ours})")

    def _fill(self, start: int, out: Tensor) -> None:
        done = 0
        while done < len(out):
            number = bisect.bisect_right(self._starts, start + done) - 1
            at = start + done - self._starts[number]
            rows = min(len(out) - done, self._parts[number].n - at)
            part, target = self._parts[number], out[done : done + rows]
            with self._turn:
                if part.decoded_at is not None:
                    self._spool.read(part.decoded_at + at, part.decoded_at + at + rows, out=target)
                else:
                    self._file(number).read(at, at + rows, out=target)
            done += rows

    def _pick(self, numbers: Tensor, out: Tensor) -> int:
        """Put the rows with ascending numbers into out, and return how many were read."""
        which = torch.searchsorted(torch.tensor(self._starts), numbers, right=True) - 1
        parts, counts = torch.unique_consecutive(which, return_counts=True)
        at = taken = 0
        for number, count in zip(parts.tolist(), counts.tolist(), strict=True):
            part, local = self._parts[number], numbers[at : at + count] - self._starts[number]
            with self._turn:
                if part.decoded_at is not None:
                    taken += self._spool._pick(local + part.decoded_at, out[at : at + count])
                else:
                    taken += self._file(number)._pick(local, out[at : at + count])
            at += count
        return taken

    def _file(self, number: int) -> VectorFile:
        """Return a file, opened; the one that was not read for longest is closed where too many are."""
        file = self._opened.pop(number, None)
        if file is None:
            part = self._parts[number]
            file = self._opener(part.where)
            if (file.n, file.d, file.dtype) != (part.n, self.d, self.dtype):
                file.close()
                raise VectorFileError(file.path, "has changed while it was read")
            while len(self._opened) >= _OPEN:
                self._opened.popitem(last=False)[1].close()
        self._opened[number] = file
        return file

    def close(self) -> None:
        """Let go of the files."""
        with self._turn:
            for file in self._opened.values():
                file.close()
            self._opened.clear()
            self._spool.close()


def _plain(values: Tensor) -> Tensor:
    """Return values as numbers that NumPy has: bfloat16 as int16."""
    return values.view(torch.int16) if values.dtype == torch.bfloat16 else values
