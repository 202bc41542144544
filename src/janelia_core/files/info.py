"""What is in a file: shape, range, what is not finite, what is there twice, and what a search of it would take."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from janelia_core.files.errors import VectorFileError
from janelia_core.files.formats.contract import VectorFile
from janelia_core.files.formats.registry import Where
from janelia_core.files.inputs.input import Input
from janelia_core.files.layout import FILES_MEMORY, opening_memory, reading_memory
from janelia_core.ml._knn.choose import make_plan
from janelia_core.ml._knn.find import find
from janelia_core.ml._runtime.loading import waiting
from janelia_core.ml._runtime.machine import this_machine
from janelia_core.sizes import parse_bytes, show_bytes

_CHUNK = 1 << 22
_K = 10
_ROW = 64  # bytes that a coordinate of one row takes while its range is found, and its hash
_SAMPLE_ROWS, _SAMPLE_CTRS = 1024, 16384


@dataclass
class FileInfo:
    """What is in a file.

    Attributes:
        path: The file.
        format: Its format.
        shape: (n, d).
        dtype: Of its numbers.
        least: The smallest finite number, or None.
        largest: The largest finite number, or None.
        n_not_finite: Rows that hold an infinity or NaN.
        n_duplicates: Rows that equal an earlier one, NaN apart; None if that was too much for the memory.
        screen: What would find the 10 nearest of every row, and why.
        seconds: About how long, from a sample; the tree's speed grows with n, so for it this is an upper limit.
    """

    path: Path
    format: str
    shape: tuple[int, int]
    dtype: torch.dtype
    least: float | None
    largest: float | None
    n_not_finite: int
    n_duplicates: int | None
    screen: str
    seconds: float

    def __str__(self) -> str:
        n, d = self.shape
        span = "none is finite" if self.least is None else f"{self.least:g} to {self.largest:g}"
        twice = "not counted: more memory is needed" if self.n_duplicates is None else str(self.n_duplicates)
        return "\n".join(
            [
                f"{self.path}: {self.format}, {n} x {d}, {self.dtype}, {show_bytes(n * d * self.dtype.itemsize)}",
                f"range: {span}",
                f"rows that are not finite: {self.n_not_finite}",
                f"rows that equal an earlier one: {twice}",
                f"the {_K} nearest of every row: {self.screen}; about {self.seconds:.2g} s here",
            ]
        )


def info_file(path: Where | Input, format: str | None = None, *, max_memory: int | str = FILES_MEMORY) -> FileInfo:
    """Look through a file of vectors.

    Args:
        path: The file; FILE::NAME for one of several arrays; or an `Input`.
        format: As for `open_vectors`.
        max_memory: Bytes, or a text such as "2GiB", that rows and the count of duplicates may take.

    Raises:
        VectorFileError: It is not what it should be, or has no rows.
        ValueError: A row is too large for max_memory.
    """
    memory = parse_bytes(max_memory)
    asked = Input.of(path, format)
    with asked.opened("centres", reading_memory(memory), opening_memory(memory)) as file:
        if file.n == 0:
            raise VectorFileError(file.path, f"has no rows, of {file.d} columns each")
        if _ROW * file.d > memory:
            raise ValueError(f"max_memory must be at least {_ROW * file.d} bytes for rows of this size, got {memory}")
        least, largest, broken = None, None, 0
        keep_hashes = 64 * file.n <= memory
        hashes = np.empty(file.n if keep_hashes else 0, dtype=[("a", "u8"), ("b", "u8")])
        step = max(1, _CHUNK // (file.d * 8))
        for start in range(0, file.n, step):
            block = file.read(start, min(start + step, file.n))
            low, high, bad = _range(block)
            broken += bad
            least = low if least is None else least if low is None else min(least, low)
            largest = high if largest is None else largest if high is None else max(largest, high)
            if keep_hashes:
                hashes["a"][start : start + len(block)], hashes["b"][start : start + len(block)] = _hashes(block)
        duplicates = _duplicates(file, hashes) if keep_hashes else None
        screen, seconds = _outlook(file, memory)
        return FileInfo(
            file.path, file.format, file.shape, file.dtype, least, largest, broken, duplicates, screen, seconds
        )


def _range(block: Tensor) -> tuple[float | None, float | None, int]:
    """Return the smallest and the largest finite number, and how many rows are not finite."""
    finite = torch.isfinite(block)
    bad = int((~finite.all(dim=1)).sum())
    wide = block.to(torch.float64)
    wide = wide[finite] if bad else wide
    return (float(wide.min()), float(wide.max()), bad) if wide.numel() else (None, None, bad)


def _hashes(block: Tensor) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Return two 64-bit hashes (r,) of rows of equal value: -0 counts as 0."""
    values = block.float() if block.dtype == torch.bfloat16 else block
    array = values.numpy()
    if array.dtype.kind == "f":
        array = array + array.dtype.type(0)
    raw = np.ascontiguousarray(array).view(np.uint8)
    words = np.zeros((len(raw), -(-raw.shape[1] // 8) * 8), dtype=np.uint8)
    words[:, : raw.shape[1]] = raw
    mixed = words.view(np.uint64)
    # 2^64 over the golden ratio: D. E. Knuth, The Art of Computer Programming 3, section 6.4.
    mixed = (mixed ^ (mixed >> np.uint64(32))) * np.uint64(0x9E3779B97F4A7C15)
    mixed ^= mixed >> np.uint64(29)
    factors = np.random.default_rng(0).integers(0, 2**64, (2, mixed.shape[1]), dtype=np.uint64) | np.uint64(1)
    return (mixed * factors[0]).sum(axis=1), (mixed * factors[1]).sum(axis=1)


def _duplicates(file: VectorFile, hashes: npt.NDArray[Any]) -> int:
    """Count rows equal to an earlier one: those of equal hashes are compared."""
    order = np.argsort(hashes, order=("a", "b"), kind="stable")
    same = hashes[order[1:]] == hashes[order[:-1]]
    count = 0
    step = max(2, _CHUNK // (8 * file.d))
    pairs = np.flatnonzero(same)
    for start in range(0, len(pairs), step):
        part = pairs[start : start + step]
        one, other = (file.take(torch.from_numpy(order[part + late].copy())) for late in (0, 1))
        count += int((one == other).all(dim=1).sum())
    return count


def _outlook(file: VectorFile, memory: int) -> tuple[str, float]:
    """Return what a search of all rows among all would run, and about how long, from a sample that fits the memory."""
    fit = max(2, memory // 2 // (file.d * file.dtype.itemsize))
    k = min(_K, file.n)
    cpu = torch.device("cpu")
    plan = make_plan(file.n, file.n, file.d, k, file.n, machine=this_machine(cpu), float32=file.dtype == torch.float32)
    x = file.read(0, min(file.n, _SAMPLE_ROWS, fit // 2))
    ctrs = file.read(0, min(file.n, _SAMPLE_CTRS, fit))
    seconds = 0.0
    with waiting():  # the first search compiles
        for _ in range(2):
            start = time.perf_counter()
            find(x, ctrs, min(k, len(ctrs)))
            seconds = time.perf_counter() - start
    return f"{plan.screen} ({plan.reason})", seconds * (file.n / len(x)) * (file.n / len(ctrs))
