"""The codebook screen: a pass over many rows, in which blocks of them meet all of few centres at once."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from janelia_core.ml._knn.answers import Answers, memory_of
from janelia_core.ml._knn.contract import Candidates
from janelia_core.ml._knn.data.points import Points
from janelia_core.ml._knn.metrics.metric import COSINE
from janelia_core.ml._knn.rows import Rows
from janelia_core.ml._knn.screens.codebook import cost, kernels
from janelia_core.ml._knn.screens.codebook.book import book_of, wide_of
from janelia_core.ml._knn.screens.codebook.kernels import Book, Output
from janelia_core.ml._knn.screens.contract import Asked, Lister, Meeting
from janelia_core.ml._knn.screens.rungs import Rungs
from janelia_core.ml._runtime.arrays import I64
from janelia_core.ml._simd.row_lanes import ROWS

_IN_PLACE = (torch.float32, torch.float64)
_NARROW = (torch.float16, torch.bfloat16, torch.uint8, torch.int8, torch.int16, torch.bool)
_PIECES, _WORK = 4, 1e6  # for each worker, and the least of one in nanoseconds
_PROBE, _PROBED = 256, 4096  # rows that tell whether the pass proves enough, of so many
_MOST_LOST = 0.2  # of them
_NONE = np.empty(0, np.int64)


class PreparedBook:
    """Few centres, in words: for rows of a type when the first ones come.

    Args:
        ctrs: The centres, finite.
        form: `Metric.form`.
    """

    stands = True

    def __init__(self, ctrs: Points, form: int) -> None:
        self.wide = wide_of(ctrs, form)
        self.numbers = _NONE if ctrs.subset is None else ctrs.subset.numpy()
        self._books: dict[Any, Book] = {}

    @property
    def nbytes(self) -> int:
        """Bytes of the centres in float64 and of their words."""
        books = sum(part.nbytes for book in list(self._books.values()) for part in (*book[:-1], *book.halves))
        return self.wide.ctrs.nbytes + books

    def book(self, dtype: Any) -> Book:
        """Return the words for rows of a type."""
        found = self._books.get(dtype)
        if found is None:
            found = self._books[dtype] = book_of(self.wide, dtype)
        return found

    def meet(self, asked: Asked) -> Meeting | None:
        """Bring the rows; None where a sample of them says that the ladder would have too much to do."""
        sweep = Sweep(self, asked)
        if len(asked.x) >= _PROBED and sweep.loses_many():
            asked.report.look = "scores in float32 prove too little"
            return None
        return sweep


class _Nobody:
    """Lists nothing: what the pass leaves in doubt is verified with every centre."""

    def candidates(self, rows: Rows) -> Candidates:
        """Return no candidates."""
        r = len(rows.values)
        nobody = torch.full((r, 1), -1, dtype=torch.int64, device="cpu")
        return Candidates(nobody, torch.full((r,), -torch.inf, dtype=torch.float64, device="cpu"))


class Sweep(Meeting):
    """The pass over all rows.

    Args:
        prepared: The centres.
        asked: The search.
    """

    def __init__(self, prepared: PreparedBook, asked: Asked) -> None:
        nobody: Lister = _Nobody()
        super().__init__(Rungs(lambda _: nobody), compiled=True)
        self._prepared, self._asked, self._k = prepared, asked, asked.plan.k

    def loses_many(self) -> bool:
        """Tell whether many of a few rows stay in doubt."""
        x = self._asked.x
        step = max(1, len(x) // _PROBE)
        some = x.block(0, step * _PROBE, step)
        spare = torch.empty(self._k, len(some), dtype=torch.int64, device="cpu")
        return len(self._search(some, slice(0, len(some)), 0, spare)) > _MOST_LOST * len(some)

    def sweep(self, answers: Answers) -> Tensor:
        """Answer all rows whose answer is proven, shared out to the workers; return the positions of the others."""
        workers, n = self._asked.workers, len(self._asked.x)
        work = cost.cost(self._asked.plan.problem._replace(n_smps=n)).work
        pieces = workers.count * max(1, min(_PIECES, int(work / workers.count / _WORK)))
        step = max(ROWS, -(-n // pieces // ROWS) * ROWS, 1)
        if not self._in_place:
            step = max(ROWS, min(step, self._asked.plan.crew.chunk // max(1, self._asked.x.d)))
        left = workers.each(lambda first: self._piece(first, min(first + step, n), answers), range(0, n, step))
        return torch.from_numpy(np.concatenate(left))

    @property
    def _in_place(self) -> bool:
        x = self._asked.x
        return x.values.dtype in _IN_PLACE and x.values.is_contiguous() and x.subset is None

    def _piece(self, start: int, stop: int, answers: Answers) -> I64:
        x = self._asked.x
        if self._in_place:
            values, part, column = x.values, slice(start, stop), 0
        else:
            values, part, column = x.block(start, stop), slice(0, stop - start), start
        if not answers.but_self:
            return self._search(values, part, column, answers.out) + column
        found = torch.full((self._k, stop - start), -1, dtype=torch.int64, device="cpu")
        left = self._search(values, part, -part.start, found) + column
        answers.put(slice(start, stop), found.T, x.row_numbers(torch.arange(start, stop, device="cpu")))
        return left

    def _search(self, values: Tensor, part: slice, column: int, out: Tensor) -> I64:
        """Write what is proven of some of the rows; return the others, which a longer list did not prove either."""
        if values.dtype not in _IN_PLACE or not values.is_contiguous():
            dtype = torch.float64 if values.dtype not in (*_NARROW, torch.float32) else torch.float32
            values = values.to(dtype).contiguous()
        x, prepared, k = values.numpy(), self._prepared, self._k
        book, doubtful = prepared.book(x.dtype.type), np.empty(part.stop - part.start, np.int64)
        output = Output(*memory_of(out), prepared.numbers, doubtful)
        asked = kernels.Asked(x, _NONE, part.start, part.stop, column, k, k + 1)
        left: I64 = doubtful[: kernels.answer(book, prepared.wide, asked, output)]
        if len(left) == 0 or prepared.wide.form == COSINE:
            return left
        again = np.empty(len(left), np.int64)
        asked = asked._replace(rows=left, start=0, stop=len(left), width=k + 1 + cost.SLACK)
        return again[: kernels.answer(book, prepared.wide, asked, output._replace(doubtful=again))]
