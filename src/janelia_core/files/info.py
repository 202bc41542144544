"""What is in a file: shape, range, what is not finite, what is there twice, and what a search of it would take."""

from __future__ import annotations

from dataclasses import dataclass, field
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
from janelia_core.files.plan import plan_files
from janelia_core.files.question import Range
from janelia_core.sizes import parse_bytes, show_bytes
from janelia_core.suffixes import FORMATS

_CHUNK = 1 << 22
_ROW = 64  # bytes that a coordinate of one row takes while its range is found, and its hash


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
        screen: Which screens a search of it runs, as `FileReport.screens` says afterwards; empty: none is possible.
        seconds: About how long that search takes here.
        told: What it does and takes, in words (`FilePlan`); or why there is none.
        search: The same in numbers and names (`FilePlan.facts`).
    """

    path: Path
    format: str
    shape: tuple[int, int]
    dtype: torch.dtype
    least: float | None
    largest: float | None
    n_not_finite: int
    n_duplicates: int | None
    screen: str = ""
    seconds: float | None = None
    told: str = ""
    search: dict[str, Any] = field(default_factory=dict)

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
                self.told if self.search else f"no such search: {self.told}",
            ]
        )


def info_file(
    centres: Where | Input,
    queries: Where | Input | None = None,
    *,
    k: int = 10,
    out: Where | None = None,
    distances: Where | None = None,
    metric: str | None = None,
    dtype: torch.dtype | str | None = None,
    device: torch.device | str | None = None,
    max_memory: int | str = FILES_MEMORY,
    m: int | None = None,
    rows: Range = (None, None),
    ctr_rows: Range = (None, None),
    format: str | None = None,
    formats: tuple[str | None, ...] = (None, None, None),
    convention: str | None = None,
    labels: tuple[Where, Where] | None = None,
    labels_match: str = "any",
    part: tuple[int, int] | None = None,
) -> FileInfo:
    """Look through a file of vectors, and plan a search of it: of the 10 nearest of every row, if nothing else is said.

    Args:
        centres: The file; FILE::NAME for one of several arrays; or an `Input`.
        queries: As for `search_files`, and so is all that follows. The name of a format, where there is no file of
            that name, is taken as `format`, which once stood here.
        k: See there.
        out: As for `plan_files`.
        distances: Likewise.
        metric: As for `search_files`.
        dtype: See there; what is told of the file is of its numbers as stored.
        device: See there.
        max_memory: See there; rows and the count of duplicates take no more.
        m: See there.
        rows: See there; all rows of the file are looked through.
        ctr_rows: See there.
        format: Of centres, if formats does not say.
        formats: As for `plan_files`.
        convention: Likewise.
        labels: As for `search_files`.
        labels_match: Likewise.
        part: Likewise.

    Raises:
        VectorFileError: It is not what it should be, or has no rows.
        ValueError: A row is too large for max_memory. That a search is not possible is told, not raised.
    """
    if queries is not None and str(queries).lower() in FORMATS and not Path(str(queries)).exists():
        queries, format = None, str(queries)
    formats = (formats[0] or format, *formats[1:])
    asked = Input.of(centres, formats[0])
    info = _looked_through(asked, parse_bytes(max_memory))
    try:
        plan = plan_files(
            asked,
            queries,
            k=k,
            out=out,
            distances=distances,
            metric=metric,
            dtype=dtype,
            device=device,
            max_memory=max_memory,
            m=m,
            rows=rows,
            ctr_rows=ctr_rows,
            formats=formats,
            convention=convention,
            labels=labels,
            labels_match=labels_match,
            part=part,
        )
    except (ValueError, OSError) as error:  # of what was asked: the file itself is sound
        info.told = " ".join(str(error).split())
        return info
    info.screen, info.seconds = ", ".join(plan.screens), plan.seconds
    info.told, info.search = str(plan), plan.facts()
    return info


def _looked_through(asked: Input, memory: int) -> FileInfo:
    """Return what is in a file, from a look at all rows."""
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
        return FileInfo(file.path, file.format, file.shape, file.dtype, least, largest, broken, duplicates)


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
