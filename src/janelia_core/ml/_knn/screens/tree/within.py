"""All centres within a limit of a row, by a walk of the box tree that enters no box beyond it.

With the names of `TreeScreen`: a centre with D <= L has  sqrt(D_z) <= sqrt(L) + r_x + r_c  by the triangle inequality,
and so the key

    K <= (1 + u)^(d + 2) D_z + a <= T = (1 + 2 (d + 2) u) (sqrt(L) + r_x + r_c)^2 + a,

for 2 (d + 2) u <= 1. For sums of magnitudes, and for the largest, T = (1 + 2 (d + 2) u) (L + s r_x + s r_c) + a
likewise, with the s of `TreeScreen`. T is evaluated in float64, each rounding outweighed by a factor 1 + 2^-50, and
rounded up to float32: it is at least a = (d + 2) 2^-125, a normal number, so a factor of 1 + 2^-22 does. A box's key
never exceeds that of a point inside (`packet_keys`). So whoever enters boxes with a key of at most T, and lists the
points with a key of at most T, lists every centre with D <= L, if the tree holds all copies of it.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from janelia_core.ml._knn.contract import Members
from janelia_core.ml._knn.data.single import as_float32, residuals
from janelia_core.ml._knn.metrics.gaps import WAYS
from janelia_core.ml._knn.metrics.metric import DISTANCE, MANHATTAN
from janelia_core.ml._knn.rows import Rows
from janelia_core.ml._knn.screens.tree.planted import BoxTree
from janelia_core.ml._knn.screens.tree.within_kernels import list_within
from janelia_core.ml._runtime.arrays import F32, F64, I64

_UNIT = 2.0**-24
_OUT = 1.0 + 2.0**-50
_FEWEST = 1 << 10
_FOR_A_ROW = 16


class TreeWithin:
    """Lists by a box tree; called for blocks of rows from any number of threads.

    Args:
        tree: A tree that holds all copies of all finite centres.
        form: Of the metric.

    Memory:
        A call on r rows takes 16 bytes for each pair that it lists, half of them for a moment, and 4 r d.
    """

    def __init__(self, tree: BoxTree, form: int) -> None:
        assert tree.complete, "copies were dropped"
        self._tree, self._way, self._squared = tree, WAYS[form], form == DISTANCE
        self._spread = math.sqrt(tree.d) if form == MANHATTAN else 1.0
        ctrs = tree.ctrs.subset
        self._names = np.empty(0, np.int64) if ctrs is None else ctrs.numpy()

    def members(self, rows: Rows, limit: Tensor, most: int) -> Members | None:
        """Return all centres within the limit; see `Within`."""
        z, raw, _ = as_float32(rows.values)
        lost = self._tree.residual + (residuals(raw, z) if len(raw) else np.zeros(len(z)))
        limits, counts = self._key_limits(limit.numpy(), lost), np.empty(len(z), np.int64)
        listed: I64 = np.empty(min(most, max(_FEWEST, _FOR_A_ROW * len(z))), np.int64)
        row = used = 0
        while True:
            row, used = list_within(self._way, self._tree.boxes, z, limits, self._names, row, used, counts, listed)
            if row == len(z):
                return Members(torch.from_numpy(counts), torch.from_numpy(listed[:used]))
            if len(listed) == most:
                return None
            expected = used * len(z) // max(row, 1)
            more = np.empty(min(most, max(2 * len(listed), expected + expected // 8)), np.int64)
            more[:used] = listed[:used]
            listed = more

    def _key_limits(self, limit: F64, lost: F64) -> F32:
        """Return T of the docstring above, at least; -1 where no distance is within."""
        d, lost, limit = self._tree.d, lost * self._spread * _OUT**2, np.asarray(limit)
        if self._squared:
            reach = np.where(lost == 0.0, limit, (np.sqrt(np.maximum(limit, 0.0)) * _OUT + lost) ** 2 * _OUT**2)
        else:
            reach = (limit + lost) * _OUT
        keys = reach * (1.0 + 2.0 * (d + 2) * _UNIT) * _OUT**2 + (d + 2) * 2.0**-125
        with np.errstate(over="ignore"):  # beyond float32 is beyond all keys
            rounded: F32 = np.where(limit < 0.0, -1.0, keys * (1.0 + 2.0**-22)).astype(np.float32)
        return rounded
