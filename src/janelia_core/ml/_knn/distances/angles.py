"""Angles between places on the sphere, correctly rounded: of their float64 points (`data.sphere`), on the CPU.

A sum of two float64 numbers with its error tells nearly all; integers tell what rounds differently at its two ends.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import Tensor

from janelia_core.ml._knn.arithmetic.angles import angles_over_chords
from janelia_core.ml._knn.arithmetic.exact_sines import nearest_angle, square_between
from janelia_core.ml._knn.arithmetic.integers import FLOAT32, FLOAT64
from janelia_core.ml._knn.arithmetic.rounding import rounded_double
from janelia_core.ml._knn.arithmetic.sines import table_of_sines
from janelia_core.ml._knn.data.points import picked_rows
from janelia_core.ml._knn.data.sphere import points_of_the_sphere
from janelia_core.ml._knn.distances.work import Centres
from janelia_core.ml._runtime.loading import are_ready
from janelia_core.ml._runtime.machine import this_machine
from janelia_core.ml._runtime.workers import Workers

_AT_ONCE = 1 << 12  # pairs whose temporaries stay in a core's cache
_SHARED = 1 << 14  # pairs from which threads are worth their start


def angles(x: Tensor, ctrs: Tensor, indices: Tensor, dtype: torch.dtype, centres: Centres | None) -> Tensor:
    """Return the angles (n, k) between places x (n, 2) and those of ctrs (m, 2) at indices, as `distances` does."""
    n, k = indices.shape
    machine = this_machine(torch.device("cpu"))
    workers = min(machine.threads, max(1, indices.numel() // _SHARED))
    enclosed = _by_kernels if machine.kernels and _are_loaded(dtype) else _by_arrays
    few = indices.numel() < len(ctrs)  # rather than all centres, those at the indices are mapped
    rows, places = points_of_the_sphere(x).cpu(), None if few else points_of_the_sphere(ctrs).cpu()
    # Workers could not write to what inference mode makes; it is a setting of the thread.
    with torch.inference_mode(False), Workers.if_several(workers, indices.numel() < _SHARED) as team:
        out = torch.full((n, k), torch.inf, dtype=dtype, device="cpu")
        step = max(1, _AT_ONCE // max(1, k))

        def fill(start: int) -> None:
            part = slice(start, min(start + step, n))
            there = indices[part] if centres is None else centres(part)
            own, listed = places, there.cpu().contiguous()
            if own is None:
                own = points_of_the_sphere(picked_rows(ctrs, there.clamp(min=0).reshape(-1))).cpu()
                listed = torch.arange(len(own), device="cpu").view(listed.shape).masked_fill_(listed < 0, -1)
            _fill(rows[part], own, listed, out[part], enclosed)

        team.each(fill, range(0, n if len(ctrs) and k else 0, step))
        return out.to(x.device)


def _are_loaded(dtype: torch.dtype) -> bool:
    return are_ready(("angles", dtype), partial(_rehearse, dtype))


def _rehearse(dtype: torch.dtype) -> None:
    points = torch.eye(3, dtype=torch.float64, device="cpu")
    indices = torch.tensor([[1], [2], [0]], device="cpu")
    _by_kernels(points, points, indices, torch.empty(3, 1, dtype=dtype, device="cpu"))


def _fill(p: Tensor, q: Tensor, indices: Tensor, out: Tensor, enclosed: Callable[..., Tensor]) -> None:
    """Fill the angles (r, k) between points (r, 3) and those of (m, 3) at indices."""
    fmt, integers = (FLOAT32, torch.int32) if out.dtype == torch.float32 else (FLOAT64, torch.int64)
    row, slot = enclosed(p, q, indices, out).nonzero(as_tuple=True)
    pairs = zip(p[row].tolist(), q[indices[row, slot]].tolist(), strict=True)
    bits = [nearest_angle(square_between(*pair), fmt) for pair in pairs]
    out[row, slot] = torch.tensor(bits, dtype=integers, device="cpu").view(out.dtype)


def _by_kernels(p: Tensor, q: Tensor, indices: Tensor, out: Tensor) -> Tensor:
    """Fill angles (r, k), and return which are not certain."""
    from janelia_core.ml._knn.arithmetic.angle_kernels import fill_angles

    certain = torch.empty(indices.shape, dtype=torch.bool, device="cpu")
    fill_angles(p.numpy(), q.numpy(), indices.numpy(), *table_of_sines(), out.numpy(), certain.numpy())
    return ~certain


def _by_arrays(p: Tensor, q: Tensor, indices: Tensor, out: Tensor) -> Tensor:
    """Do as `_by_kernels` by NumPy."""
    there = indices.clamp(min=0).view(-1)
    pairs = p.repeat_interleave(indices.shape[1], dim=0), q[there]
    sums = angles_over_chords(*(np.ascontiguousarray(points.numpy().T) for points in pairs))
    hi, lo, error = (torch.from_numpy(part).view(indices.shape) for part in sums)
    found, certain = rounded_double(hi, lo, error, False, out.dtype)
    out.copy_(found.masked_fill_(indices < 0, torch.inf))
    return ~(certain | found.isnan() | (indices < 0))
