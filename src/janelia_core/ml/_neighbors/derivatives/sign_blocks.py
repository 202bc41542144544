"""The kernels of sign_kernels.py on blocks of rows and of centres, by as many threads as torch would use."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from janelia_core.ml._knn.answers import memory_of
from janelia_core.ml._neighbors.derivatives.pair_blocks import (
    arrays,
    each_block_of_centres,
    each_block_of_rows,
    listed,
)
from janelia_core.ml._neighbors.derivatives.pair_lists import Pairs


def values(u: Tensor, v: Tensor, x: Tensor, c: Tensor, pairs: Pairs, largest: bool) -> Tensor:
    """Do as `sign_pairs.values`."""
    from janelia_core.ml._neighbors.derivatives.sign_kernels import evaluate_signs

    out = torch.empty(pairs.indices.shape, dtype=x.dtype, device=x.device)
    (uv, vv, xv, cv, ov), who = arrays(u, v, x, c, out), listed(pairs)

    def some(rows: tuple[int, int]) -> None:
        evaluate_signs(uv, vv, xv, cv, who, largest, (*rows, 0), ov)

    each_block_of_rows(some, pairs.indices, x.shape[1])
    return out


def sums(w: Tensor, x: Tensor, c: Tensor, pairs: Pairs, largest: bool, budget: int) -> tuple[Tensor, Tensor]:
    """Do as `sign_pairs.sums`."""
    from janelia_core.ml._neighbors.derivatives.sign_kernels import add_signs

    by_row, by_centre = (torch.empty(t.shape, dtype=t.dtype, device=t.device) for t in (x, c))
    (rows, centres), weights, who = arrays(x, c), memory_of(w), listed(pairs)
    (n, d), out = x.shape, by_row.numpy()

    def some_rows(part: tuple[int, int]) -> None:
        add_signs(weights, rows, centres, who, largest, True, (*part, 0), np.empty((1, d)), out)

    def some_centres(lowest: int, stop: int) -> None:
        totals = torch.zeros(stop - lowest, d, dtype=torch.float64, device="cpu")
        add_signs(weights, centres, rows, who, largest, False, (0, n, lowest), totals.numpy(), out)
        by_centre[lowest:stop] = totals

    each_block_of_rows(some_rows, pairs.indices, d)
    each_block_of_centres(some_centres, pairs.indices, len(c), d, budget)
    return by_row, by_centre
