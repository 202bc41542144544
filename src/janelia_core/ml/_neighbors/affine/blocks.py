"""The kernels of affine/kernels.py on blocks of rows and of centres, by as many threads as torch would use."""

from __future__ import annotations

import torch
from torch import Tensor

from janelia_core.ml._neighbors.derivatives import pair_blocks


def fits(indices: Tensor, *tensors: Tensor) -> bool:
    """Whether the kernels take these tensors and a problem of this size is worth them."""
    return pair_blocks.fits(indices, *tensors)


def values(weight: Tensor, bias: Tensor, x: Tensor, c: Tensor, indices: Tensor) -> Tensor:
    """Do as `sums.values`."""
    from janelia_core.ml._neighbors.affine import kernels as affine_kernels

    out = torch.empty(x.shape[0], bias.shape[1], dtype=x.dtype, device=x.device)
    wv, bv, xv, cv, iv, ov = pair_blocks.arrays(weight, bias, x, c, indices, out)
    head = wv, bv, xv, cv, iv
    pair_blocks.each_block_of_rows(lambda r: affine_kernels.values(*head, r, ov), indices, weight[0].numel())
    return out


def maps(g: Tensor, x: Tensor, c: Tensor, indices: Tensor, budget: int) -> tuple[Tensor, Tensor]:
    """Do as `sums.maps`."""
    from janelia_core.ml._neighbors.affine import kernels as affine_kernels

    n_outputs, d = g.shape[1], x.shape[1]
    weight = torch.empty(c.shape[0], n_outputs, d, dtype=g.dtype, device=g.device)
    bias = torch.empty(c.shape[0], n_outputs, dtype=g.dtype, device=g.device)
    gv, xv, cv, iv = pair_blocks.arrays(g, x, c, indices)

    def centres(first: int, last: int) -> None:
        weights = torch.zeros(last - first, n_outputs, d, dtype=torch.float64, device="cpu")
        biases = torch.zeros(last - first, n_outputs, dtype=torch.float64, device="cpu")
        affine_kernels.maps(gv, xv, cv, iv, first, weights.numpy(), biases.numpy())
        weight[first:last], bias[first:last] = weights, biases

    pair_blocks.each_block_of_centres(centres, indices, c.shape[0], n_outputs * (d + 1), budget)
    return weight, bias


def points(g: Tensor, weight: Tensor, indices: Tensor) -> Tensor:
    """Do as the first part of `sums.points`."""
    from janelia_core.ml._neighbors.affine import kernels as affine_kernels

    out = torch.empty(g.shape[0], weight.shape[2], dtype=g.dtype, device=g.device)
    gv, wv, iv, ov = pair_blocks.arrays(g, weight, indices, out)
    pair_blocks.each_block_of_rows(lambda r: affine_kernels.points(gv, wv, iv, r, ov), indices, weight[0].numel())
    return out
