"""Sums over the pairs (row i, centre j = indices[i, slot]): all that derivatives of distances are made of.

Two bilinear forms and the symmetric matrices that belong to them:

    differences   Q(u, v; x, c) = <u_i - v_j, x_i - c_j>     Laplacian:  sum_j w (x_i - c_j), sum_i w (c_j - x_i)
    products      B(u, v; x, c) = <u_i, c_j> + <v_j, x_i>    adjacency:  sum_j w c_j,         sum_i w x_i

Each is the other's derivative (gradients.py), so nothing else is needed for any order. Empty slots (-1) count
for nothing. Differences are taken before products, so no cancellation of large squares. Nothing of size
(n, k, d) is held: rows go chunk by chunk, and sums by centre run over the pairs sorted by centre, always in
the same order.
"""

from __future__ import annotations

import torch
from torch import Tensor

from janelia_core.ml._neighbors import pair_blocks
from janelia_core.ml._runtime.kernels import optional_kernels


def result_dtype(x: Tensor, ctrs: Tensor) -> torch.dtype:
    """Return the dtype of distances: float64 where float32 might be narrower than an input, else float32."""
    wide = (torch.float64, torch.int64, torch.uint64)
    return torch.float64 if x.dtype in wide or ctrs.dtype in wide else torch.float32


@optional_kernels
def products(u: Tensor, v: Tensor, x: Tensor, c: Tensor, indices: Tensor, differences: bool, budget: int) -> Tensor:
    """Return Q (or B) of each pair, (n, k), 0 where the slot is empty.

    Args:
        u: (n, d), like x.
        v: (m, d), like c.
        x: (n, d) rows.
        c: (m, d) centres.
        indices: (n, k) int64 row numbers of c, or -1.
        differences: Q if true, else B.
        budget: Bytes of workspace.
    """
    if pair_blocks.fits(indices, u, v, x, c):
        return pair_blocks.products(u, v, x, c, indices, differences)
    dtype = result_dtype(x, c)
    out = torch.zeros(indices.shape, dtype=dtype, device=x.device)
    if c.shape[0] == 0:
        return out
    for rows in chunks(indices, 4 * x.shape[1] * dtype.itemsize, budget):
        j = indices[rows].clamp(min=0)
        ui, xi = u[rows, None].to(dtype), x[rows, None].to(dtype)
        vj, cj = v[j].to(dtype), c[j].to(dtype)
        pairs = ((ui - vj) * (xi - cj) if differences else ui * cj + vj * xi).sum(-1)
        out[rows] = pairs.masked_fill_(indices[rows] < 0, 0)
    return out


@optional_kernels
def sums(w: Tensor, x: Tensor, c: Tensor, indices: Tensor, differences: bool, budget: int) -> tuple[Tensor, Tensor]:
    """Return the weighted sums of the pairs by row (n, d) and by centre (m, d).

    Args:
        w: (n, k) weights.
        x: (n, d) rows.
        c: (m, d) centres.
        indices: (n, k) int64 row numbers of c, or -1.
        differences: Sum w (x_i - c_j) by row and w (c_j - x_i) by centre if true, else w c_j and w x_i.
        budget: Bytes of workspace.
    """
    if pair_blocks.fits(indices, w, x, c):
        return pair_blocks.sums(w, x, c, indices, differences, budget)
    return _by_row(w, x, c, indices, differences, budget), _by_centre(w, x, c, indices, differences, budget)


def _by_row(w: Tensor, x: Tensor, c: Tensor, indices: Tensor, differences: bool, budget: int) -> Tensor:
    dtype = result_dtype(x, c)
    out = torch.zeros(x.shape, dtype=dtype, device=x.device)
    if c.shape[0] == 0:
        return out
    for rows in chunks(indices, 3 * x.shape[1] * dtype.itemsize, budget):
        j = indices[rows]
        value = c[j.clamp(min=0)].to(dtype)  # (r, k, d)
        if differences:
            value = x[rows, None].to(dtype) - value
        weights = w[rows].to(dtype)[..., None]
        out[rows] = torch.where((j < 0)[..., None], 0, value * weights).sum(1)
    return out


def _by_centre(w: Tensor, x: Tensor, c: Tensor, indices: Tensor, differences: bool, budget: int) -> Tensor:
    dtype = result_dtype(x, c)
    out = torch.zeros(c.shape, dtype=dtype, device=x.device)
    order, first = pairs_by_centre(indices)
    step = max(1, budget // (4 * max(1, c.shape[1]) * dtype.itemsize + 64))
    for start in range(first, len(order), step):
        pairs = order[start : start + step]
        rows, j = pairs // indices.shape[1], indices.reshape(-1)[pairs]
        value = x[rows].to(dtype)
        if differences:
            value = c[j].to(dtype) - value
        value *= w.reshape(-1)[pairs, None].to(dtype)
        centres, counts = torch.unique_consecutive(j, return_counts=True)
        # A centre whose pairs span two chunks is added to twice, in order.
        out[centres] += torch.segment_reduce(value, "sum", lengths=counts)
    return out


def pairs_by_centre(indices: Tensor) -> tuple[Tensor, int]:
    """Return all pairs, numbered row by row, in the order of their centres, and how many empty slots come first."""
    flat = indices.reshape(-1)
    return flat.argsort(stable=True), int((flat < 0).sum())


def chunks(indices: Tensor, bytes_a_pair: int, budget: int) -> list[slice]:
    """Cut the rows into slices whose pairs take at most budget bytes."""
    step = max(1, budget // (indices.shape[1] * (bytes_a_pair + 32) + 1))
    return [slice(start, start + step) for start in range(0, indices.shape[0], step)]
