"""Derivatives of manhattan and chebyshev distances over the pairs (row i, centre j), which are signs of x_i - c_j.

    manhattan    t = sign(x_i - c_j), coordinate by coordinate; 0 where these are equal
    chebyshev    the same divided by how many |differences| in float64 are the largest, at these; 0 at all others

Both are subgradients wherever the distance has no gradient, of a zero distance the zero vector. For largest
differences that are equal it is the mean of the gradients around, which torch takes for maxima and for norms of order
inf. (Its cdist of p = inf gives each of them the whole, which is no subgradient.)

`values` gives <u_i - v_j, t> along directions; `sums` adds up w t by row, and -w t by centre. They are each other's
derivatives, and their own with respect to the points are 0 (sign_functions.py). Where the slot is empty, or a
coordinate of either point is not finite, t is 0.
"""

from __future__ import annotations

import torch
from torch import Tensor

from janelia_core.ml._knn.distances.distances import result_dtype
from janelia_core.ml._neighbors.derivatives import pair_blocks, sign_blocks
from janelia_core.ml._neighbors.derivatives.pair_lists import Pairs, add_by_centre
from janelia_core.ml._runtime.kernels import optional_kernels
from janelia_core.ml._runtime.machine import has_float64

_PER_COORDINATE = 10 * 8  # bytes of a pair's coordinate


@optional_kernels
def values(u: Tensor, v: Tensor, x: Tensor, c: Tensor, pairs: Pairs, largest: bool, budget: int) -> Tensor:
    """Return the derivative of each pair's distance along one direction, (n, k), 0 where the slot is empty.

    Args:
        u: (n, d); the direction of pair (i, j) is u[i] - v[j].
        v: (m, d).
        x: (n, d) rows.
        c: (m, d) centres.
        pairs: Which meet.
        largest: Of chebyshev distances; else of manhattan ones.
        budget: Bytes of workspace.
    """
    if pair_blocks.fits(pairs.indices, u, v, x, c):
        return sign_blocks.values(u, v, x, c, pairs, largest)
    dtype = result_dtype(x, c)
    out = torch.zeros(pairs.indices.shape, dtype=dtype, device=x.device)
    if c.shape[0] == 0 or x.shape[1] == 0:
        return out
    for rows in pairs.chunks(_PER_COORDINATE * x.shape[1], budget):
        centres = pairs.centres(rows)
        j = centres.clamp(min=0)
        signs = _signs(x[rows, None], c[j], largest).masked_fill_((centres < 0)[..., None], 0)
        moves = u[rows, None].to(signs.dtype) - v[j].to(signs.dtype)
        out[rows] = _times(signs, moves).sum(-1).to(dtype)
    return out


@optional_kernels
def sums(w: Tensor, x: Tensor, c: Tensor, pairs: Pairs, largest: bool, budget: int) -> tuple[Tensor, Tensor]:
    """Return the weighted sums of the pairs by row (n, d) and by centre (m, d).

    Args:
        w: (n, k) weights.
        x: (n, d) rows.
        c: (m, d) centres.
        pairs: Which meet.
        largest: Of chebyshev distances; else of manhattan ones.
        budget: Bytes of workspace.
    """
    if pair_blocks.fits(pairs.indices, w, x, c):
        return sign_blocks.sums(w, x, c, pairs, largest, budget)
    dtype = result_dtype(x, c)
    by_row = torch.zeros(x.shape, dtype=dtype, device=x.device)
    by_centre = torch.zeros(c.shape, dtype=dtype, device=x.device)
    if c.shape[0] == 0 or x.shape[1] == 0:
        return by_row, by_centre
    each = _PER_COORDINATE * x.shape[1]
    for part in pairs.chunks(each, budget):
        j = pairs.centres(part)
        signs = _signs(x[part, None], c[j.clamp(min=0)], largest).masked_fill_((j < 0)[..., None], 0)
        by_row[part] = _times(signs, w[part, :, None].to(signs.dtype)).sum(1).to(dtype)
    for rows, slots, j in pairs.by_centre(each, budget):
        signs = _signs(c[j.clamp(min=0)], x[rows], largest)
        add_by_centre(by_centre, j, _times(signs, w[rows, slots, None].to(signs.dtype)).to(dtype))
    return by_row, by_centre


def _signs(x: Tensor, c: Tensor, largest: bool) -> Tensor:
    """Return t (..., d), above, of points (..., d), broadcast, in float64, where the device has it."""
    wide = torch.float64 if has_float64(x.device) else torch.float32
    x, c = x.to(wide), c.to(wide)
    signs = (x > c).to(wide).sub_((x < c).to(wide))
    most = torch.maximum(x.abs().amax(-1, keepdim=True), c.abs().amax(-1, keepdim=True))
    if largest:
        part = torch.where(most > torch.finfo(wide).max / 16, 0.25, 1.0).to(wide)  # differences might overflow
        size = (x * part).sub_(c * part).abs_()
        at = size == size.amax(-1, keepdim=True)
        signs = torch.where(at, signs, 0).div_(at.sum(-1, keepdim=True))
    return torch.where(torch.isfinite(most), signs, 0)


def _times(signs: Tensor, others: Tensor) -> Tensor:
    """Return products, 0 where there is no sign, whatever the other is."""
    return torch.where(signs == 0, 0, signs * others)
