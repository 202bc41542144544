"""Parts of a search -> the file that the whole search would have written, in bounded memory, by ranges of rows."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from janelia_core.files.answer.answer import Answer
from janelia_core.files.answer.standard_output import DASH, opened_place
from janelia_core.files.command_line import words_of_merge
from janelia_core.files.formats.contract import VectorFile
from janelia_core.files.formats.registry import Where
from janelia_core.files.inputs.input import Input
from janelia_core.files.journal import Journal, begin, begun_with
from janelia_core.files.layout import FILES_MEMORY, Layout
from janelia_core.files.parts.asked import check_inputs, question_of
from janelia_core.files.parts.gather import Gathering
from janelia_core.files.parts.lists import Lists
from janelia_core.files.parts.part_file import PartFile
from janelia_core.files.parts.settling import Settling
from janelia_core.files.parts.together import identity, parts_of
from janelia_core.files.progress import Progress, followed
from janelia_core.files.question import Question, Range, Work
from janelia_core.files.resumable import Kept, said_how_to_go_on
from janelia_core.files.stream import Stream
from janelia_core.sizes import parse_bytes

_PER_SLOT = 256  # bytes of a listed centre: five columns, as they come, joined, sorted, and looked up
_SOME = 256  # slots of a row that may wait to be settled, at least,
_ROWS = 1024  # and as many as leave room for so many rows at a time: to settle them later takes fewer centres


@dataclass(frozen=True)
class MergeReport:
    """What a merge did.

    Attributes:
        out: The answer.
        shape: (n, k) of the answer.
        n_parts: Of how many parts.
        bytes_read: What this run read of the parts.
        bytes_taken: What near-ties made it read of the centres.
        share_taken: The same as a share of all bytes of the centres.
        seconds: How long this run took.
        steps: Ranges of rows.
        resumed_at: Those that were finished before.
    """

    out: Path
    shape: tuple[int, int]
    n_parts: int
    bytes_read: int
    bytes_taken: int
    share_taken: float
    seconds: float
    steps: int
    resumed_at: int


def merge_files(
    parts: Where | Sequence[Where],
    out: Where,
    *,
    centres: Where | Input | None = None,
    queries: Where | Input | None = None,
    rows: Range = (None, None),
    distances: Where | None = None,
    format: str | None = None,
    convention: str | None = None,
    max_memory: int | str = FILES_MEMORY,
    resume: bool = False,
    progress: Callable[[Progress], None] | None = None,
) -> MergeReport:
    """Make one answer of the parts of a search: the bytes that the whole search would have written.

    Args:
        parts: Files that `search_files` wrote with `part`, in any order; or a folder, or a pattern.
        out: Where the answer goes, as for `search_files`.
        centres: The file of the centres of all parts, where it is here; None: where it was when they were searched.
        queries: That of the queries, likewise.
        rows: Queries from, to (exclusive) row numbers of their file: a merge can be shared out, too. None: all.
        distances: Where the distances go, in a file of their own; None: nowhere else.
        format: Of out; None: by the suffix.
        convention: Which distances are written, as for `search_files`; None: as the parts were told.
        max_memory: Bytes, or a text such as "2GiB", whatever the number of parts.
        resume: Go on with the unfinished merge that is beside out, if there is one.
        progress: Called after every range of rows.

    Returns:
        What was done.

    Raises:
        VectorFileError: A file is not what it should be; parts are missing, or not of one search.
        ValueError: An argument is wrong.
        FileExistsError: An unfinished merge is there, and resume is False.
        OSError: A file cannot be read or written; what was finished can be resumed.

    Exactness: order values decide as a rule; centres are read where those of different parts may be equal.
    """
    started = time.perf_counter()
    with opened_place(out, format, resume) as place:
        answer = Answer.at(place, distances, format)
        files = parts_of(parts)
        question = question_of(files[0], answer, centres, queries, rows, convention, max_memory)
        words = [] if out == DASH else words_of_merge(parts, answer, format, question, (centres, queries))
        kept = Kept(place.target, answer.purpose, answer.wants_distances, words, resume, lambda work: None)
        with _merged(question, files, answer, kept, progress) as (work, stream, resumed_at):
            taken, whole = work.centres.bytes_taken, work.centres.n * work.centres.row_bytes
            layout = work.layout
            with followed().at("writing the answer"):
                answer.write(stream.folder, work)
            return MergeReport(
                answer.place.said,
                (layout.n_smps, layout.k),
                len(files),
                stream.bytes_read,
                taken,
                taken / whole,
                time.perf_counter() - started,
                layout.n_steps,
                resumed_at,
            )


class Merging(Stream):
    """Merges ranges of rows that the journal does not list yet.

    Attributes:
        folder: Where the answer is.
        bytes_read: What was read of the parts.
    """

    def __init__(self, work: Work, journal: Journal, files: Sequence[PartFile], memory: int, most: int) -> None:
        super().__init__(work, journal)
        self.folder = journal.folder
        self.bytes_read = 0
        self._parts = files
        self._settling = Settling(work.queries, work.centres, work.layout.kept, memory // 4)
        self._most = most

    @contextlib.contextmanager
    def _ready(self) -> Iterator[Callable[[int], None]]:
        yield self._merge

    def _merge(self, number: int) -> None:
        """Merge one range of rows."""
        work, layout = self._work, self._work.layout
        start = number * layout.row_block
        stop = min(start + layout.row_block, layout.n_smps)
        done = self._pairs(number)
        with self._told.step(done, self._pairs(number + 1) - done, stop - start):
            gathering = Gathering(self._settling, torch.arange(start, stop) + work.first_query, self._most)
            skipped = work.first_query - self._parts[0].header.rows[0]
            for source, file in enumerate(self._parts):
                rows = file.read(start + skipped, stop + skipped)
                self.bytes_read += rows.nbytes
                gathering.add(Lists.of(file, rows, source, work.metric, work.centres.d))
            indices, distance = gathering.answer()
            self._answer(number, indices, None if work.distances is None else distance)


@contextlib.contextmanager
def _merged(
    question: Question,
    files: Sequence[PartFile],
    answer: Answer,
    kept: Kept,
    progress: Callable[[Progress], None] | None,
) -> Iterator[tuple[Work, Merging, int]]:
    """Merge, and give what was made to the block, after which nothing is kept unless it fails."""
    header, memory = files[0].header, parse_bytes(question.max_memory)
    with question.opened() as (c, q):
        check_inputs(question, c, q, files[0])
        c.near = 2 * c.row_bytes  # of what is read at least half is wanted
        work, most = _work(question, c, q, kept, files, memory)
        answer.check(work, [file.path for file in files])
        task = {
            "centres": header.task["centres"],
            "queries": header.task["queries"],
            "parts": identity(files),
            "rows": [work.first_query, work.layout.n_smps],
            "told": work.told.change,
            "distances": str(work.distances),
            "blocks": work.layout.row_block,
            "format": f"merged {kept.purpose}",
        }
        with said_how_to_go_on(kept, work):
            journal = begin(kept.beside, task, kept.words, resume=kept.resume)
            with journal.ended():
                resumed_at = journal.finished
                stream = Merging(work, journal, files, memory, most)
                stream.run(progress)
                check_inputs(question, c, q, files[0])
                yield work, stream, resumed_at


def _work(
    question: Question, c: VectorFile, q: VectorFile, kept: Kept, files: Sequence[PartFile], memory: int
) -> tuple[Work, int]:
    """Return what is merged, in ranges of rows that the memory has room for, and how many slots a row may have."""
    work = question.work(c, q, kept.distances).searched()
    layout, searched_by = work.layout, files[0].header.task["searched by"]
    if work.distances is not None and work.metric != searched_by:
        told = f"convention {question.convention or 'ours'} tells distances by {work.metric}, parts hold {searched_by}"
        raise ValueError(f"{told}: search them with that convention, or merge into a file without distances")
    work = replace(work, metric=searched_by)
    widths = [file.header.record.width for file in files]
    slots = max(_SOME, 2 * layout.kept, memory // 2 // (_PER_SLOT * min(layout.n_smps, _ROWS)))
    slots = min(slots, sum(widths))
    row = (slots + layout.kept + 2 * max(widths)) * _PER_SLOT
    most = memory // 2 // row
    begun = begun_with(kept.beside).get("blocks") if kept.resume else None
    block = begun if type(begun) is int and 1 <= begun <= layout.n_smps else max(1, min(layout.n_smps, most))
    if block > max(1, most):
        raise ValueError(f"max_memory must be {2 * row * block} bytes for the rows that this merge was begun with")
    n_ctrs = layout.n_ctrs
    ranges = Layout(layout.n_smps, n_ctrs, layout.k, "queries", block, n_ctrs, 0, 0, 0, 0, layout.but_self)
    return replace(work, layout=ranges), slots
