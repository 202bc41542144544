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
        bytes_read: What `read` took from the file so far, headers apart.
        bytes_taken: What `take` took from the file so far.
    """

    device = torch.device("cpu")
    chunk = 1 << 15  # coordinates that settle may take at a time

    def __init__(self, path: Path, n: int, d: int, dtype: torch.dtype) -> None:
        self.path, self.n, self.d, self.dtype = path, n, d, dtype
        self.metric: str | None = None
        self.files: tuple[Path, ...] = (path,)
        self.bytes_read = 0
        self.bytes_taken = 0
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
        self._fill(start, block)
        with self._lock:
            self.bytes_read += (stop - start) * self.row_bytes
        return block

    def take(self, row_numbers: Tensor) -> Tensor:
        """Return the rows with these numbers (any shape of int64): row_numbers.shape + (d,)."""
        numbers, place = torch.unique(row_numbers.reshape(-1), return_inverse=True)
        rows = torch.empty(len(numbers), self.d, dtype=self.dtype)
        for at, number in enumerate(numbers.tolist()):
            if not 0 <= number < self.n:
                raise IndexError(f"row {number} is not among the {self.n} rows of {self.path}")
            self._fill(number, rows[at : at + 1])
        with self._lock:
            self.bytes_taken += len(numbers) * self.row_bytes
        return rows[place].reshape(*row_numbers.shape, self.d)

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


OPENING = 8 << 20


@dataclass(frozen=True)
class Reading:
    """How a file is to be read; a format takes of it what its `options` name.

    Attributes:
        memory: Bytes that opening may take, and reading beside the rows that it fills, whatever the file says.
        header: Whether the first line of a table holds names; None: the table decides.
        shape: (n, d) of raw memory; n None: as many rows as there are.
        stored: Numbers of raw memory: "float32", "uint8", ">f8", ..
    """

    memory: int = OPENING
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
        options: Fields of `Reading` that `open` takes by name.
    """

    open: Callable[..., VectorFile]
    write: Callable[[Path, Arrays], None]
    several: bool = False
    index_bits: int = 64
    distances: bool = True
    writer: str | None = None
    options: tuple[str, ...] = ()


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
