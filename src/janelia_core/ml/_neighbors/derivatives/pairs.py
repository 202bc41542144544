"""Sums over the pairs (row i, centre j): what derivatives of squared distances and inner products are made of.

Two bilinear forms and the symmetric matrices that belong to them:

    differences   Q(u, v; x, c) = <u_i - v_j, x_i - c_j>     Laplacian:  sum_j w (x_i - c_j), sum_i w (c_j - x_i)
    products      B(u, v; x, c) = <u_i, c_j> + <v_j, x_i>    adjacency:  sum_j w c_j,         sum_i w x_i

Each is the other's derivative (pair_functions.py), so nothing else is needed for any order. Empty slots (-1) count
for nothing. Differences are taken before products, so no cancellation of large squares. Nothing of size
(n, k, d) is held, nor anything of size (n, k) beside the arguments: rows go chunk by chunk, and sums by centre run over
the pairs of a chunk sorted by centre, always in the same order.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from janelia_core.ml._knn.distances.distances import result_dtype
from janelia_core.ml._neighbors.derivatives import few_pairs, pair_blocks
from janelia_core.ml._neighbors.derivatives.pair_lists import Pairs, add_by_centre
from janelia_core.ml._neighbors.derivatives.triton.kinds import DIFFERENCES, PRODUCTS, Vectors
from janelia_core.ml._neighbors.derivatives.triton.sums import sums_on_device
from janelia_core.ml._runtime.kernels import optional_kernels
from janelia_core.ml._runtime.machine import has_float64


@optional_kernels
def products(
    u: Tensor, v: Tensor, x: Tensor, c: Tensor, pairs: Pairs, differences: bool, factor: float, budget: int
) -> Tensor:
    """Return Q (or B) of each pair times a factor, (n, k), 0 where the slot is empty.

    Args:
        u: (n, d), like x.
        v: (m, d), like c.
        x: (n, d) rows.
        c: (m, d) centres.
        pairs: Which meet.
        differences: Q if true, else B.
        factor: A power of two, or its negative.
        budget: Bytes of workspace.
    """
    if pair_blocks.fits(pairs.indices, u, v, x, c):
        return pair_blocks.products(u, v, x, c, pairs, differences, factor)
    dtype = result_dtype(x, c)
    out = torch.zeros(pairs.indices.shape, dtype=dtype, device=x.device)
    if c.shape[0] == 0:
        return out
    for rows in pairs.chunks(4 * x.shape[1] * dtype.itemsize, budget):
        centres = pairs.centres(rows)
        j = centres.clamp(min=0)

        def found(dtype: torch.dtype, half: float, rows: slice = rows, j: Tensor = j) -> Tensor:
            ui, xi, vj, cj = (t.to(dtype) for t in (u[rows, None], x[rows, None], v[j], c[j]))
            each = (ui - vj) * _gap(xi, cj, half) if differences else ui * cj + vj * xi
            return each.sum(-1) * (factor / half)

        out[rows] = _without_overflow(found, dtype).masked_fill_(centres < 0, 0)
    return out


@optional_kernels
def sums(
    w: Tensor, x: Tensor, c: Tensor, pairs: Pairs, differences: bool, factor: float, budget: int
) -> tuple[Tensor, Tensor]:
    """Return the weighted sums of the pairs by row (n, d) and by centre (m, d), times a factor.

    Args:
        w: (n, k) weights.
        x: (n, d) rows.
        c: (m, d) centres.
        pairs: Which meet.
        differences: Sum w (x_i - c_j) by row and w (c_j - x_i) by centre if true, else w c_j and w x_i.
        factor: A power of two, or its negative.
        budget: Bytes of workspace.
    """
    if pair_blocks.fits(pairs.indices, w, x, c):
        return pair_blocks.sums(w, x, c, pairs, differences, factor, budget)
    kind = DIFFERENCES if differences else PRODUCTS
    on_device = sums_on_device(Vectors(w[None], x, c, kind, factor), pairs, budget)
    if on_device is not None:
        return on_device
    return few_pairs.sums(w, x, c, pairs, differences, factor, budget) or (
        _by_row(w, x, c, pairs, differences, factor, budget),
        _by_centre(w, x, c, pairs, differences, factor, budget),
    )


def _by_row(w: Tensor, x: Tensor, c: Tensor, pairs: Pairs, differences: bool, factor: float, budget: int) -> Tensor:
    dtype = result_dtype(x, c)
    out = torch.zeros(x.shape, dtype=dtype, device=x.device)
    if c.shape[0] == 0:
        return out
    for rows in pairs.chunks(3 * x.shape[1] * dtype.itemsize, budget):
        j = pairs.centres(rows)

        def found(dtype: torch.dtype, half: float, rows: slice = rows, j: Tensor = j) -> Tensor:
            value = c[j.clamp(min=0)].to(dtype)  # (r, k, d)
            value = _gap(x[rows, None].to(dtype), value, half) if differences else value * half
            weights = (w[rows].to(dtype) * (factor / half))[..., None]
            return torch.where((j < 0)[..., None], 0, value * weights).sum(1)

        out[rows] = _without_overflow(found, dtype)
    return out


def _by_centre(w: Tensor, x: Tensor, c: Tensor, pairs: Pairs, differences: bool, factor: float, budget: int) -> Tensor:
    dtype = result_dtype(x, c)
    out = torch.zeros(c.shape, dtype=dtype, device=x.device)
    for rows, slots, j in pairs.by_centre(4 * max(1, c.shape[1]) * dtype.itemsize, budget):

        def found(dtype: torch.dtype, half: float, rows: Tensor = rows, slots: Tensor = slots, j: Tensor = j) -> Tensor:
            value = x[rows].to(dtype)
            value = _gap(c[j].to(dtype), value, half) if differences else value * half
            return value.mul_(w[rows, slots, None].to(dtype) * (factor / half))

        add_by_centre(out, j, _without_overflow(found, dtype))
    return out


def _gap(x: Tensor, c: Tensor, half: float) -> Tensor:
    return x - c if half == 1.0 else x * half - c * half


def _without_overflow(found: Callable[[torch.dtype, float], Tensor], dtype: torch.dtype) -> Tensor:
    """Return found(dtype, 1); where something of it, or its sum, overflowed, found from halves, in float64."""
    values = found(dtype, 1.0)
    if bool(torch.isfinite(values.sum())):
        return values
    return found(torch.float64 if has_float64(values.device) else dtype, 0.5).to(dtype)
