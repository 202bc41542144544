"""Many rows among few centres, briefly: scores in registers, by the kernels of the codebook screen.

What that screen proves of scores holds. Rows that these leave in doubt are few, and meet all centres by lanes.
"""

from __future__ import annotations

import functools

import numpy as np
import torch

from janelia_core.ml._knn.brief import lanes
from janelia_core.ml._knn.brief.pieces import in_pieces
from janelia_core.ml._knn.brief.question import Brief, Question, Sizes
from janelia_core.ml._knn.data.points import Points
from janelia_core.ml._knn.metrics.registry import metric_named
from janelia_core.ml._knn.problem import Problem
from janelia_core.ml._knn.screens.codebook import cost
from janelia_core.ml._knn.screens.codebook.offer import are_moderate, without_copies
from janelia_core.ml._knn.small.at_once import lanes_are_ready
from janelia_core.ml._knn.small.cost import held_by_lanes, time_of_lanes
from janelia_core.ml._knn.small.terms import NO_MASK, terms
from janelia_core.ml._runtime.arrays import I64
from janelia_core.ml._runtime.loading import QUIET, are_ready
from janelia_core.ml._runtime.machine import Machine

_FEWEST, _FEWEST_EACH = 512, 4  # rows, and for each centre
_MOST_WORK = 2e7  # nanoseconds of one core: of a longer search, what stands around it takes a small part
_FIXED = 1e5  # of them: centres are looked at and sifted
_PER_THREAD = 2e5  # for which another thread is worth waking, which takes 0.1 to 0.2 ms
_PROBED = 1 << 12  # rows, of which the first tell whether scores prove enough
_PROBE = 256
_MOST_LEFT = 8  # one row in so many may be in doubt
_BLOCK = 64  # rows that kernels take together


def serves(sizes: Sizes) -> bool:
    """Tell whether scores of all pairs take less than a look at them, and what they take fits."""
    n, n_ctrs, d, dtype, k = sizes[:5]
    known = terms(sizes.metric, d, dtype)
    if (
        known is None
        or sizes.but_self
        or sizes.masked
        or n < max(_FEWEST, _FEWEST_EACH * n_ctrs)
        or not cost.holds(n_ctrs, d, k)
        or not lanes.fit_at_once(sizes)
    ):
        return False
    held = cost.held(n_ctrs, d, k, 1) + held_by_lanes(n_ctrs, d, k, dtype.itemsize) + 16 * n_ctrs * d
    left = 8 * n + n // _MOST_LEFT * (d * dtype.itemsize + 8 * (k + 2))
    alone = _FIXED + cost.packing(n_ctrs, d)  # when another thread has nothing to do
    takes = _FIXED + _work(sizes) + alone
    return takes < min(_MOST_WORK, time_of_lanes(n, n_ctrs, d, k)) and held + left <= sizes.max_memory // 2


@functools.lru_cache(maxsize=256)
def _work(sizes: Sizes) -> float:
    """Return the nanoseconds of one core that words, scores and lists take."""
    return cost.cost(Problem(*sizes[:3], sizes.k, sizes.n_ctrs, Machine())).work


def is_ready(sizes: Sizes) -> bool:
    """Tell whether the kernels are there, and those of lanes for rows in doubt; if not, they begin to load."""
    dtype, rehearse = sizes.dtype, functools.partial(_rehearse, sizes)
    return lanes_are_ready(dtype, dtype, QUIET) and are_ready(("brief", cost.NAME, dtype), rehearse, delay=QUIET)


def _rehearse(sizes: Sizes) -> None:
    ctrs = torch.arange(8.0, dtype=sizes.dtype, device="cpu").view(4, 2)
    small = sizes._replace(n=4, n_ctrs=4, d=2, k=1, metric="euclidean")
    answered(Question(small, ctrs.numpy(), ctrs.numpy(), NO_MASK, rounded=False))


def answered(asked: Question) -> Brief | None:
    """Return what scores prove of nearly all rows, and lanes of the others."""
    from janelia_core.ml._knn.screens.codebook import kernels
    from janelia_core.ml._knn.screens.codebook.screen import PreparedBook

    sizes, x, ctrs, _, rounded = asked
    n, k, points = sizes.n, sizes.k, Points(torch.from_numpy(ctrs))
    if not are_moderate(points):
        return None
    prepared = PreparedBook(without_copies(points, k, sizes.max_memory // 4), metric_named(sizes.metric).form)
    book = prepared.book(x.dtype.type)
    indices, strides = np.empty((n, k) if rounded else (k, n), np.int64), (1, k) if rounded else (n, 1)
    memory, none, doubtful = indices.reshape(-1), np.empty(0, np.int64), np.empty(n, np.int64)

    def proven(part: slice) -> I64:
        """Answer rows; return those in doubt."""
        start, stop = part.start, min(part.stop, n)
        output = kernels.Output(memory, strides, prepared.numbers, doubtful[start:stop])
        rows = kernels.Asked(x, none, start, stop, 0, k, k + 1)
        return output.doubtful[: kernels.answer(book, prepared.wide, rows, output)]

    first = [proven(slice(0, _PROBE))] if n >= _PROBED else []
    if first and len(first[0]) * _MOST_LEFT > 2 * _PROBE:
        return None
    threads = min(torch.get_num_threads(), max(1, int(_work(sizes) / _PER_THREAD)))
    left = np.concatenate([*first, *in_pieces(proven, _PROBE * len(first), n, _BLOCK, threads)])
    if len(left) and not (len(left) * _MOST_LEFT <= n and _settled(asked, left, indices if rounded else indices.T)):
        return None
    return Brief(torch.from_numpy(indices), None)


def _settled(asked: Question, left: I64, indices: I64) -> bool:
    """Write the answers (n, k) of the rows in doubt, if lanes leave none of them so."""
    some = asked.sizes._replace(n=len(left))
    found = lanes.answered(Question(some, asked.x[left], asked.ctrs, NO_MASK, rounded=False))
    if found is not None:
        indices[left] = found.indices.numpy().T
    return found is not None
