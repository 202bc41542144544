"""A search that can go on: its inputs known again, its blocks those of the journal, its steps worked off.

What is made of its arrays is made while the journal is still there, so that a failure there loses no step either.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeGuard

from janelia_core.files.errors import error_line
from janelia_core.files.fingerprint import content, fingerprint, states
from janelia_core.files.formats.contract import VectorFile
from janelia_core.files.inputs.input import Input
from janelia_core.files.journal import begin, begun_with, folder_of, resuming
from janelia_core.files.layout import with_blocks
from janelia_core.files.progress import Progress
from janelia_core.files.question import Question, Work
from janelia_core.files.stream import Stream
from janelia_core.files.unchanged import check_unchanged, compare_touched
from janelia_core.ml._runtime.machine import flushes_subnormals
from janelia_core.sizes import parse_bytes, show_bytes

_FULL = ("ENOSPC", "EDQUOT", "EFBIG")
_PASSING = (*_FULL, "EIO", "ESTALE", "ETIMEDOUT", "ENOMEM")
"""Names of errors of the disk or the machine, and not of what was asked: when they are over, the search can go on."""


class StoppedError(OSError):
    """The disk or the machine stopped a search, and what it had finished is kept."""


@dataclass(frozen=True)
class Kept:
    """Where an unfinished search is kept, and for what.

    Attributes:
        beside: The file that it is for: the folder is beside it.
        purpose: What is made of it, for the journal: the format of an answer, or another word.
        distances: Whether they are wanted.
        words: The command line that asks for it; empty where nobody can go on with it.
        resume: Go on with what is there.
        check: Called with what is searched, before the work.
    """

    beside: Path
    purpose: str
    distances: bool
    words: Sequence[str]
    resume: bool
    check: Callable[[Work], None]


@dataclass(frozen=True)
class Found:
    """A search whose steps are all done.

    Attributes:
        work: What was searched; its files are open.
        folder: Where `indices` and `distances` are.
        screens: Which screens ran.
        resumed_at: Steps that were finished before.
    """

    work: Work
    folder: Path
    screens: list[str]
    resumed_at: int


@contextlib.contextmanager
def searched(question: Question, kept: Kept, progress: Callable[[Progress], None] | None) -> Iterator[Found]:
    """Search, and give what was found to the block, after which nothing is kept unless it fails.

    Raises:
        ValueError: An argument is wrong, or inputs changed since the search was begun.
        FileExistsError: An unfinished search is there, and is not to be resumed.
        StoppedError: The disk stopped it; what was finished can be resumed, by the command that is said.
        OSError: A file cannot be read or written.
        KeyboardInterrupt: By Ctrl-C, with the command to go on with.
    """
    if flushes_subnormals():
        raise ValueError("this thread flushes subnormal numbers; call torch.set_flush_denormal(False) first")
    with question.opened() as (c, q), question.labelled(c, q) as labels:
        work = question.work(c, q, kept.distances, labels=labels).searched()
        by = [] if question.labels is None else question.labels.paths()
        before = states(by)
        task = _task(work, question, kept.purpose)
        if kept.resume:
            work = _as_begun(work, question, begun_with(kept.beside), task)
            task["blocks"] = _blocks(work)
        with said_how_to_go_on(kept, work):
            kept.check(work)
            journal = begin(kept.beside, task, kept.words, resume=kept.resume)
            with journal.ended():
                resumed_at = journal.finished
                if journal.begun:
                    compare_touched(work, journal.begun, task, journal.digests)
                stream = Stream(work, journal)
                stream.run(progress)
                screens = stream.screens
                del stream  # what makes the answer may have its room
                check_unchanged(question, work, task, journal.digests)
                if states(by) != before and fingerprints_of_labels(question) != task["labels"]:
                    raise ValueError("labels must stay as they are, but changed while they were searched by")
                yield Found(work, journal.folder, screens, resumed_at)


def _task(work: Work, question: Question, purpose: str) -> dict[str, Any]:
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
        "blocks": _blocks(work),
        "format": purpose,
        "labels": fingerprints_of_labels(question),
    }


def fingerprints_of_labels(question: Question) -> list[Any] | None:
    """Return by what labels are known again."""
    if question.labels is None:
        return None
    return [question.labels.match, *map(content, question.labels.paths())]


def _same(file: VectorFile, input: Input) -> dict[str, Any]:
    """Return by what an input is known again."""
    return {**fingerprint(file.files), "read as": [input.name, *file.shape, str(file.dtype)]}


def _blocks(work: Work) -> list[Any]:
    return [work.layout.outer, work.layout.row_block, work.layout.ctr_block]


def _as_begun(work: Work, question: Question, begun: dict[str, Any], task: dict[str, Any]) -> Work:
    """Return the work in the blocks that it was begun with, where it is the same but for another max_memory."""
    blocks = begun.get("blocks")
    others = set(task) - {"blocks", "centres", "queries"}
    if any(begun.get(key) != task[key] for key in others) or not _are_blocks(blocks, work) or blocks == task["blocks"]:
        return work
    layout = with_blocks(
        work.layout,
        (blocks[0], blocks[1], blocks[2]),
        row_bytes=work.queries.row_bytes,
        ctr_bytes=work.centres.row_bytes,
        d_bytes=work.d_bytes,
        max_memory=parse_bytes(question.max_memory),
    )
    return replace(work, layout=layout)


def _are_blocks(found: Any, work: Work) -> TypeGuard[list[Any]]:
    """Tell whether a journal's blocks are such as a search can have."""
    if not isinstance(found, list) or len(found) != 3 or found[0] not in ("queries", "centres"):
        return False
    limits = work.layout.n_smps, work.layout.n_ctrs
    return all(type(size) is int and 1 <= size <= most for size, most in zip(found[1:], limits, strict=True))


@contextlib.contextmanager
def said_how_to_go_on(kept: Kept, work: Work) -> Iterator[None]:
    """Add to what stops a search, though it can go on, the command to type."""
    folder, command = folder_of(kept.beside), resuming(kept.words)
    try:
        yield
    except KeyboardInterrupt as stop:
        if not folder.exists() or not kept.words:
            raise
        raise KeyboardInterrupt(f"go on with: {command}") from stop
    except OSError as error:
        name = errno.errorcode.get(error.errno or 0)
        if name not in _PASSING:
            raise
        told, stays = error_line(error), folder.exists()
        if name in _FULL and error.strerror == os.strerror(error.errno or 0):  # which does not say how much it takes
            row = work.layout.k * (8 + (0 if work.distances is None else work.distances.itemsize))
            told = f"no room on the disk: the answer takes {show_bytes(2 * work.layout.n_smps * row)} while it is made"
        if stays and kept.words:
            told += f"; what is finished is in {folder}, from which the search can be resumed by: {command}"
        kind = StoppedError if stays else OSError
        raise kind(error.errno, told) from error
