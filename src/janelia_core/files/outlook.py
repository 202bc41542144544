"""Which screens a search of files runs, and how long it takes, from a sample of its rows.

The sample is searched by the plan of the true blocks (`Tried`), since screens look at values. It is read
from all over the first blocks, and takes no more than these.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from janelia_core.files.disk import Disk
from janelia_core.files.formats.contract import VectorFile
from janelia_core.files.question import Work
from janelia_core.files.steps import tries
from janelia_core.ml._index.stored.digests import digests
from janelia_core.ml._knn.data.points import Points
from janelia_core.ml._knn.distances.distances import distances
from janelia_core.ml._knn.merge import Running, merge
from janelia_core.ml._knn.plan.plan import Plan
from janelia_core.ml._knn.trial import Trial

_CTR_BYTES, _ROW_BYTES = 64 << 20, 16 << 20
_COORDINATES = 1 << 24  # of centres: preparing more may take longer than a sample should
_MOST_ROWS = 1 << 15
_LIST_BYTES, _LISTED = 4 << 20, 32  # of running lists, of which a few copies are made; of a neighbour in them
_PIECES = 64
_WRITTEN, _WRITES = 1 << 20, 3  # bytes that are written to learn how long that takes, and how often
_PER_STEP, _ONCE = 3, 10  # waits for the disk: lists, distances, journal; to begin, and to put the answer in its place


@dataclass(frozen=True)
class Outlook:
    """What a sample told about a search of files.

    Attributes:
        screens: Which run, as `FileReport.screens` names them.
        block: The plan of the first pair of blocks, by the screen that runs.
        look: What a look at the data told, or empty.
        sampled: One in so many centres of a block was looked at; 1: all.
        searching: Seconds that all searches take, with distances and merging.
        reading: Seconds that reading takes, with opening, and digests of what is read first (`Blocks`).
        writing: Seconds that writing takes; 0 where nobody says where to.
    """

    screens: list[str]
    block: Plan
    look: str
    sampled: float
    searching: float
    reading: float
    writing: float

    @property
    def seconds(self) -> float:
        """All of it."""
        return self.searching + self.reading + self.writing


def outlook(work: Work, disk: Disk, opening: float) -> Outlook:
    """Search a sample.

    Args:
        work: What is asked; its files are read from.
        disk: What it writes.
        opening: Seconds that opening the files took.
    """
    layout = work.layout
    start = time.perf_counter()
    rows = _MOST_ROWS if layout.n_ctr_blocks == 1 else max(1, min(_MOST_ROWS, _LIST_BYTES // (_LISTED * layout.kept)))
    x = _sample(work.queries, work.first_query, layout.row_block, _most(work.queries, rows, _ROW_BYTES))
    most = max(layout.kept, _most(work.centres, _COORDINATES // max(4, work.centres.d), _CTR_BYTES))
    c = _sample(work.centres, work.first_ctr, layout.ctr_block, most)
    reading = (time.perf_counter() - start) / (x.nbytes + c.nbytes)
    start = time.perf_counter()
    digests([values.view(-1).view(torch.uint8).numpy().data for values in (x, c)])
    digesting = (time.perf_counter() - start) / (x.nbytes + c.nbytes)
    once = layout.n_smps * work.queries.row_bytes + layout.n_ctrs * work.centres.row_bytes
    first, *others = tries(work, x, c)
    first.rehearse()
    trial = first.timed()
    ran = [trial.report.ran, *(other.ran().ran for other in others)]
    searching = layout.n_steps * trial.fixed + layout.n_smps * layout.n_ctr_blocks * trial.per_row
    after = _after(work, trial, c) / len(trial.rows)
    searching += after * layout.n_smps * layout.n_ctr_blocks
    return Outlook(
        screens=list(dict.fromkeys(ran)),
        block=trial.report.plan,
        look=trial.report.look,
        sampled=layout.ctr_block / len(c),
        searching=searching,
        reading=opening + reading * (layout.bytes_read + layout.state_bytes) + digesting * once,
        writing=0.0 if disk.folder is None else _writing(disk, disk.folder, layout.n_steps, layout.state_bytes),
    )


def _most(file: VectorFile, rows: int, size: int) -> int:
    return max(1, min(rows, size // max(1, file.d * file.dtype.itemsize)))


def _sample(file: VectorFile, first: int, n: int, most: int) -> Tensor:
    """Return at most so many of n rows from the first on, pieces from all over them."""
    if n <= most:
        return file.read(first, first + n)
    pieces = min(_PIECES, most)
    rows = most // pieces
    out = torch.empty(pieces * rows, file.d, dtype=file.dtype)
    for number in range(pieces):
        at = first + number * (n - rows) // max(1, pieces - 1)
        file.read(at, at + rows, out=out[number * rows : (number + 1) * rows])
    return out


def _after(work: Work, trial: Trial, c: Tensor) -> float:
    """Return the seconds that what follows a search of these rows takes, on average: distances, or merging."""
    layout, x, found = work.layout, trial.rows.cpu(), trial.found.cpu()
    if layout.n_ctr_blocks == 1:
        listed = found.T.contiguous()
        return 0.0 if work.distances is None else _second(lambda: _measured(work, x, c, listed))
    entered = 0.0
    running = Running.empty(len(x), layout.kept, work.metric, work.distances)

    def merged() -> Running:
        lists = running.copy()
        merge(lists, x, c, 0, Points(c), found, layout.workspace)
        return lists

    everything = _second(merged)
    running = merged()
    running.value -= running.value.abs() + 1.0  # nearer than all that comes
    nothing = min(everything, _second(merged))
    for number in range(1, layout.n_ctr_blocks + 1):
        mean = layout.kept / number  # of the neighbours so far lie in this block; of some rows three deviations more
        entered += min(1.0, (mean + 3.0 * mean**0.5) / layout.kept) / layout.n_ctr_blocks
    return nothing + entered * (everything - nothing)


def _measured(work: Work, x: Tensor, c: Tensor, listed: Tensor) -> None:
    distances(x, c, listed, work.metric, work.layout.workspace)


def _second(call: Callable[[], object]) -> float:
    """Return the seconds of a call, made twice: the first loads kernels."""
    call()
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def _writing(disk: Disk, folder: Path, steps: int, state_bytes: int) -> float:
    """Return the seconds that writing takes there, as a nameless file tells that is gone at once."""
    data, writing, settling = bytes(_WRITTEN), 0.0, 0.0
    with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
        for size in (_WRITTEN, 1) * _WRITES:
            start = time.perf_counter()
            file.write(data[:size])
            os.fsync(file.fileno())
            took = (time.perf_counter() - start) / _WRITES
            writing, settling = (writing + took, settling) if size > 1 else (writing, settling + took)
    # The unfinished search is written, and read as the answer is made of it.
    each = max(0.0, writing - settling) / _WRITTEN
    return (2 * disk.written + state_bytes) * each + (_ONCE + steps * _PER_STEP) * settling
