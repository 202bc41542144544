"""Few pairs, briefly: one look at all of them, by the kernel of lanes (`small`)."""

from __future__ import annotations

import sys

import numpy as np
import torch

from janelia_core.ml._knn.brief.pieces import in_pieces
from janelia_core.ml._knn.brief.question import Brief, Question, Sizes
from janelia_core.ml._knn.metrics.metric import DISTANCE
from janelia_core.ml._knn.problem import FEWEST_CTRS, LEAST_MEMORY
from janelia_core.ml._knn.small.at_once import lanes_are_ready
from janelia_core.ml._knn.small.cost import (
    FEWEST_SHARED,
    LANES,
    MOST_BY_LANES,
    held_by_lanes,
    is_for_a_pass,
    work_of_lanes,
)
from janelia_core.ml._knn.small.terms import MODULE, terms

_MOST_WORK = FEWEST_SHARED << 2  # coordinates of pairs: two milliseconds of a core
_PER_THREAD = FEWEST_SHARED >> 1  # of them, for which another thread is worth waking


def serves(sizes: Sizes) -> bool:
    """Tell whether one pass, which takes a few milliseconds at most, does for such sizes, in little memory."""
    n, n_ctrs, d, dtype = sizes[:4]
    wanted, known = sizes.k + sizes.but_self, terms(sizes.metric, d, dtype)
    passes = dtype == torch.float32 and is_for_a_pass(n, n_ctrs, d) and not sizes.masked
    return (
        known is not None
        and not (passes and known.form == DISTANCE)
        and wanted <= MOST_BY_LANES
        and work_of_lanes(n, n_ctrs, d) < _MOST_WORK
        and held_by_lanes(n_ctrs, d, wanted, dtype.itemsize) <= LEAST_MEMORY // 2
        and (n * n_ctrs <= sizes.max_memory // 4 or not sizes.masked)  # if the mask has to be copied
        and fit_at_once(sizes)
    )


def fit_at_once(sizes: Sizes) -> bool:
    """Tell whether m allows scores of a block of rows and all centres."""
    return sizes.m is None or min(sizes.n, LANES) * sizes.n_ctrs <= sizes.n * max(sizes.m, FEWEST_CTRS)


def is_ready(sizes: Sizes) -> bool:
    """Tell whether the kernel may be called; whoever asks does not import it."""
    imported = hasattr(sys.modules.get(MODULE), "nearest_by_lanes")  # while it is imported there is none
    return imported and lanes_are_ready(sizes.dtype, sizes.dtype)


def answered(asked: Question) -> Brief | None:
    """Return what the kernel answers, if it leaves no row in doubt."""
    from janelia_core.ml._knn.small.lanes import nearest_by_lanes

    sizes, x, ctrs, allowed, rounded = asked
    known = terms(sizes.metric, sizes.d, sizes.dtype)
    assert known is not None
    n, k, threads = sizes.n, sizes.k, _threads(sizes)
    rounds = rounded and sizes.dtype == torch.float32
    indices = np.empty((n, k) if rounded else (k, n), np.int64)
    distances = np.empty((n, k) if rounds else (0, 0), np.float32)
    clear = np.empty(n, np.bool_)
    question = known.form, k, known.root, known.by_product, sizes.but_self

    def searched(part: slice) -> tuple[int, int]:
        own = indices[part] if rounded else indices.reshape(1, -1)[:, part.start :]
        strides, near = (1, k) if rounded else (n, 1), distances[part] if rounds else distances
        shown = allowed[part] if sizes.masked else allowed
        return nearest_by_lanes(
            question, known.slack, known.within, x[part], ctrs, shown, own, strides, near, clear[part]
        )

    found = in_pieces(searched, 0, n, LANES, threads)
    if any(in_doubt for in_doubt, _ in found):
        return None
    answer = torch.from_numpy(indices)
    certain = rounds and not any(unrounded for _, unrounded in found)
    return Brief(answer, torch.from_numpy(distances) if certain else None)


def _threads(sizes: Sizes) -> int:
    """Return how many threads share the rows."""
    n, n_ctrs, d = sizes[:3]
    most = sizes.max_memory // 2 // held_by_lanes(n_ctrs, d, sizes.k, sizes.dtype.itemsize)
    worth = 1 if sizes.but_self else min(most, work_of_lanes(n, n_ctrs, d) // _PER_THREAD)
    return 1 if worth < 2 else min(worth, torch.get_num_threads(), -(-n // LANES))
