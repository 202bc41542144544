"""Search of files: checks, plan, stream, answer."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from janelia_core.files.answer.answer import Answer
from janelia_core.files.answer.standard_output import opened_place
from janelia_core.files.fingerprint import fingerprint
from janelia_core.files.formats.contract import VectorFile
from janelia_core.files.formats.registry import Where
from janelia_core.files.inputs.input import Input
from janelia_core.files.inputs.metric_names import notes_on_metric
from janelia_core.files.journal import begin, folder_of
from janelia_core.files.layout import FILES_MEMORY, Layout
from janelia_core.files.question import Question, Range, Work
from janelia_core.files.stream import Progress, Stream
from janelia_core.ml._runtime.machine import flushes_subnormals
from janelia_core.sizes import show_bytes


@dataclass(frozen=True)
class FileReport:
    """What a search of files did.

    Attributes:
        out: The answer.
        shape: (n, k) of the answer.
        d: Coordinates.
        layout: The blocks, with the bytes that were to be read.
        screens: Which screens ran.
        bytes_read: What this run read of both files; `layout` says what a run from the beginning reads.
        bytes_taken: What near-ties made it read of the centres again.
        seconds: How long this run took.
        resumed_at: Steps that were finished before.
        notes: What the caller should know, a sentence each: a file says another metric than the one asked for.
    """

    out: Path
    shape: tuple[int, int]
    d: int
    layout: Layout
    screens: list[str]
    bytes_read: int
    bytes_taken: int
    seconds: float
    resumed_at: int
    notes: tuple[str, ...] = ()


def search_files(
    centres: Where | Input,
    queries: Where | Input | None = None,
    *,
    k: int,
    out: Where,
    distances: Where | None = None,
    metric: str | None = None,
    dtype: torch.dtype | str | None = None,
    device: torch.device | str | None = None,
    max_memory: int | str = FILES_MEMORY,
    m: int | None = None,
    rows: Range = (None, None),
    ctr_rows: Range = (None, None),
    formats: tuple[str | None, str | None, str | None] = (None, None, None),
    convention: str | None = None,
    resume: bool = False,
    progress: Callable[[Progress], None] | None = None,
) -> FileReport:
    """Find the k nearest centres of every query, from file to file, in bounded memory.

    Args:
        centres: File of vectors (n_ctrs, d); FILE::NAME for one of several arrays; or an `Input`.
        queries: File of vectors (n_smps, d); None: the centres, none of which is its own neighbour.
        k: Neighbours of each query.
        out: Where the answer goes: indices (n_smps, k), row numbers of the file of centres, nearest first. Formats
            of several arrays, `.npz`, `.hdf5`, `.ibin`, .., hold the distances as well, the format "ann-benchmarks"
            what is searched, too. A link stays, and the file it leads to is written. "-": standard output, as npy,
            ivecs, ibin or csv; nothing is kept to resume then.
        distances: Where the distances go, in a file of their own; None: nowhere else.
        metric: "euclidean", "sqeuclidean" (same neighbours, squared distances), "cosine", "dot", "manhattan",
            "chebyshev" or "haversine", or another name for one of them; None: the one that the file of centres
            says, else "euclidean".
        dtype: A floating dtype to which all numbers are rounded first; None: as stored.
        device: Where blocks are searched; None: on the CPU.
        max_memory: Bytes, or a text such as "2GiB", that blocks and workspace take together.
        m: At most so many centres' scores at a time; None: as many as the memory allows.
        rows: Queries from, to (exclusive) row numbers; None: from the first, to the last.
        ctr_rows: Centres likewise.
        formats: Of centres, queries and out; None: by the suffix.
        convention: Which distances are written: "ours", those of the metric; "faiss", "big-ann" or "diskann", whose
            are squared, or positive inner products; "ann-benchmarks". None: ours, but for the format "ann-benchmarks".
        resume: Go on with the unfinished search that is beside out, if there is one.
        progress: Called after every step.

    Returns:
        What was done.

    Raises:
        VectorFileError: A file is not what it should be.
        ValueError: An argument is wrong, or inputs changed since the search was begun.
        FileExistsError: An unfinished search is there, and resume is False.
        OSError: A file cannot be read or written; what was finished can be resumed.

    Exactness: the indices are those of `knn_mc` on the whole arrays, whatever the blocks.
    Memory: max_memory, beyond what Python, torch and compiled kernels take.
    """
    if flushes_subnormals():
        raise ValueError("this thread flushes subnormal numbers; call torch.set_flush_denormal(False) first")
    with opened_place(out, formats[2], resume) as place:
        answer = Answer.at(place, distances, formats[2])
        inputs = Input.of(centres, formats[0]), None if queries is None else Input.of(queries, formats[1])
        told = answer.convention(convention)
        question = Question(*inputs, k, metric, dtype, device, max_memory, m, rows, ctr_rows, told)
        return _search(question, answer, resume, progress)


def _search(
    question: Question, answer: Answer, resume: bool, progress: Callable[[Progress], None] | None
) -> FileReport:
    started = time.perf_counter()
    with question.opened() as (c, q):
        work = question.work(c, q, answer.wants_distances)
        work = replace(work, metric=work.told.metric)  # which has the same neighbours
        layout = work.layout
        answer.check(work, [c.path, *c.files, q.path, *q.files])
        task = _task(work, question, answer)
        try:
            journal = begin(answer.place.target, task, resume=resume)
            resumed_at = journal.finished
            stream = Stream(work, journal)
            with journal.ended():
                stream.run(progress)
                if _task(work, question, answer) != task:
                    raise ValueError("centres and queries must stay as they are, but changed while they were searched")
                read = c.bytes_read + q.bytes_read
                answer.write(journal.folder, work)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT):
                raise OSError(error.errno, _no_room(answer.place.target, work)) from error
            raise
        return FileReport(
            answer.place.said,
            (layout.n_smps, layout.k),
            c.d,
            layout,
            stream.screens,
            read,
            c.bytes_taken,
            time.perf_counter() - started,
            resumed_at,
            notes_on_metric(question.metric, c, q),
        )


def _no_room(out: Path, work: Work) -> str:
    row = work.layout.k * (8 + (0 if work.distances is None else work.distances.itemsize))
    told = f"no room on the disk: the answer takes {show_bytes(2 * work.layout.n_smps * row)} while it is made"
    folder = folder_of(out)
    return f"{told}; what is finished is in {folder}, from which the search can be resumed" if folder.exists() else told


def _task(work: Work, question: Question, answer: Answer) -> dict[str, Any]:
    """Return all that decides the answer and its blocks."""
    layout = work.layout
    return {
        "centres": _same(work.centres, question.centres),
        "queries": _same(work.queries, question.queries or question.centres),
        "k": layout.k,
        "self excluded": layout.but_self,
        "metric": work.metric,
        "told": work.told.change,
        "distances": str(work.distances),
        "rows": [work.first_query, layout.n_smps],
        "centre rows": [work.first_ctr, layout.n_ctrs],
        "blocks": [layout.outer, layout.row_block, layout.ctr_block],
        "format": answer.format,
    }


def _same(file: VectorFile, input: Input) -> dict[str, Any]:
    """Return by what an input is known again."""
    return {"files": [fingerprint(path) for path in file.files], "name": input.name, "dtype": str(file.dtype)}
