"""Search of files: checks, plan, stream, answer."""

from __future__ import annotations

import contextlib
import errno
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from janelia_core.files.answer import Answer
from janelia_core.files.errors import VectorFileError
from janelia_core.files.fingerprint import fingerprint
from janelia_core.files.formats.cast import cast
from janelia_core.files.formats.contract import VectorFile
from janelia_core.files.formats.registry import Where, open_vectors, split_name
from janelia_core.files.journal import begin, folder_of
from janelia_core.files.layout import DEFAULT_MEMORY, Layout, make_layout
from janelia_core.files.stream import Progress, Stream, Work
from janelia_core.ml._knn.distances.distances import result_dtype
from janelia_core.ml._knn.face import checked_count
from janelia_core.ml._knn.metrics.registry import METRICS
from janelia_core.ml._runtime.machine import flushes_subnormals
from janelia_core.sizes import parse_bytes, show_bytes

Range = tuple[int | None, int | None]


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


@contextlib.contextmanager
def opened(
    centres: Where,
    queries: Where | None,
    dtype: torch.dtype | str | None,
    formats: tuple[str | None, str | None] = (None, None),
) -> Iterator[tuple[VectorFile, VectorFile]]:
    """Open the files of centres and of queries, which are the centres themselves if None."""
    with contextlib.ExitStack() as stack:
        c = stack.enter_context(cast(open_vectors(centres, formats[0], role="centres"), dtype))
        if queries is None:
            # Opened once more, so that what is read as queries is counted apart.
            q = stack.enter_context(cast(open_vectors(centres, formats[0], role="centres"), dtype))
        else:
            q = stack.enter_context(cast(open_vectors(queries, formats[1], role="queries"), dtype))
        if c.d != q.d:
            raise VectorFileError(q.path, f"has {q.d} columns, but {c.path} has {c.d}")
        yield c, q


def work_of(
    centres: VectorFile,
    queries: VectorFile,
    k: int,
    *,
    exclude_self: bool,
    distances: bool,
    metric: str = "euclidean",
    device: torch.device | str | None = None,
    max_memory: int | str = DEFAULT_MEMORY,
    m: int | None = None,
    rows: Range = (None, None),
    ctr_rows: Range = (None, None),
) -> Work:
    """Check the arguments of a search of files and lay its blocks out."""
    if metric not in METRICS:
        raise ValueError(f"metric must be one of {', '.join(METRICS)}, got {metric!r}")
    first_query, n_smps = _range("rows", rows, queries)
    first_ctr, n_ctrs = _range("ctr_rows", ctr_rows, centres)
    others = n_ctrs - exclude_self
    k = checked_count("k", k, others, "the number of " + ("other centres" if exclude_self else "centres"))
    layout = make_layout(
        n_smps,
        n_ctrs,
        k,
        row_bytes=queries.row_bytes,
        ctr_bytes=centres.row_bytes,
        d_bytes=(queries.d * queries.dtype.itemsize, centres.d * centres.dtype.itemsize),
        max_memory=parse_bytes(max_memory),
        but_self=exclude_self,
    )
    return Work(
        queries,
        centres,
        first_query,
        first_ctr,
        layout,
        metric,
        result_dtype(queries, centres) if distances else None,
        None if m is None else checked_count("m", m),
        _device(device),
    )


def _device(device: torch.device | str | None) -> torch.device | None:
    """Return the device blocks are sent to, or None for the CPU, where they are."""
    try:
        found = torch.empty(0, device=device).device
        torch.zeros(1, device=found).cpu()  # no number comes back from "meta"
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"device must be one that torch can use here, got {device}: {error}") from error
    return None if found.type == "cpu" else found


def _range(name: str, rows: Range, file: VectorFile) -> tuple[int, int]:
    """Return where a range of rows begins and how many it has."""
    start, stop = rows[0] or 0, file.n if rows[1] is None else rows[1]
    if not 0 <= start < stop <= file.n:
        raise ValueError(
            f"{name} must lie within the {file.n} rows of {file.path} and not be empty, got {start}:{stop}"
        )
    return start, stop - start


def search_files(
    centres: Where,
    queries: Where | None = None,
    *,
    k: int,
    out: Where,
    distances: Where | None = None,
    metric: str = "euclidean",
    dtype: torch.dtype | str | None = None,
    device: torch.device | str | None = None,
    max_memory: int | str = DEFAULT_MEMORY,
    m: int | None = None,
    rows: Range = (None, None),
    ctr_rows: Range = (None, None),
    formats: tuple[str | None, str | None, str | None] = (None, None, None),
    resume: bool = False,
    progress: Callable[[Progress], None] | None = None,
) -> FileReport:
    """Find the k nearest centres of every query, from file to file, in bounded memory.

    Args:
        centres: File of vectors (n_ctrs, d); FILE::NAME for one of several arrays.
        queries: File of vectors (n_smps, d); None: the centres, none of which is its own neighbour.
        k: Neighbours of each query.
        out: Where the answer goes: indices (n_smps, k), row numbers of the file of centres, nearest first. Formats
            of several arrays, `.npz`, `.hdf5`, `.ibin`, .., hold the distances as well.
        distances: Where the distances go, in a file of their own; None: nowhere else.
        metric: "euclidean", "sqeuclidean" (same neighbours, squared distances), "cosine" or "dot".
        dtype: A floating dtype to which all numbers are rounded first; None: as stored.
        device: Where blocks are searched; None: on the CPU.
        max_memory: Bytes, or a text such as "2GiB", that blocks and workspace take together.
        m: At most so many centres' scores at a time; None: as many as the memory allows.
        rows: Queries from, to (exclusive) row numbers; None: from the first, to the last.
        ctr_rows: Centres likewise.
        formats: Of centres, queries and out; None: by the suffix.
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
    started = time.perf_counter()
    if flushes_subnormals():
        raise ValueError("this thread flushes subnormal numbers; call torch.set_flush_denormal(False) first")
    answer = Answer.at(out, distances, formats[2])
    with opened(centres, queries, dtype, formats[:2]) as (c, q):
        work = work_of(
            c,
            q,
            k,
            exclude_self=queries is None,
            distances=answer.wants_distances,
            metric=metric,
            device=device,
            max_memory=max_memory,
            m=m,
            rows=rows,
            ctr_rows=ctr_rows,
        )
        answer.check(work.first_ctr + work.layout.n_ctrs, [c.path, q.path])
        arrays = split_name(centres), split_name(queries or centres)
        task = _task(work, *arrays, answer)
        try:
            journal = begin(answer.path, task, resume=resume)
            resumed_at = journal.finished
            stream = Stream(work, journal)
            try:
                stream.run(progress)
                if _task(work, *arrays, answer) != task:
                    raise ValueError("centres and queries must stay as they are, but changed while they were searched")
                answer.write(journal.folder, work.layout.n_smps, work.layout.k, work.distances)
            except BaseException:
                # Where nothing is finished there is nothing to resume, nor to stand in the next search's way.
                if journal.finished:
                    journal.close()
                else:
                    journal.remove()
                raise
            journal.remove()
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT):
                raise OSError(error.errno, _no_room(answer.path, work)) from error
            raise
        return FileReport(
            answer.path,
            (work.layout.n_smps, work.layout.k),
            c.d,
            work.layout,
            stream.screens,
            c.bytes_read + q.bytes_read,
            c.bytes_taken,
            time.perf_counter() - started,
            resumed_at,
        )


def _no_room(out: Path, work: Work) -> str:
    row = work.layout.k * (8 + (0 if work.distances is None else work.distances.itemsize))
    told = f"no room on the disk: the answer takes {show_bytes(2 * work.layout.n_smps * row)} while it is made"
    folder = folder_of(out)
    return f"{told}; what is finished is in {folder}, from which the search can be resumed" if folder.exists() else told


def _task(
    work: Work, centres: tuple[Path, str | None], queries: tuple[Path, str | None], answer: Answer
) -> dict[str, Any]:
    """Return all that decides the answer and its blocks."""
    layout = work.layout
    return {
        "centres": {**fingerprint(centres[0]), "name": centres[1], "dtype": str(work.centres.dtype)},
        "queries": {**fingerprint(queries[0]), "name": queries[1], "dtype": str(work.queries.dtype)},
        "k": layout.k,
        "self excluded": layout.but_self,
        "metric": work.metric,
        "distances": str(work.distances),
        "rows": [work.first_query, layout.n_smps],
        "centre rows": [work.first_ctr, layout.n_ctrs],
        "blocks": [layout.outer, layout.row_block, layout.ctr_block],
        "format": answer.format,
    }
