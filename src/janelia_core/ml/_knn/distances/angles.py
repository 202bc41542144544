"""Angles between places on the sphere, correctly rounded: of their float64 points (`data.sphere`), on the CPU.

A sum of two float64 numbers with its error tells nearly all; integers tell what rounds differently at its two ends.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from janelia_core.ml._knn.arithmetic.angles import angles_over_chords
from janelia_core.ml._knn.arithmetic.exact_sines import nearest_angle, square_between
from janelia_core.ml._knn.arithmetic.integers import FLOAT32, FLOAT64
from janelia_core.ml._knn.arithmetic.rounding import rounded_double
from janelia_core.ml._knn.data.points import picked_rows
from janelia_core.ml._knn.data.sphere import points_of_the_sphere
from janelia_core.ml._knn.distances.work import Centres
from janelia_core.ml._runtime.machine import this_machine
from janelia_core.ml._runtime.workers import Workers

_AT_ONCE = 1 << 12  # pairs whose temporaries stay in a core's cache
_SHARED = 1 << 14  # pairs from which threads are worth their start


def angles(x: Tensor, ctrs: Tensor, indices: Tensor, dtype: torch.dtype, centres: Centres | None) -> Tensor:
    """Return the angles (n, k) between places x (n, 2) and those of ctrs (m, 2) at indices, as `distances` does."""
    n, k = indices.shape
    workers = min(this_machine(torch.device("cpu")).threads, max(1, indices.numel() // _SHARED))
    few = indices.numel() < len(ctrs)  # rather than all centres, those at the indices are mapped
    rows, places = points_of_the_sphere(x).cpu(), None if few else points_of_the_sphere(ctrs).cpu()
    # Workers could not write to what inference mode makes; it is a setting of the thread.
    with torch.inference_mode(False), Workers.if_several(workers, indices.numel() < _SHARED) as team:
        out = torch.empty(n, k, dtype=dtype, device="cpu")
        step = max(1, _AT_ONCE // max(1, k))

        def fill(start: int) -> None:
            part = slice(start, min(start + step, n))
            there = indices[part] if centres is None else centres(part)
            listed = there.clamp(min=0)
            if places is None:
                of_pairs = points_of_the_sphere(picked_rows(ctrs, listed.reshape(-1))).cpu()
            else:
                of_pairs = places[listed.reshape(-1).cpu()]
            own = rows[part].repeat_interleave(k, dim=0)
            out[part] = _rounded(own, of_pairs, dtype).view(-1, k).masked_fill_(there.cpu() < 0, torch.inf)

        team.each(fill, range(0, n if len(ctrs) else 0, step))
        return out.to(x.device) if len(ctrs) else out.fill_(torch.inf).to(x.device)


def _rounded(p: Tensor, q: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the angles (r,) between points (r, 3)."""
    fmt, integers = (FLOAT32, torch.int32) if dtype == torch.float32 else (FLOAT64, torch.int64)
    sums = angles_over_chords(*(np.ascontiguousarray(points.numpy().T) for points in (p, q)))
    hi, lo, error = map(torch.from_numpy, sums)
    out, certain = rounded_double(hi, lo, error, False, dtype)
    open_ = (~certain & ~out.isnan()).nonzero()[:, 0]
    pairs = zip(p[open_].tolist(), q[open_].tolist(), strict=True)
    bits = [nearest_angle(square_between(*pair), fmt) for pair in pairs]
    out[open_] = torch.tensor(bits, dtype=integers, device="cpu").view(dtype)
    return out
