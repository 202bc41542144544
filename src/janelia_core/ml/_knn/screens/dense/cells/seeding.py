"""A Numba kernel that picks points far from one another, for k-means to begin with.

A point is picked with a probability in proportion to its squared distance from those picked before (D. Arthur and
S. Vassilvitskii, "k-means++: the advantages of careful seeding", SODA 2007), so that hardly a cluster goes without.
"""

from __future__ import annotations

import numpy as np

from janelia_core.ml._runtime.arrays import F32, F64, I64
from janelia_core.ml._runtime.jit import jit


@jit
def seed(y: F32, drawn: F64, picked: I64) -> None:
    """Pick points.

    Args:
        y: (n, p) finite points.
        drawn: (m,) from [0, 1), which decide.
        picked: (m,), written: m <= n points, some of them maybe alike.
    """
    n, p = y.shape
    far = np.full(n, np.float32(np.inf))
    at = np.int64(drawn[0] * n)
    for step in range(picked.shape[0]):
        picked[step] = at
        total = 0.0
        for i in range(n):
            square = np.float32(0.0)
            for q in range(p):
                gap = y[i, q] - y[at, q]
                square += gap * gap
            far[i] = min(far[i], square)
            total += far[i]
        if step + 1 == picked.shape[0]:
            return
        goal, at = drawn[step + 1] * total, np.int64(0)
        while at < n - 1 and goal >= far[at]:
            goal -= far[at]
            at += 1
