"""What every reader and every writer of vectors obeys."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from janelia_core.files.errors import named

# Bytes: rows of one window of a file whose distance is that small on average are read at once.
_WINDOW, _NEAR = 1 << 18, 1 << 13


class Rows(Protocol):
    """Rows that can be had a block at a time: an open file, or a tensor."""

    @property
    def n(self) -> int:
        """Number of rows."""
        ...

    @property
    def d(self) -> int:
        """Number of columns."""
        ...

    @property
    def dtype(self) -> torch.dtype:
        """Of the blocks."""
        ...

    def read(self, start: int, stop: int) -> Tensor:
        """Return rows start .. stop - 1."""
        ...


class VectorFile(ABC):
    """An open file of n vectors with d coordinates; no more of it is in memory than what was asked for last.

    Attributes:
        path: The file.
        n: Number of rows, checked against the size of the file.
        d: Number of columns, likewise.
        dtype: Of the tensors that `read` returns.
        metric: By which the file says that its neighbours are meant, or None.
        files: The files that its rows come from, itself as a rule.
        format: Its name in the table of formats.
        decoded: Opening it decoded it as a whole, and so would opening it anew.
        spooled_bytes: Bytes on disk, in the folder TMPDIR, to which the file was decoded when it was opened.
        bytes_read: What `read` took from the file so far, headers apart.
        bytes_taken: What `take` took from the file so far.
        near: Rows to take whose distance is so many bytes on average are read with what is between them.
    """

    device = torch.device("cpu")
    chunk = 1 << 15  # coordinates that settle may take at a time

    def __init__(self, path: Path, n: int, d: int, dtype: torch.dtype) -> None:
        self.path, self.n, self.d, self.dtype = path, n, d, dtype
        self.metric: str | None = None
        self.files: tuple[Path, ...] = (path,)
        self.format = ""
        self.decoded = False
        self.spooled_bytes = 0
        self.bytes_read = 0
        self.bytes_taken = 0
        self.near = _NEAR
        self._lock = threading.Lock()

    @property
    def shape(self) -> tuple[int, int]:
        """(n, d)."""
        return self.n, self.d

    @property
    def row_bytes(self) -> int:
        """Bytes that a row takes in the file."""
        return self.d * self.dtype.itemsize

    @abstractmethod
    def _fill(self, start: int, out: Tensor) -> None:
        """Put rows start, start + 1 .. into out (r, d), contiguous."""

    @abstractmethod
    def close(self) -> None:
        """Let go of the file."""

    def read(self, start: int, stop: int, out: Tensor | None = None) -> Tensor:
        """Return rows start .. stop - 1 as a contiguous tensor (stop - start, d).

        Args:
            start: 0 <= start <= stop.
            stop: At most n.
            out: Where to put them, contiguous, of this shape and dtype; None: a new tensor.
        """
        if not 0 <= start <= stop <= self.n:
            raise IndexError(f"rows {start}:{stop} are not among the {self.n} rows of {self.path}")
        block = torch.empty(stop - start, self.d, dtype=self.dtype) if out is None else out
        with named(self.path):
            self._fill(start, block)
        with self._lock:
            self.bytes_read += (stop - start) * self.row_bytes
        return block

    def take(self, row_numbers: Tensor) -> Tensor:
        """Return the rows with these numbers (any shape of int64): row_numbers.shape + (d,)."""
        flat = row_numbers.reshape(-1)
        numbers, place = torch.unique(flat, return_inverse=True)
        if len(numbers) and not 0 <= int(numbers[0]) <= int(numbers[-1]) < self.n:
            wrong = int(numbers[0] if numbers[0] < 0 else numbers[-1])
            raise IndexError(f"row {wrong} is not among the {self.n} rows of {self.path}")
        rows = torch.empty(len(numbers), self.d, dtype=self.dtype)
        with named(self.path):
            taken = self._pick(numbers, rows)
        with self._lock:
            self.bytes_taken += taken * self.row_bytes
        rows = rows if torch.equal(numbers, flat) else rows[place]
        return rows.reshape(*row_numbers.shape, self.d)

    def _pick(self, numbers: Tensor, out: Tensor) -> int:
        """Put the rows with ascending numbers into out, and return how many were read.

        What is between rows that are near each other is read with them: one call of the system for all of them.
        """
        windows = torch.unique_consecutive(numbers // max(1, _WINDOW // self.row_bytes), return_counts=True)[1]
        at = taken = 0
        for some in torch.split(numbers, windows.tolist()):
            first, count = int(some[0]), len(some)
            span = int(some[-1]) + 1 - first
            if span == count:
                self._fill(first, out[at : at + count])
            elif span * self.row_bytes <= count * self.near:
                between = torch.empty(span, self.d, dtype=self.dtype)
                self._fill(first, between)
                torch.index_select(between, 0, some - first, out=out[at : at + count])
            else:
                span = count
                for row, number in enumerate(some.tolist(), at):
                    self._fill(number, out[row : row + 1])
            at, taken = at + count, taken + span
        return taken

    def __enter__(self) -> VectorFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class InMemory:
    """A tensor (n, d) as `Rows`."""

    def __init__(self, values: Tensor) -> None:
        self.values = values
        self.n, self.d = values.shape
        self.dtype = values.dtype

    def read(self, start: int, stop: int) -> Tensor:
        """Return rows start .. stop - 1, a view."""
        return self.values[start:stop]


MEMORY, OPENING = 8 << 20, 32 << 20  # where nobody says how much memory there is


@dataclass(frozen=True)
class Reading:
    """How a file is to be read; a format takes of it what its `options` name.

    Attributes:
        memory: Bytes that reading may take beside the rows that it fills, whatever the file says.
        opening: Bytes that opening may take: more, as no block is in memory yet.
        header: Whether the first line of a table holds names; None: the table decides.
        shape: (n, d) of raw memory; n None: as many rows as there are.
        stored: Numbers of raw memory: "float32", "uint8", ">f8", ..
    """

    memory: int = MEMORY
    opening: int = OPENING
    header: bool | None = None
    shape: tuple[int | None, int] | None = None
    stored: str | None = None


Arrays = Mapping[str, Rows]
"""What a file is made of: one array, or several by name."""


class Format(NamedTuple):
    """One format.

    Attributes:
        open: (path, name of an array or None, names preferred where none is given, options by name) -> file.
        write: (path, arrays by name), block by block.
        several: It holds several arrays by name; else `write` takes the first.
        index_bits: Of the integers that it holds; 0: it holds none, and no indices.
        distances: It holds real numbers.
        writer: The module of the extra `files` that it is written with, if any.
        most_rows: It holds no more.
        options: Fields of `Reading` that `open` takes by name.
        folder: It is a folder, no file.
        unpacks: It is read packed too, from a file without a name.
    """

    open: Callable[..., VectorFile]
    write: Callable[[Path, Arrays], None]
    several: bool = False
    index_bits: int = 64
    distances: bool = True
    writer: str | None = None
    most_rows: int | None = None
    options: tuple[str, ...] = ()
    folder: bool = False
    unpacks: bool = True


_CHUNK = 1 << 20  # bytes written at a time


def first(arrays: Arrays) -> Rows:
    """Return the first array, for formats that hold no more."""
    return next(iter(arrays.values()))


def blocks(rows: Rows, chunk: int = _CHUNK) -> Iterator[npt.NDArray[Any]]:
    """Yield the rows as contiguous arrays (r, d) of a few MiB."""
    return (np.ascontiguousarray(as_numpy(block)) for block in stored_blocks(rows, chunk))


def stored_blocks(rows: Rows, chunk: int = _CHUNK) -> Iterator[Tensor]:
    """Yield the rows as tensors (r, d) of a few MiB."""
    step = max(1, chunk // max(1, rows.d * rows.dtype.itemsize))
    return (rows.read(start, min(start + step, rows.n)) for start in range(0, rows.n, step))


def numpy_dtype(rows: Rows) -> np.dtype[Any]:
    """Return the dtype of the arrays that `blocks` yields."""
    return as_numpy(torch.empty(0, 0, dtype=rows.dtype)).dtype


def as_numpy(values: Tensor) -> npt.NDArray[Any]:
    """Return values as an array; bfloat16, which NumPy lacks, as float32, which holds it."""
    return (values.float() if values.dtype == torch.bfloat16 else values).numpy()
