"""A kept tree, asked by few rows of float64: candidates of one walk, proven by their float64 distances.

The candidates and what they exclude are those of `TreeScreen`, whatever float32 lost of rows and centres. Let D^ be the
float64 distances of a row's candidates in ascending order, and low and high the ends of the interval around each that
holds D (`DistanceBound`). If each of the first k has a high below the low of the next one, those k are in the order of
D, and no other candidate is among them; if the k-th high is below what is excluded, no other centre is either. Copies
of a point tie, so that they are left in doubt; where a tree holds fewer copies of one than there are, it holds as many
as k, of which two are seen to tie, or k = 1 and the one that counts.
"""

from __future__ import annotations

import numpy as np
import torch

from janelia_core.ml._knn.arithmetic.bounds import DistanceBound
from janelia_core.ml._knn.metrics.metric import DISTANCE
from janelia_core.ml._knn.rows import Rows
from janelia_core.ml._knn.screens.tree.few import Few
from janelia_core.ml._knn.screens.tree.planted import BoxTree
from janelia_core.ml._knn.screens.tree.screen import TreeScreen
from janelia_core.ml._runtime.arrays import F64

_LARGEST = 2.0**50  # magnitude of a coordinate: no square overflows in float32 either


class FewWide:
    """What rows of a few calls need to know of a tree, found once.

    Args:
        tree: A tree over finite float64 centres of moderate magnitude: see `of`.
        k: How many neighbours, which the tree serves and holds.
    """

    def __init__(self, tree: BoxTree, k: int) -> None:
        self._screen, self._values = TreeScreen(tree, k), tree.ctrs.values.detach().numpy()
        self._bound = DistanceBound.of(tree.d, exact=False)

    @classmethod
    def of(cls, tree: BoxTree, k: int, form: int) -> FewWide | None:
        """Return it, or None where the general way has to answer."""
        sides = tree.boxes.boxes[: 2 * tree.d]  # the root's, of float32 coordinates
        values = tree.ctrs.values
        fits = values.dtype == torch.float64 and values.is_contiguous() and float(np.abs(sides).max()) < _LARGEST
        return cls(tree, k) if form == DISTANCE and fits and k <= tree.live else None

    def nearest(self, x: F64, k: int, root: bool, threads: int = 1) -> Few:
        """Return the k nearest centres of rows x (n, d), C order, and float64 squared distances, not rounded at all.

        k is the one of the tree; root and threads are those of other ways.
        """
        usual = np.abs(x).max(axis=1) < _LARGEST  # NaN is not
        rows = np.where(usual[:, None], x, 0.0)
        found = self._screen.candidates(Rows(torch.from_numpy(rows), torch.arange(len(x), device="cpu")))
        indices, excluded = found.indices.numpy(), found.excluded.numpy()
        gaps = rows[:, None] - self._values[indices]
        values = np.where(indices < 0, np.inf, np.einsum("rwd,rwd->rw", gaps, gaps))
        order = np.argsort(values, axis=1)
        indices, values = (np.take_along_axis(part, order, axis=1) for part in (indices, values))
        there = values < np.inf
        error = np.where(there, values * self._bound.relative + self._bound.absolute, 0.0)
        high, low = values + error, values - error
        proven = (high[:, : k - 1] < low[:, 1:k]).all(axis=1) & (high[:, k - 1] < excluded) & usual
        if values.shape[1] > k:
            proven &= high[:, k - 1] < low[:, k]
        first = np.ascontiguousarray(indices[:, :k]), np.ascontiguousarray(values[:, :k])
        return Few(*first, np.flatnonzero(~proven))
