"""A kept tree, asked by few rows: one call of one kernel answers them, distances and all, in the calling thread."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from janelia_core.ml._knn.arithmetic.bounds import DistanceBound
from janelia_core.ml._knn.metrics.gaps import WAYS
from janelia_core.ml._knn.metrics.metric import DISTANCE
from janelia_core.ml._knn.screens.tree.few_kernels import Ground, answer_few, grain
from janelia_core.ml._knn.screens.tree.planted import BoxTree
from janelia_core.ml._runtime.arrays import F32, I64, Reals
from janelia_core.ml._runtime.workers import shared

_EACH = 2  # shares of a thread, since one starts later
_SHARED = 256  # rows from which threads are worth their start: half a millisecond of walks


class Few(NamedTuple):
    """Answers of n rows.

    Attributes:
        indices: (n, k) row numbers of centres, nearest first; anything in doubtful rows, like the distances.
        distances: (n, k) correctly rounded.
        doubtful: (m,) rows that the kernel could not decide: near-ties, rows that are not finite or of extreme
            magnitude, distances that float64 intervals cannot round.
    """

    indices: I64
    distances: Reals
    doubtful: I64


class FewRows:
    """What rows of a few calls need to know of a tree, found once.

    Args:
        tree: A tree over all finite centres, whose coordinates in it are the stored values (`BoxTree.stored`), none of
            them subnormal: see `of`.
        form: `Metric.form`.

    Exactness:
        As `TreeScreen`, whose keys, lists and bounds these are, with the conditions on all rows of a search
        (`Frame.fits_float32`, `Frame.exact`, `Lattice`) asked of each row by itself: they are what a search of that
        single row would ask. Whatever else rows a call holds, a row's answer is the same.
    """

    def __init__(self, tree: BoxTree, form: int = DISTANCE) -> None:
        self.tree, self._way = tree, WAYS[form]
        sides = tree.boxes.boxes[: 2 * tree.d]  # the root's
        low, high = float(sides[::2].min()), float(sides[1::2].max())
        finest, self._has_subnormals = grain(tree.boxes.z, high - low)
        numbers = tree.ctrs.subset
        self._numbers = np.empty(0, np.int64) if numbers is None else numbers.numpy()
        copies = 0 if tree.live == tree.n_ctrs else tree.k
        relative, absolute = DistanceBound.of(tree.d, exact=False)
        self._ground = Ground(low, high, finest, tree.live, copies, relative, absolute)

    @classmethod
    def of(cls, tree: BoxTree, form: int = DISTANCE) -> FewRows | None:
        """Return it, or None where the general way has to answer.

        Subnormal centres: a thread may read them as zeros.
        """
        if not tree.stored:
            return None
        few = cls(tree, form)
        return None if few._has_subnormals else few

    def nearest(self, x: F32, k: int, root: bool, threads: int = 1) -> Few:
        """Return the k nearest centres of rows x (n, d), C order, and their order values or, root, the roots of these.

        k must be one that the tree serves. Any number of threads may ask; rows are shared out to `threads` if they are
        many.
        """
        n = len(x)
        found = Few(np.empty((n, k), np.int64), np.empty((n, k), np.float32), np.empty(n, np.int64))
        if threads == 1 or n < _SHARED:
            return found._replace(doubtful=self._answered(x, root, found))
        step, doubtful = -(-n // (_EACH * threads)), {}

        def some(start: int) -> None:
            part = slice(start, start + step)
            mine = Few(found.indices[part], found.distances[part], found.doubtful[part])
            doubtful[start] = self._answered(x[part], root, mine) + start

        # The calling thread and others of its settings: nothing here is torch's.
        shared(some, range(0, n, step), threads)
        return found._replace(doubtful=np.concatenate([doubtful[start] for start in sorted(doubtful)]))

    def _answered(self, x: F32, root: bool, found: Few) -> I64:
        """Write to `found`, and return the rows in doubt."""
        return found.doubtful[: answer_few(self._way, self.tree.boxes, self._numbers, self._ground, x, root, *found)]
