"""Sums of affine maps by launches of kernels, whose number does not grow with the data."""

from __future__ import annotations

import torch
from torch import Tensor

from janelia_core.ml._knn.distances.distances import result_dtype
from janelia_core.ml._neighbors.derivatives.pair_lists import Pairs
from janelia_core.ml._neighbors.derivatives.triton.kinds import DIFFERENCES, PRODUCTS, Vectors
from janelia_core.ml._neighbors.derivatives.triton.sums import fits as fits_points
from janelia_core.ml._neighbors.derivatives.triton.sums import sums_by_centre
from janelia_core.ml._runtime.device_kernels import launching

_OUTPUTS, _COLUMNS = 16, 64  # that a program holds at a time
_MOST_OUTPUTS = 65535  # programs of the grid's third axis
_FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)


def fits(*tensors: Tensor) -> bool:
    """Tell whether kernels of the tensors' device serve, and read them."""
    return all(t.numel() > 0 and t.dtype in _FLOATS and t.shape[1] <= _MOST_OUTPUTS for t in tensors) and fits_points(
        tensors[0], tensors[-1]
    )


def values(weight: Tensor, bias: Tensor, x: Tensor, c: Tensor, indices: Tensor) -> Tensor:
    """Do as `sums.values`."""
    from janelia_core.ml._neighbors.affine.triton.kernels import map_rows

    (_, outputs, d), k = weight.shape, indices.shape[1]
    out = torch.empty(len(x), outputs, dtype=result_dtype(x, weight), device=x.device)
    weight, bias, x, c = (t.resolve_neg() for t in (weight, bias, x, c))
    a, b = _tile(outputs, d)
    with launching(x):
        map_rows[(len(x), -(-outputs // a))](
            *(weight, bias, x, c, indices.contiguous(), out, k, outputs, d),
            *(*weight.stride(), *bias.stride(), *x.stride(), *c.stride()),
            A=a,
            B=b,
        )
    return out


def maps(g: Tensor, x: Tensor, c: Tensor, indices: Tensor, budget: int) -> tuple[Tensor, Tensor]:
    """Do as `sums.maps`."""
    dtype, pairs = result_dtype(x, g), Pairs(indices, indices.new_empty(0))
    weights = g.T[:, :, None].expand(-1, -1, indices.shape[1])
    bias = total(g, indices, len(c), budget)
    weight = sums_by_centre(Vectors(weights, x, c, DIFFERENCES, -1.0), pairs, budget)
    return weight.to(dtype), bias.to(dtype)


def total(g: Tensor, indices: Tensor, n_ctrs: int, budget: int) -> Tensor:
    """Return the sums of g (n, outputs) by centre: (m, outputs)."""
    pairs, one = Pairs(indices, indices.new_empty(0)), g.new_ones(1, 1)
    weights = g.T[:, :, None].expand(-1, -1, indices.shape[1])
    ones = Vectors(weights, one.expand(len(g), 1), one.expand(n_ctrs, 1), PRODUCTS)
    return sums_by_centre(ones, pairs, budget)[:, :, 0]


def points(g: Tensor, weight: Tensor, indices: Tensor) -> Tensor:
    """Do as the first part of `sums.points`."""
    from janelia_core.ml._neighbors.affine.triton.kernels import pull_rows

    (_, outputs, d), k = weight.shape, indices.shape[1]
    out = torch.empty(len(g), d, dtype=result_dtype(g, weight), device=g.device)
    g, weight = g.resolve_neg(), weight.resolve_neg()
    a, b = _tile(outputs, d)
    with launching(g):
        pull_rows[(len(g), -(-d // b))](
            *(g, weight, indices.contiguous(), out, k, outputs, d, *g.stride(), *weight.stride()), A=a, B=b
        )
    return out


def _tile(outputs: int, d: int) -> tuple[int, int]:
    a, b = (max(2, 1 << (size - 1).bit_length()) for size in (outputs, d))
    return min(a, _OUTPUTS), min(b, _COLUMNS)
