"""The codebook screen: a pass over many rows, in which blocks of them meet all of few centres at once.

Each lane of a vector holds a row; centres come one after the other, and of each row the best scores so far stay in
registers or in a short list. Most rows are answered where the gaps between these prove their order; nothing is written
of the others until a longer list, put in order in float64, does (`resolve`); who is in doubt even then is verified with
every centre. Of the rows nothing is known beforehand: what is not finite has a norm that is not, and proves nothing.

Exactness
---------
Let x' = (x - m) 2^e and c' = (c - m) 2^e in real arithmetic, with m near the mean of the centres and a power of two
that brings the largest norm of a centre, R, below 1 and near it; both change no order. Nearest is where
s = <x', c'> - |c'|^2 / 2 is largest, since D 4^e = |x'|^2 - 2 s. Let u = 2^-24 and g(n) = n u / (1 - n u).

Rows are held as x^ = fl(x - m) 2^e: one rounding a coordinate, or two where x is float64, of a relative u at most.
Centres c^ and levels b = -|c'|^2 / 2 are rounded to float32 once, after float64 operations whose own errors are nothing
beside u. A score P starts from b, or adds it last, and takes d products, fused or not; so every term of s carries at
most d + 9 roundings in any order (at most 4 of them of the factors), and with Cauchy-Schwarz

    |P - s|  <=  E,    E = g(d + 9) (|x'| R + R^2 / 2) + t,                                              (1)

t = g (d + 8) 2^-60 for what underflows: less than d 2^-126 (R + 1) of products and of coordinates, and g R d 2^-63 of a
norm whose squares do. Norms of rows, |x'|, are summed in float32 and taken times 1 + 2^-12, which outweighs their
roundings for d <= 1024. A row's first k are proven, in their order, where each of their scores exceeds the next one by
more than 2 E; what is not listed has scores of at most the last one listed. 2 E is evaluated times 1 + 2^-8, which
outweighs the roundings of itself and of the gap. Where R, scaled, is not in [2^-20, 2], E is infinite.

Inner products and cosines: s = <x, c'>, where c' = c 2^e or the direction of c, in float64; m = 0, b = 0, and neither
the norm of the row nor the scale counts.

Exact scores
------------
If all centres, m and a row are multiples of a step h, and |x'| R + R^2 / 2 <= 2^22 h'^2, |x'| <= 2^22 h' with
h' = h 2^e, then x^ = x', c^ = c', and all partial sums are multiples of h'^2 / 2 below 2^24 of them: P = s; so for
inner products with h h' in the place of h'^2. Lists hold the lower number first where scores are equal: they are the
answer.

Rows in doubt
-------------
Outliers and clusters make R large beside the gaps that count. So the rows that (1) leaves in doubt are asked again for
a longer list, by K = sum fl(fl(x^ - c^)^2), whose error is relative to itself: d + 2 roundings a term, r = g(d + 4).
Where float32 holds rows and centres, m = 0, x^ = x' and c^ = c' (what underflows is less than 2^-100); else both are
off by o <= 2^-22 (|x'| + R) together, so that a true distance is within sqrt(K) (1 +- r) +- o. A centre as near as the
k-th of the list, of K_k, has sqrt(K) <= sqrt(K_k) (1 + 4 r) + 2 o; if the list reaches beyond that, and float32 does,
it holds the answer, and float64 order values tell it. For inner products the same is done with (1).

Groups in bfloat16
------------------
Where k = 1, centres are many and the machine multiplies bfloat16, scores are made of points x~, c~ rounded to that
first, with measured norms l >= |x^ - x~| and L = max |c' - c~|. As in `dense.screen`, with v = 2^-23 since the hardware
need not round each sum to nearest, and w = g(d + 16) of v,

    |P~ - s|  <=  F,    F = l (R + L) + |x'| (L + w (R + L)) + w R^2 / 2 + t.

A group of centres, all of whose P~ are more than 2 F below the best P~ of all, holds no centre as near as that one. All
other groups are scored in float32 (by four sums, then added: no more roundings than above), and (1) does the rest.
2 F is evaluated times 1 + 2^-8, and w for more roundings than there are, which outweighs those of 2 F and of the
difference.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from janelia_core.ml._knn.answers import Answers, memory_of
from janelia_core.ml._knn.data.points import Points
from janelia_core.ml._knn.metrics.metric import COSINE, DISTANCE
from janelia_core.ml._knn.screens.codebook import cost, kernels
from janelia_core.ml._knn.screens.codebook.book import book_of, gaps_of, wide_of
from janelia_core.ml._knn.screens.codebook.kernels import Book, Output
from janelia_core.ml._knn.screens.codebook.resolve import Wide
from janelia_core.ml._knn.screens.contract import Asked, Meeting
from janelia_core.ml._knn.screens.row_by_row import without_lists
from janelia_core.ml._runtime.arrays import I64
from janelia_core.ml._simd.row_lanes import ROWS

_IN_PLACE = (torch.float32, torch.float64)
_NARROW = (torch.float16, torch.bfloat16, torch.uint8, torch.int8, torch.int16, torch.bool)
_PIECES, _WORK = 4, 1e6  # for each worker, and the least of one in nanoseconds
_PROBE, _PROBED = 256, 1 << 14  # rows that tell whether the pass proves enough, of so many
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
        self._books: dict[tuple[Any, Callable[[Wide, Any], Book]], Book] = {}

    @property
    def nbytes(self) -> int:
        """Bytes of the centres in float64 and of their words."""
        books = sum(part.nbytes for book in list(self._books.values()) for part in (*book[:-1], *book.halves))
        return self.wide.ctrs.nbytes + books

    def book(self, dtype: Any) -> Book:
        """Return the words for rows of a type."""
        return self._made(dtype, book_of)

    def again(self, dtype: Any) -> Book:
        """Return the words for those of them that are in doubt."""
        return self._made(dtype, gaps_of if self.wide.form == DISTANCE else book_of)

    def _made(self, dtype: Any, make: Callable[[Wide, Any], Book]) -> Book:
        found = self._books.get((dtype, make))
        if found is None:
            found = self._books[dtype, make] = make(self.wide, dtype)
        return found

    def meet(self, asked: Asked) -> Meeting | None:
        """Bring the rows; None where a sample of them says that the ladder would have too much to do."""
        sweep = Sweep(self, asked)
        if len(asked.x) >= _PROBED and sweep.loses_many():
            asked.report.look = "scores in float32 prove too little"
            return None
        return sweep


class Sweep(Meeting):
    """The pass over all rows.

    Args:
        prepared: The centres.
        asked: The search.
    """

    def __init__(self, prepared: PreparedBook, asked: Asked) -> None:
        super().__init__(without_lists(), compiled=True)
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
        return again[
            : kernels.answer(prepared.again(x.dtype.type), prepared.wide, asked, output._replace(doubtful=again))
        ]
