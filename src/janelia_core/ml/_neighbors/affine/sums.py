"""Sums of affine maps over each row's neighbours, and the two sums that are their derivatives.

For the pairs (i, j = indices[i, slot]) all derivatives come from one form, linear in each of its arguments:

    T = sum over pairs of  g_i^T (W_j (x_i - c_j) + b_j)

    values   F(W, b, x, c)_i = sum_j W_j (x_i - c_j) + b_j                            dT/dg
    maps     H(g, x, c)_j    = sum_i g_i (x_i - c_j)^T   and   sum_i g_i              dT/dW, dT/db
    points   K(g, W)         = sum_j W_j^T g_i by row    and   - W_j^T sum_i g_i      dT/dx, dT/dc

Nothing of size (n, k, outputs, d) is held: rows, or pairs sorted by centre, go chunk by chunk. The functions below
serve every device; affine/kernels.py does the same in a compiled loop.
"""

from __future__ import annotations

import torch
from torch import Tensor

from janelia_core.ml._knn.distances.distances import result_dtype
from janelia_core.ml._neighbors.affine import blocks as affine_blocks
from janelia_core.ml._neighbors.affine.triton import sums as on_device
from janelia_core.ml._neighbors.derivatives.pair_lists import Pairs, add_by_centre
from janelia_core.ml._runtime.device_kernels import launched
from janelia_core.ml._runtime.kernels import optional_kernels


@optional_kernels
def values(weight: Tensor, bias: Tensor, x: Tensor, c: Tensor, indices: Tensor, budget: int) -> Tensor:
    """Return F (n, outputs), of weight (m, outputs, d), bias (m, outputs), x (n, d), c (m, d), indices (n, k)."""
    dtype = result_dtype(x, weight)
    if affine_blocks.fits(indices, weight, bias, x, c):
        return affine_blocks.values(weight, bias, x, c, indices)
    if on_device.fits(weight, bias, c, x):
        found = launched(lambda: on_device.values(weight, bias, x, c, indices))
        if found is not None:
            return found
    out = torch.zeros(x.shape[0], weight.shape[1], dtype=dtype, device=x.device)
    for rows in _pairs(indices).chunks((weight[0].numel() + 2 * x.shape[1]) * dtype.itemsize, budget):
        j = indices[rows]
        there = (j >= 0).to(dtype)
        j = j.clamp(min=0)
        gap = (x[rows, None].to(dtype) - c[j].to(dtype)) * there[..., None]
        mapped = (weight[j].to(dtype) * gap[:, :, None]).sum(dim=(1, 3))
        out[rows] = mapped + (bias[j].to(dtype) * there[..., None]).sum(dim=1)
    return out


@optional_kernels
def maps(g: Tensor, x: Tensor, c: Tensor, indices: Tensor, budget: int) -> tuple[Tensor, Tensor]:
    """Return H: (m, outputs, d) and (m, outputs), of g (n, outputs)."""
    dtype = result_dtype(x, g)
    if affine_blocks.fits(indices, g, x, c):
        return affine_blocks.maps(g, x, c, indices, budget)
    if on_device.fits(g, c, x):
        found = launched(lambda: on_device.maps(g, x, c, indices, budget))
        if found is not None:
            return found
    weight = torch.zeros(c.shape[0], g.shape[1], c.shape[1], dtype=dtype, device=c.device)
    bias = torch.zeros(c.shape[0], g.shape[1], dtype=dtype, device=c.device)
    each = 2 * (weight.shape[1] + 1) * (c.shape[1] + 1) * dtype.itemsize
    for rows, _, j in _pairs(indices).by_centre(each, budget):
        gap, gradient = x[rows].to(dtype) - c[j].to(dtype), g[rows].to(dtype)
        add_by_centre(weight, j, gradient[:, :, None] * gap[:, None])
        add_by_centre(bias, j, gradient)
    return weight, bias


@optional_kernels
def points(g: Tensor, weight: Tensor, indices: Tensor, budget: int) -> tuple[Tensor, Tensor]:
    """Return K: (n, d) and (m, d)."""
    dtype = result_dtype(g, weight)
    n_ctrs, _, d = weight.shape
    if on_device.fits(g, weight):
        found = launched(lambda: (on_device.points(g, weight, indices), on_device.total(g, indices, n_ctrs, budget)))
        if found is not None:
            return found[0], -_transposed(weight, found[1].to(dtype))
    # The second part of H for points without coordinates: sums of g by centre.
    none = torch.empty(0, dtype=g.dtype, device=g.device)
    total = maps(g, none.expand(g.shape[0], 0), none.expand(n_ctrs, 0), indices, budget)[1]
    by_centre = -_transposed(weight, total.to(dtype))
    if affine_blocks.fits(indices, g, weight):
        return affine_blocks.points(g, weight, indices), by_centre
    by_row = torch.zeros(g.shape[0], d, dtype=dtype, device=g.device)
    for rows in _pairs(indices).chunks(2 * weight[0].numel() * dtype.itemsize, budget):
        j = indices[rows]
        there = (j >= 0).to(dtype)[..., None, None]
        by_row[rows] = (weight[j.clamp(min=0)].to(dtype) * there * g[rows, None, :, None].to(dtype)).sum(dim=(1, 2))
    return by_row, by_centre


def _pairs(indices: Tensor) -> Pairs:
    return Pairs(indices, indices.new_empty(0))


def _transposed(weight: Tensor, g: Tensor) -> Tensor:
    """Return W_j^T g_j (m, d), output by output, without a temporary of the size of W."""
    out = torch.zeros(weight.shape[0], weight.shape[2], dtype=g.dtype, device=g.device)
    for a in range(weight.shape[1]):
        out.addcmul_(weight[:, a].to(g.dtype), g[:, a, None])
    return out
