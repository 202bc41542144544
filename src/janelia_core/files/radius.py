"""Radius search of files: checks, loop, answer."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch

from janelia_core.files.answer.ragged import STREAMED, RaggedAnswer
from janelia_core.files.answer.standard_output import opened_place
from janelia_core.files.formats.registry import Where
from janelia_core.files.inputs.input import Input
from janelia_core.files.inputs.metric_names import notes_on_metric
from janelia_core.files.layout import FILES_MEMORY
from janelia_core.files.progress import Progress, followed
from janelia_core.files.question import Question, Range
from janelia_core.files.unchanged import check_unchanged, fingerprints
from janelia_core.files.within import Within
from janelia_core.ml._runtime.machine import flushes_subnormals


class RadiusReport(NamedTuple):
    """What a radius search of files did.

    Attributes:
        out: The answer.
        n: Queries.
        found: Neighbours of all of them.
        bytes_read: What it read of both files.
        seconds: How long it took.
        notes: As in `FileReport`.
    """

    out: Path
    n: int
    found: int
    bytes_read: int
    seconds: float
    notes: tuple[str, ...] = ()


def radius_files(
    centres: Where | Input,
    queries: Where | Input | None = None,
    *,
    radius: float,
    out: Where,
    metric: str | None = None,
    dtype: torch.dtype | str | None = None,
    device: torch.device | str | None = None,
    max_memory: int | str = FILES_MEMORY,
    rows: Range = (None, None),
    ctr_rows: Range = (None, None),
    formats: tuple[str | None, str | None, str | None] = (None, None, None),
    convention: str | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> RadiusReport:
    """Find all centres within a radius of every query, from file to file, in bounded memory.

    Args:
        centres: File of vectors (n_ctrs, d); FILE::NAME for one of several arrays; or an `Input`.
        queries: File of vectors (n_smps, d); None: the centres, none of which is its own neighbour.
        radius: At most so far away, by the metric: for "sqeuclidean" the square of a distance.
        out: Where the answer goes, nearest first: `.rangeres` of big-ann-benchmarks, or `.npz` with offsets (n + 1,),
            indices and distances (p,); query i has indices[offsets[i] : offsets[i + 1]], row numbers of the file. "-":
            standard output, as the format rangeres.
        metric: As for `search_files`, and so all that follows.
        dtype: A floating dtype to which all numbers are rounded first; None: as stored.
        device: Where blocks are searched; None: on the CPU.
        max_memory: Bytes, or a text such as "2GiB", that blocks and workspace take together.
        rows: Queries from, to (exclusive) row numbers.
        ctr_rows: Centres likewise.
        formats: Of centres, queries and out; None: by the suffix.
        convention: Which distances are written, as for `search_files`; the radius is one of the metric all the same.
        progress: Called after every pair of blocks.

    Returns:
        What was done.

    Raises:
        VectorFileError: A file is not what it should be, or out cannot hold the answer.
        ValueError: An argument is wrong, or inputs changed meanwhile.
        OSError: A file cannot be read or written. Nothing is left of an unfinished search.

    Exactness: as `janelia_core.ml.radius` on the whole arrays, whatever the blocks.
    Memory: max_memory, beyond what Python, torch and compiled kernels take; more where the neighbours of a single query
    do not fit.
    """
    if flushes_subnormals():
        raise ValueError("this thread flushes subnormal numbers; call torch.set_flush_denormal(False) first")
    began = time.perf_counter()
    inputs = Input.of(centres, formats[0]), None if queries is None else Input.of(queries, formats[1])
    question = Question(*inputs, 1, metric, dtype, device, max_memory, None, rows, ctr_rows, convention)
    # Workers could not write to what inference mode makes; it is a setting of the thread.
    with (
        torch.inference_mode(False),
        opened_place(out, formats[2], False, STREAMED) as place,
        RaggedAnswer(place, formats[2]) as answer,
        question.opened() as (c, q),
    ):
        work = question.work(c, q, distances=True, outers=("queries",))
        n, total = work.layout.n_smps, work.layout.n_smps * work.layout.n_ctrs
        before, digests = fingerprints(work), dict[str, str]()
        assert work.distances is not None
        answer.begin(n, work.first_ctr + work.layout.n_ctrs, work.distances, [c.path, *c.files, q.path, *q.files])

        def told(done: int) -> None:
            if progress is not None:
                progress(Progress(done, total, 0, time.perf_counter() - began, rows=n))

        followed().begin(total, 0, n)
        for found in Within(work, radius, told, digests).blocks():
            answer.add(*found)
        check_unchanged(question, work, before, digests)
        with followed().at("writing the answer"):
            answer.finish()
        read = c.bytes_read + c.bytes_taken + q.bytes_read
        notes = notes_on_metric(question.metric, c, q)
        return RadiusReport(answer.path, n, answer.found, read, time.perf_counter() - began, notes)
