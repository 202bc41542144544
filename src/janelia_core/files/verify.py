"""Whether another tool's answer is right, row by row, with ties counted fairly.

A listed centre counts if it is no farther than the true k-th neighbour, whichever of several equally distant ones it
is, and if it is not listed twice. That is how ann-benchmarks and big-ann-benchmarks count recall@k, except that
distances are compared exactly here: no tolerance makes a wrong neighbour right.

Recall counted so can be 1 for a row that lists two centres tied with the k-th and leaves out a nearer one. That row is
no answer, so it is wrong all the same.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from janelia_core.files.errors import VectorFileError
from janelia_core.files.formats.contract import VectorFile
from janelia_core.files.formats.registry import Where
from janelia_core.files.inputs.input import Input, open_vectors
from janelia_core.files.inputs.metric_names import meant_metric
from janelia_core.files.layout import FILES_MEMORY
from janelia_core.files.question import Question, Range
from janelia_core.files.search import search_files
from janelia_core.files.stream import Progress
from janelia_core.ml._knn.merge import compare

_ROWS = 1024
_SHOWN = 10


@dataclass
class Recall:
    """How right an answer is.

    Attributes:
        n_rows: Rows of the answer.
        k: Neighbours of each row that were checked.
        n_found: Listed centres that are among the k nearest, ties counted fairly.
        n_wrong: Rows in which not all k are, or which leave out a centre nearer than the k-th.
        n_unordered: Rows that are right, but not nearest first.
        n_identical: Rows equal to this library's answer, in which ties go to the lowest row number.
        wrong_rows: The first few wrong rows.
    """

    n_rows: int
    k: int
    n_found: int = 0
    n_wrong: int = 0
    n_unordered: int = 0
    n_identical: int = 0
    wrong_rows: list[int] = field(default_factory=list)

    @property
    def recall(self) -> float:
        """Recall@k: the share of the k nearest that was found, over all rows."""
        return self.n_found / (self.n_rows * self.k)

    @property
    def all_right(self) -> bool:
        """Whether no row is wrong."""
        return self.n_wrong == 0

    def __str__(self) -> str:
        rows = ", ".join(map(str, self.wrong_rows)) + (", ..." if self.n_wrong > len(self.wrong_rows) else "")
        return "\n".join(
            [
                f"recall@{self.k}: {self.recall:.6f} ({self.n_found} of {self.n_rows * self.k})",
                f"wrong rows: {self.n_wrong} of {self.n_rows}" + (f" ({rows})" if self.n_wrong else ""),
                f"right, but not nearest first: {self.n_unordered} rows",
                f"identical to the exact answer with ties to the lowest row number: {self.n_identical} rows",
            ]
        )


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
        progress: Called after every step of the exact search.

    Raises:
        VectorFileError: A file is not what it should be, or the answer has another number of rows.
    """
    with Input.of(answer, formats[2]).opened("indices") as listed, tempfile.TemporaryDirectory() as folder:
        k = listed.d if k is None else k
        if k > listed.d:
            raise ValueError(f"k must be at most the answer's {listed.d} columns, got {k}")
        inputs = Input.of(centres, formats[0]), None if queries is None else Input.of(queries, formats[1])
        question = Question(*inputs, k, metric, dtype, device, max_memory, None, rows, ctr_rows)
        _check_rows(listed, question)
        exact = Path(folder) / "exact.npy"
        search_files(**question._asdict(), out=exact, progress=progress)
        with question.opened() as (c, q), open_vectors(exact) as truth:
            found = Recall(listed.n, k)
            metric = meant_metric(metric, c)
            limits = (ctr_rows[0] or 0, c.n if ctr_rows[1] is None else ctr_rows[1])
            for start in range(0, listed.n, _ROWS):
                stop = min(start + _ROWS, listed.n)
                first = (rows[0] or 0) + start
                x = q.read(first, first + stop - start)
                own = torch.arange(first, first + len(x)) if queries is None else None
                theirs = _numbers(listed, start, stop)[:, :k]
                _count(found, start, x, c, truth.read(start, stop), theirs, limits, own, metric)
        return found


def _check_rows(listed: VectorFile, question: Question) -> None:
    """Refuse an answer to another number of queries before the search."""
    first, stop = question.rows
    with question._replace(dtype=None).opened() as (_, q):
        n = (q.n if stop is None else stop) - (first or 0)
    if listed.n != n:
        raise VectorFileError(listed.path, f"has {listed.n} rows, but there are {n} queries")


def _numbers(listed: VectorFile, start: int, stop: int) -> Tensor:
    """Return rows of an answer as int64."""
    values = listed.read(start, stop)
    numbers = values.to(torch.int64)
    if not torch.equal(numbers.to(values.dtype), values):
        raise VectorFileError(
            listed.path, f"holds {values.dtype} that are no row numbers, in rows {start} to {stop - 1}"
        )
    return numbers


def _count(
    found: Recall,
    start: int,
    x: Tensor,
    centres: VectorFile,
    truth: Tensor,
    theirs: Tensor,
    limits: tuple[int, int],
    own: Tensor | None,
    metric: str,
) -> None:
    """Count a block of rows x (r, d), with the true neighbours (r, k) and the listed ones (r, k)."""
    valid = (theirs >= limits[0]) & (theirs < limits[1])
    if own is not None:
        valid &= theirs != own[:, None]
    by_number = theirs.sort(dim=1, stable=True)
    repeated = torch.zeros_like(valid)
    repeated.scatter_(1, by_number.indices[:, 1:], by_number.values[:, 1:] == by_number.values[:, :-1])
    valid &= ~repeated
    sorted_truth = truth.sort(dim=1).values
    place = torch.searchsorted(sorted_truth, theirs.contiguous()).clamp(max=truth.shape[1] - 1)
    right = valid & (sorted_truth.gather(1, place) == theirs)
    row, slot = (valid & ~right).nonzero(as_tuple=True)
    # What is not among the exact answer is right only where it ties with the last of that.
    right[row, slot] = compare(x[row], centres, theirs[row, slot], truth[row, -1], metric) <= 0
    identical = (theirs == truth).all(dim=1)
    good = right.all(dim=1) & ~_misses_nearer(x, centres, truth, theirs, metric)
    found.n_found += int(right.sum())
    found.n_identical += int(identical.sum())
    found.n_unordered += _unordered(x, centres, theirs, good & ~identical, metric)
    wrong = (~good).nonzero()[:, 0]
    found.n_wrong += len(wrong)
    found.wrong_rows += (wrong[: _SHOWN - len(found.wrong_rows)] + start).tolist()


def _misses_nearer(x: Tensor, centres: VectorFile, truth: Tensor, theirs: Tensor, metric: str) -> Tensor:
    """Tell for which rows (r,) a true neighbour is not listed though it is nearer than the k-th."""
    ours = theirs.sort(dim=1).values
    place = torch.searchsorted(ours, truth.contiguous()).clamp(max=ours.shape[1] - 1)
    row, slot = (ours.gather(1, place) != truth).nonzero(as_tuple=True)
    missed = torch.zeros(len(x), dtype=torch.bool)
    missed[row[compare(x[row], centres, truth[row, slot], truth[row, -1], metric) < 0]] = True
    return missed


def _unordered(x: Tensor, centres: VectorFile, theirs: Tensor, rows: Tensor, metric: str) -> int:
    """Return how many of the rows where `rows` are not in order of distance."""
    row = rows.nonzero()[:, 0].repeat_interleave(theirs.shape[1] - 1)
    before, after = theirs[rows, :-1].reshape(-1), theirs[rows, 1:].reshape(-1)
    return len(torch.unique(row[compare(x[row], centres, before, after, metric) > 0]))
