"""Search of files: checks, plan, stream, answer."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from janelia_core.files.answer.answer import Answer
from janelia_core.files.answer.standard_output import DASH, opened_place
from janelia_core.files.command_line import words_of_search
from janelia_core.files.formats.registry import Where
from janelia_core.files.inputs.input import Input
from janelia_core.files.inputs.metric_names import notes_on_metric
from janelia_core.files.labels.open import Asked
from janelia_core.files.layout import FILES_MEMORY, Layout
from janelia_core.files.parts.answer import PartAnswer
from janelia_core.files.parts.ranges import Part
from janelia_core.files.progress import Progress, followed
from janelia_core.files.question import Question, Range
from janelia_core.files.resumable import Kept, searched


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
    labels: tuple[Where, Where] | None = None,
    labels_match: str = "any",
    part: tuple[int, int] | None = None,
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
        labels: Files of the labels of all centres and of all queries: a query meets the centres that share a label with
            it. `.spmat` (big-ann-benchmarks), text (`.txt`, DiskANN: a line a row, labels between commas), or rows of
            integers in any format. Where fewer than k share one, -1 and inf fill the answer.
        labels_match: "any", or "all": the centre has all labels of the query.
        part: (i, n): search the i-th of n ranges of the centres, i from 0, for `merge_files`; out is a `.part` then.
        resume: Go on with the unfinished search that is beside out, if there is one.
        progress: Called after every step; `follow_files` tells what happens within one.

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
    with opened_place(out, formats[2], resume) as place:
        of_part = Part.of(part)
        kind = Answer if of_part is None else PartAnswer
        answer = kind.at(place, distances, formats[2])
        inputs = Input.of(centres, formats[0]), None if queries is None else Input.of(queries, formats[1])
        by = None if labels is None else Asked(labels, labels_match)
        told = answer.convention(convention)
        question = Question(*inputs, k, metric, dtype, device, max_memory, m, rows, ctr_rows, told, by, of_part)
        words = [] if out == DASH else words_of_search(question, answer, formats[2])
        kept = Kept(place.target, answer.purpose, answer.wants_distances, words, resume, answer.check)
        return _search(question, answer, kept, progress)


def _search(
    question: Question, answer: Answer | PartAnswer, kept: Kept, progress: Callable[[Progress], None] | None
) -> FileReport:
    started = time.perf_counter()
    with searched(question, kept, progress) as found:
        work, layout = found.work, found.work.layout
        read = work.centres.bytes_read + work.queries.bytes_read  # before the answer, which may copy what is searched
        with followed().at("writing the answer"):
            if isinstance(answer, PartAnswer):
                answer.write(found.folder, question, work)
            else:
                answer.write(found.folder, work)
        return FileReport(
            answer.place.said,
            (layout.n_smps, layout.k),
            work.centres.d,
            layout,
            found.screens,
            read,
            work.centres.bytes_taken,
            time.perf_counter() - started,
            found.resumed_at,
            notes_on_metric(question.metric, work.centres, work.queries),
        )
