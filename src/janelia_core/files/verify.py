"""Whether another tool's answer is right: the exact one is searched, and compared row by row.

The exact answer is kept beside the one that is checked until all is compared, so that a check can go on as a search
can. Nothing is written where it could not be kept.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from janelia_core.files.answer.answer import Answer
from janelia_core.files.answer.place import Place
from janelia_core.files.command_line import words_of_verify
from janelia_core.files.errors import VectorFileError
from janelia_core.files.formats.contract import VectorFile
from janelia_core.files.formats.raw import RawVectors
from janelia_core.files.formats.registry import Where, format_named, split_name
from janelia_core.files.inputs.input import Input
from janelia_core.files.inputs.metric_names import meant_metric, notes_on_metric
from janelia_core.files.labels.open import Asked
from janelia_core.files.layout import FILES_MEMORY, reading_memory
from janelia_core.files.progress import Progress, followed
from janelia_core.files.question import Question, Range, Work
from janelia_core.files.recall import Recall, count
from janelia_core.files.resumable import Found, Kept, searched
from janelia_core.files.stored_distances import DistanceCheck, Kind, kinds_of, true_distances
from janelia_core.ml._knn.distances.distances import result_dtype
from janelia_core.sizes import parse_bytes

_ROWS = 1024
_COORDINATES, _PER_COORDINATE = 1 << 20, 64  # of pairs that are compared at once; bytes of one
_PER_NEIGHBOUR = 128  # bytes of one that is compared: listed, true, sorted, looked up, fetched


def verify_files(
    centres: Where | Input,
    queries: Where | Input | None,
    answer: Where | Input,
    *,
    k: int | None = None,
    metric: str | None = None,
    dtype: torch.dtype | str | None = None,
    device: torch.device | str | None = None,
    max_memory: int | str = FILES_MEMORY,
    rows: Range = (None, None),
    ctr_rows: Range = (None, None),
    formats: tuple[str | None, str | None, str | None] = (None, None, None),
    distances: Where | Input | None = None,
    convention: str | None = None,
    labels: tuple[Where, Where] | None = None,
    labels_match: str = "any",
    out: Where | None = None,
    resume: bool = False,
    progress: Callable[[Progress], None] | None = None,
) -> Recall:
    """Check another tool's nearest neighbours against the exact ones.

    Args:
        centres: File of vectors (n_ctrs, d); FILE::NAME for one of several arrays; or an `Input`.
        queries: File of vectors (n_smps, d); None: the centres, none its own neighbour.
        answer: File of row numbers (n_smps, at least k).
        k: How many of its columns are checked; None: all.
        metric: As for `search_files`.
        dtype: A floating dtype to which all numbers are rounded first; None: as stored.
        device: Where blocks are searched; None: on the CPU.
        max_memory: Bytes, or a text such as "2GiB", that blocks and workspace take together.
        rows: Queries from, to (exclusive) row numbers; the answer's rows are numbered from 0 all the same.
        ctr_rows: Centres from, to (exclusive) row numbers; None: from the first, to the last.
        formats: Of centres, queries and answer.
        distances: File of the distances of the listed centres, which are checked as well; None: those in the file of
            the answer, if there are any.
        convention: By which these are told, as for `search_files`; None: found out from the first rows.
        labels: As for `search_files`.
        labels_match: As there.
        out: Where the exact answer goes, as for `search_files`; None: nowhere.
        resume: Go on with the unfinished check, which is kept beside `out`, else beside the answer as
            ANSWER.verify.unfinished.
        progress: Called after every step of the exact search.

    Raises:
        VectorFileError: A file is not what it should be, or the answer has another number of rows.
        FileExistsError: An unfinished check is there, and resume is False.
    """
    listed_in = Input.of(answer, formats[2])
    inputs = Input.of(centres, formats[0]), None if queries is None else Input.of(queries, formats[1])
    with contextlib.ExitStack() as stack:
        listed = stack.enter_context(listed_in.opened("indices"))
        most = listed.d if k is None else k
        if most > listed.d:
            raise ValueError(f"k must be at most the answer's {listed.d} columns, got {k}")
        by = None if labels is None else Asked(labels, labels_match)
        question = Question(*inputs, most, metric, dtype, device, max_memory, None, rows, ctr_rows, labels=by)
        stored = _opened_distances(stack, listed_in, listed.format, distances)
        kind = _kind_of(question, listed, stored, convention)
        exact = None if out is None else Answer.at(Place.of(out), None, None)
        wants = stored is not None or (exact is not None and exact.wants_distances)
        beside = stack.enter_context(_place(listed.path, exact, resume))
        apart = distances.where if isinstance(distances, Input) else distances
        more = {"--distances": apart, "--convention": convention, "--out": out}
        words = words_of_verify(question, listed_in, k, more)

        def check(work: Work) -> None:
            if exact is not None:
                exact.place.check_inputs([listed.path, *listed.files])
                exact.check(work)

        kept = Kept(beside, "verify" if exact is None else exact.format, wants, words, resume, check)
        asked = question._replace(metric=question.metric if kind is None else kind.told.metric)
        with searched(asked, kept, progress) as found:
            with followed().at("comparing the answer"):
                recall = _compared(asked, found, listed, stored, kind)
            recall.notes = notes_on_metric(metric, found.work.centres, found.work.queries, listed)
            if exact is not None:
                with followed().at("writing the answer"):
                    exact.write(found.folder, found.work)
        return recall


def _compared(
    question: Question, found: Found, listed: VectorFile, stored: VectorFile | None, kind: Kind | None
) -> Recall:
    """Compare the listed neighbours, and their distances if there are any, with what was found."""
    work, k = found.work, found.work.layout.k
    told = None if kind is None else DistanceCheck(kind.words)
    recall = Recall(listed.n, k, distances=told)
    memory = parse_bytes(question.max_memory)
    budget = reading_memory(memory)
    # All that is listed may have to be compared, each with a row of its own; no block is in memory any more.
    work.centres.chunk = max(work.centres.chunk, min(_COORDINATES, memory // 4 // _PER_COORDINATE))
    step = max(1, min(_ROWS, memory // 4 // (k * (_PER_NEIGHBOUR + work.queries.d * work.queries.dtype.itemsize))))
    with contextlib.ExitStack() as stack:
        truth = stack.enter_context(RawVectors(found.folder / "indices", 0, listed.n, k, "i8"))
        measured = None
        if work.distances is not None:
            number = f"f{work.distances.itemsize}"
            measured = stack.enter_context(RawVectors(found.folder / "distances", 0, listed.n, k, number))
        for start in range(0, listed.n, step):
            stop = min(start + step, listed.n)
            first = work.first_query + start
            x = work.queries.read(first, first + stop - start)
            theirs = _numbers(listed, start, stop)[:, :k].contiguous()
            valid = (theirs >= work.first_ctr) & (theirs < work.first_ctr + work.layout.n_ctrs)
            if work.layout.but_self:
                valid &= theirs != torch.arange(first, first + len(x))[:, None]
            if work.labels is not None:
                valid &= work.labels.are_shared(first, theirs.masked_fill(~valid, -1))
            ours = truth.read(start, stop)
            count(recall, start, x, work.centres, ours, theirs, valid, work.metric)
            if stored is not None and kind is not None and told is not None and measured is not None:
                values = stored.read(start, stop)[:, :k]
                wide = _is_wide(values.dtype, work)
                known = None if wide else (ours, measured.read(start, stop))
                true = _true(x, work.centres, theirs.masked_fill(~valid, -1), kind, budget, known)
                told.add(values, kind.told.of(true), valid)
    return recall


def _true(
    x: Tensor, centres: VectorFile, listed: Tensor, kind: Kind, budget: int, known: tuple[Tensor, Tensor] | None
) -> Tensor:
    """Return the distances of what is listed: what the search found, else computed; in float64 if None is known."""
    if known is None:
        return true_distances(x, centres, listed, kind.told.metric, budget, wide=True)
    numbers, order = known[0].sort(dim=1)
    place = torch.searchsorted(numbers, listed).clamp(max=numbers.shape[1] - 1)
    there = numbers.gather(1, place) == listed
    others = true_distances(x, centres, listed.masked_fill(there, -1), kind.told.metric, budget, wide=False)
    return torch.where(there, known[1].gather(1, order.gather(1, place)), others)


def _is_wide(stored: torch.dtype, work: Work) -> bool:
    """Tell whether stored distances say more than those that a search finds."""
    return stored == torch.float64 and result_dtype(work.queries, work.centres) != torch.float64


def _kind_of(question: Question, listed: VectorFile, stored: VectorFile | None, convention: str | None) -> Kind | None:
    """Check, before the search, that the answer has a row for every query, and find out which distances are stored."""
    with question.opened() as (_, q):
        start, stop = question.rows
        n = (q.n if stop is None else stop) - (start or 0)
        if listed.n != n:
            raise VectorFileError(listed.path, f"has {listed.n} rows, but there are {n} queries")
    if stored is None:
        return None
    if stored.n != listed.n or stored.d < question.k:
        wanted = f"{listed.n} rows of at least {question.k} distances"
        raise VectorFileError(stored.path, f"has {stored.n} rows of {stored.d} columns, where there should be {wanted}")
    with question.opened() as (c, q):
        work = question.work(c, q, distances=True)
        budget = reading_memory(parse_bytes(question.max_memory))
        rows = max(1, min(_ROWS, listed.n, budget // (question.k * _PER_NEIGHBOUR + q.row_bytes)))
        x, theirs = q.read(work.first_query, work.first_query + rows), _numbers(listed, 0, rows)[:, : question.k]
        valid = (theirs >= work.first_ctr) & (theirs < work.first_ctr + work.layout.n_ctrs)
        values, wanted_rows = stored.read(0, rows)[:, : question.k], theirs.masked_fill(~valid, -1)
        tried: dict[Kind, DistanceCheck] = {}
        for kind in kinds_of(meant_metric(question.metric, c), convention):
            tried[kind] = DistanceCheck(kind.words)
            true = true_distances(x, c, wanted_rows, kind.told.metric, budget, _is_wide(values.dtype, work))
            tried[kind].add(values, kind.told.of(true), valid)
    return min(tried, key=lambda kind: (tried[kind].n_off, -tried[kind].n_equal))


def _opened_distances(
    stack: contextlib.ExitStack, answer: Input, format: str, given: Where | Input | None
) -> VectorFile | None:
    """Open the distances that are stored: in a file of their own, else beside the row numbers, if any are."""
    if given is not None:
        return stack.enter_context(Input.of(given).opened("distances"))
    if not format_named(format).several:
        return None
    where = [f"{split_name(one)[0]}::distances" for one in answer.all]
    try:
        return stack.enter_context(replace(answer, where=where).opened("distances"))
    except VectorFileError as error:
        if "holds no array" in str(error) or "holds neighbours only" in str(error):
            return None
        raise  # there are distances, and they cannot be read


@contextlib.contextmanager
def _place(answer: Path, exact: Answer | None, resume: bool) -> Iterator[Path]:
    """Give the file beside which the unfinished check is kept: of a folder that may be written."""
    if exact is not None:
        yield exact.place.target
    elif os.access(answer.absolute().parent, os.W_OK):
        yield answer.with_name(answer.name + ".verify")
    elif resume:
        raise ValueError(f"{answer}: its folder may not be written, so no check was kept there; give out, elsewhere")
    else:
        with tempfile.TemporaryDirectory() as folder:
            yield Path(folder) / "verify"


def _numbers(listed: VectorFile, start: int, stop: int) -> Tensor:
    """Return rows of an answer as int64."""
    values = listed.read(start, stop)
    numbers = values.to(torch.int64)
    if not torch.equal(numbers.to(values.dtype), values):
        raise VectorFileError(
            listed.path, f"holds {values.dtype} that are no row numbers, in rows {start} to {stop - 1}"
        )
    return numbers
