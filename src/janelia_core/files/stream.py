"""The out-of-core loop: blocks of queries meet blocks of centres, and every meeting is written down."""

from __future__ import annotations

import contextlib
import functools
import os
import struct
import time
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from janelia_core.durable import NOT_SUPPORTED, sync_folder
from janelia_core.files.answer.room import n_regions, region_bytes, unfinished_bytes
from janelia_core.files.blocks import Blocks
from janelia_core.files.journal import Journal
from janelia_core.files.parts.record import Record
from janelia_core.files.progress import Progress, followed
from janelia_core.files.question import Work
from janelia_core.files.steps import kernels_loaded
from janelia_core.ml._knn.merge import Among, Running, extend, nearest
from janelia_core.ml._knn.report import watch_knn
from janelia_core.positioned import read_at, write_all

_FACTS = struct.Struct("<???xi8x")  # FACTS_BYTES of running lists: exact, in_float64, whether exponent is set, exponent


class Stream:
    """Runs the steps that the journal does not list yet."""

    def __init__(self, work: Work, journal: Journal) -> None:
        self._work, self._journal = work, journal
        self._screens: dict[str, None] = {}
        self._told = followed()
        layout = work.layout
        self._running: tuple[int, int, Running] | None = None
        self._regions = n_regions(layout)
        self._itemsize = 0 if work.distances is None else work.distances.itemsize
        self._region_bytes = region_bytes(layout, self._itemsize)
        self._files: dict[str, int] = {}

    @property
    def screens(self) -> list[str]:
        """Which screens ran."""
        return list(self._screens)

    def run(self, progress: Callable[[Progress], None] | None = None) -> None:
        """Work off all steps; afterwards `indices` and `distances` in the journal's folder are complete."""
        layout = self._work.layout
        began, begun = time.perf_counter(), self._pairs(self._journal.finished)
        total = layout.n_smps * layout.n_ctrs
        self._told.begin(total, begun, layout.n_smps)
        try:
            self._open()
            with self._ready() as step:
                for number in range(self._journal.finished, layout.n_steps):
                    step(number)
                    self._journal.add()
                    if progress is not None:
                        seconds = time.perf_counter() - began
                        progress(Progress(self._pairs(number + 1), total, begun, seconds, rows=layout.n_smps))
        finally:
            for file in self._files.values():
                os.close(file)

    @contextlib.contextmanager
    def _ready(self) -> Iterator[Callable[[int], None]]:
        """Give what does a step, by its number, all that it takes being there."""
        digests = self._journal.digests
        x, ctrs = Blocks.of_queries(self._work, digests), Blocks.of_centres(self._work, digests)
        with kernels_loaded(self._work):
            yield functools.partial(self._meet, x, ctrs)

    def _meet(self, x: Blocks, ctrs: Blocks, number: int) -> None:
        """Let the blocks of a step meet."""
        q, c = self._work.layout.step(number)
        with self._told.at("reading"):
            rows, block = x.block(q), ctrs.block(c)
        done = self._pairs(number)
        with self._told.step(done, self._pairs(number + 1) - done, len(rows)):
            self._step(q, c, rows, block)

    def _open(self) -> None:
        """Open the files of the folder and claim their room, so that a disk too small is known at the start."""
        part = self._work.part
        sizes = unfinished_bytes(self._work.layout, self._itemsize, 0 if part is None else part.record.bytes)
        folder, begun = self._journal.folder, self._journal.finished > 0
        flags = os.O_RDWR | getattr(os, "O_BINARY", 0)
        for name, size in sizes.items():
            # What a journal speaks of is there, or the search must not go on: zeros would pass for an answer.
            if begun and not ((folder / name).is_file() and (folder / name).stat().st_size >= size):
                raise ValueError(f"{folder}: {name} misses what the journal lists; remove that folder to begin anew")
            self._files[name] = os.open(folder / name, flags | (0 if begun else os.O_CREAT), 0o666)
            _claim(self._files[name], size)
        sync_folder(folder)

    def _pairs(self, steps: int) -> int:
        """Return how many pairs of rows the first steps compare, up to the rounding of last blocks."""
        layout = self._work.layout
        return layout.n_smps * layout.n_ctrs * steps // layout.n_steps

    def _step(self, q: int, c: int, x: Tensor, block: Tensor) -> None:
        """Search a block of centres for a block of queries, and keep what is found."""
        layout = self._work.layout
        with watch_knn() as reports:
            if layout.n_ctr_blocks == 1 and self._work.part is None:
                self._whole(q, x, block)
            else:
                self._part(q, c, x, block)
        self._screens.update((report.ran, None) for report in reports)

    def _whole(self, q: int, x: Tensor, ctrs: Tensor) -> None:
        """Search all centres at once."""
        work = self._work
        indices, measured = nearest(
            x,
            ctrs,
            work.layout.kept,
            work.metric,
            work.distances,
            m=work.m,
            max_memory=work.layout.workspace,
            device=work.device,
            among=self._among(q, 0),
        )
        self._answer(q, torch.where(indices < 0, -1, indices + work.first_ctr), measured)

    def _among(self, q: int, c: int) -> Among | None:
        """Return who may be found by a block of queries in a block of centres."""
        work, layout = self._work, self._work.layout
        if work.labels is None:
            return None
        x, ctrs = (
            (first + number * size, first + min((number + 1) * size, n))
            for first, number, size, n in (
                (work.first_query, q, layout.row_block, layout.n_smps),
                (work.first_ctr, c, layout.ctr_block, layout.n_ctrs),
            )
        )
        return work.labels.shared(x, ctrs)

    def _part(self, q: int, c: int, x: Tensor, block: Tensor) -> None:
        """Search one block of the centres, and merge."""
        work, layout = self._work, self._work.layout
        running = self._lists(q, c, len(x))
        extend(
            running,
            x,
            block,
            work.first_ctr + c * layout.ctr_block,
            work.centres,
            m=work.m,
            max_memory=layout.workspace,
            device=work.device,
            among=self._among(q, c),
        )
        self._running = (q, c, running)
        if c == layout.n_ctr_blocks - 1 and work.part is not None:
            self._list(q, running, work.part.record)
        elif c == layout.n_ctr_blocks - 1:
            self._answer(q, running.indices, running.distances)
        else:
            self._keep(q, c, running)

    def _lists(self, q: int, c: int, rows: int) -> Running:
        """Return the running lists of a block of queries before it meets centres c."""
        layout = self._work.layout
        if c == 0:
            return Running.empty(rows, layout.kept, self._work.metric, self._work.distances)
        if self._running is not None and self._running[:2] == (q, c - 1):
            return self._running[2]
        running = Running.empty(rows, layout.kept, self._work.metric, self._work.distances)
        at = self._region(q, c - 1)
        facts = bytearray(_FACTS.size)
        _fill(self._files["state"], memoryview(facts), at)
        running.exact, running.in_float64, known, exponent = _FACTS.unpack(facts)
        running.exponent = exponent if known else None
        at += _FACTS.size
        for values in _tensors(running):
            _fill(self._files["state"], _bytes(values), at)
            at += values.nbytes
        return running

    def _region(self, q: int, c: int) -> int:
        """Return where the running lists of a block of queries are after centres c: slots take turns."""
        return (c % 2 * self._regions + (q if self._regions > 1 else 0)) * self._region_bytes

    def _keep(self, q: int, c: int, running: Running) -> None:
        """Put running lists on the disk."""
        file, at = self._files["state"], self._region(q, c)
        known, exponent = running.exponent is not None, running.exponent or 0
        write_all(file, _FACTS.pack(running.exact, running.in_float64, known, exponent), at)
        at += _FACTS.size
        for values in _tensors(running):
            write_all(file, _bytes(values), at)
            at += values.nbytes
        os.fsync(file)

    def _list(self, q: int, running: Running, record: Record) -> None:
        """Put the lists of a block of queries on the disk, for a merge."""
        at = q * self._work.layout.row_block * record.bytes
        for rows in record.packed(running, self._work.first_ctr):
            write_all(self._files["lists"], rows.view("u1").data, at)
            at += rows.nbytes
        os.fsync(self._files["lists"])

    def _answer(self, q: int, indices: Tensor, measured: Tensor | None) -> None:
        """Put the answer for a block of queries on the disk."""
        work = self._work
        start = q * work.layout.row_block
        if measured is not None and work.labels is not None:
            measured = measured.masked_fill(indices < 0, torch.inf)
        answers = {"indices": indices, "distances": None if measured is None else work.told.of(measured)}
        if work.layout.but_self:
            numbers = torch.arange(len(indices)) + work.first_query + start
            kept = indices != numbers[:, None]
            kept[kept.all(dim=1), -1] = False
            answers = {
                name: None if v is None else v[kept].reshape(len(v), work.layout.k) for name, v in answers.items()
            }
        for name, values in answers.items():
            if values is not None:
                write_all(self._files[name], _bytes(values.contiguous()), start * work.layout.k * values.itemsize)
                os.fsync(self._files[name])


def _claim(file: int, size: int) -> None:
    """Give a file a size, and room on the disk where its file system can claim that."""
    try:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file, 0, size)
            return
    except OSError as error:
        if error.errno not in NOT_SUPPORTED:
            raise
    if os.fstat(file).st_size < size:
        os.truncate(file, size)


def _tensors(running: Running) -> list[Tensor]:
    return [
        values for values in (running.indices, running.value, running.error, running.distances) if values is not None
    ]


def _bytes(values: Tensor) -> memoryview:
    return values.view(-1).view(torch.uint8).numpy().data  # in one dimension: a single column may have any stride


def _fill(file: int, target: memoryview, at: int) -> None:
    done = read_at(file, target, at)
    if done < len(target):
        raise OSError(f"the running lists end at byte {at + done}: the folder of this search was changed")
