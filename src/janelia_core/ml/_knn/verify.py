"""Float64 distances of candidates: differences, squares, sum; never the expanded form.

Every D^ here obeys `bounds.DistanceBound`. Empty slots (-1) get NaN, which sorts last.
"""

from __future__ import annotations

import torch
from torch import Tensor

from janelia_core.ml._knn.bounds import UNIT64
from janelia_core.ml._knn.metrics import difference
from janelia_core.ml._knn.points import Points, as_float64, float64_device

_KERNEL_DTYPES = (torch.float32, torch.float64, torch.uint8, torch.int32, torch.int64)
_TEMPORARY = 1 << 18  # float64 elements in one temporary (2 MiB): stays in a core's cache


def ordered(x_rows: Tensor, ctrs: Points, indices: Tensor, exponent: int, compiled: bool) -> tuple[Tensor, Tensor]:
    """Return row numbers of centres (r, w) sorted by (D^, number), and D^ * 4^-exponent (r, w) float64.

    Args:
        x_rows: (r, d) stored values.
        ctrs: The centres.
        indices: (r, w) int64 row numbers, -1 in empty slots.
        exponent: Keeps squares of extreme values from overflow and underflow.
        compiled: Numba kernels may be used.
    """
    if compiled and exponent == 0 and all(map(_for_kernels, (x_rows, ctrs.values))):
        from janelia_core.ml._knn.verify_kernels import verify

        distances = torch.empty(indices.shape, dtype=torch.float64, device="cpu")
        numbers = torch.empty_like(indices)
        arrays = (x_rows.contiguous(), ctrs.values, indices.contiguous(), distances, numbers)
        verify(*(array.numpy() for array in arrays))
        return numbers, distances
    return order(indices, candidate_distances(x_rows, ctrs, indices, exponent))


def _for_kernels(values: Tensor) -> bool:
    return values.is_contiguous() and values.dtype in _KERNEL_DTYPES and values.device.type == "cpu"


def at_once(x: Tensor, ctrs: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Search a small problem in a few operations: indices (n, k), and whether (n,) rounding left no doubt of them.

    Works on Euclidean distances R = sqrt(D^), off by a relative (d + 4) 2^-53 at most: a gap of four times that
    between all neighbours among the k + 1 nearest proves their order. What overflows, underflows, ties or is not
    finite shows no such gap. CPU tensors that float64 holds.
    """
    roots = torch.cdist(as_float64(x), as_float64(ctrs), compute_mode="donot_use_mm_for_euclid_dist")
    nearest = roots.topk(min(k + 1, ctrs.shape[0]), dim=1, largest=False)
    relative, smallest = 4.0 * (x.shape[1] + 4) * UNIT64, 2.0**-480
    gaps = nearest.values[:, 1:] > nearest.values[:, :-1] * (1.0 + relative) + smallest
    return nearest.indices[:, :k], gaps.all(dim=1)


def candidate_distances(x_rows: Tensor, ctrs: Points, indices: Tensor, exponent: int) -> Tensor:
    """Return D^ * 4^-exponent (r, w) float64 between rows (r, d) and the centres at indices (r, w) int64."""
    rows, width = indices.shape
    out = torch.empty(rows, width, dtype=torch.float64, device=float64_device(x_rows.device))
    pairs = max(1, _TEMPORARY // max(1, ctrs.d))
    slots = min(max(1, width), pairs)
    step = pairs // slots
    for start in range(0, rows, step):
        x = x_rows[start : start + step, None, :]
        for slot in range(0, width, slots):
            part = (slice(start, start + step), slice(slot, slot + slots))
            c = ctrs.take(indices[part].clamp(min=0))
            out[part] = difference(x, c, exponent).square_().sum(dim=-1)
    return out.masked_fill_((indices < 0).to(out.device), torch.nan)


def block_distances(x_rows: Tensor, c_rows: Tensor, exponent: int) -> Tensor:
    """Return D^ * 4^-exponent (r, b) float64 of every row (r, d) against every centre (b, d)."""
    shape = (x_rows.shape[0], c_rows.shape[0])
    out = torch.zeros(shape, dtype=torch.float64, device=float64_device(x_rows.device))
    for q in range(x_rows.shape[1]):
        delta = difference(x_rows[:, q, None], c_rows[None, :, q], exponent)  # (r, b)
        out.addcmul_(delta, delta)
    return out


def order(indices: Tensor, distances: Tensor) -> tuple[Tensor, Tensor]:
    """Sort each row of indices, distances (r, w) by (D^, index): finite < inf < NaN < empty slots."""
    empty_last = torch.where(indices < 0, torch.iinfo(torch.int64).max, indices)
    by_index = empty_last.argsort(dim=1)
    sorted_distances, by_distance = distances.gather(1, by_index).sort(dim=1, stable=True)
    return indices.gather(1, by_index).gather(1, by_distance), sorted_distances
