"""Points of the unit sphere, by latitude and longitude in radians: the float64 numbers nearest to them.

(lat, lon) stands for (cos lat cos lon, cos lat sin lon, sin lat), each of the three rounded once, to nearest even. So a
point is the same on every device and machine, whoever computes it. Sums of two float64 numbers within a relative
3 * 2^-65 of the truth (products of two `sines`) tell that for all but some in a thousand; integers tell the others.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from janelia_core.ml._knn.arithmetic.double_double import Floats
from janelia_core.ml._knn.arithmetic.exact_sines import nearest_point
from janelia_core.ml._knn.arithmetic.sines import SINE_ERROR, Double, product_of, sine_cosine_of, table_of_sines
from janelia_core.ml._knn.data.points import as_float64, float64_device
from janelia_core.ml._runtime.kernels import optional_kernels
from janelia_core.ml._runtime.loading import are_ready
from janelia_core.ml._runtime.machine import this_machine
from janelia_core.ml._runtime.workers import Workers

_AT_ONCE = 1 << 12  # points whose temporaries stay in a core's cache
_SHARED = 1 << 14  # points from which threads are worth their start
_ERROR = 3.0 * SINE_ERROR

Bools = npt.NDArray[np.bool_]


@optional_kernels
def points_of_the_sphere(values: Tensor) -> Tensor:
    """Return the points (n, 3) float64 of latitudes and longitudes (n, 2) of any real dtype, on their device.

    They are computed on the CPU. A point of which something is not finite is NaN.
    """
    here = values.detach().cpu().resolve_neg()
    workers = min(this_machine(here.device).threads, max(1, len(here) // _SHARED))
    certain = _by_kernels if this_machine(here.device).kernels and _are_loaded() else _by_arrays
    # Workers could not write to what inference mode makes; it is a setting of the thread.
    with torch.inference_mode(False), Workers.if_several(workers, len(here) < _SHARED, here.device) as team:
        out = torch.empty(len(here), 3, dtype=torch.float64, device=here.device)
        filled = out.numpy()

        def fill(start: int) -> None:
            part = slice(start, start + _AT_ONCE)
            _fill(here[part], filled[part], certain)

        team.each(fill, range(0, len(here), _AT_ONCE))
    return out.to(float64_device(values.device))


def _are_loaded() -> bool:
    return are_ready(("sphere",), partial(_by_kernels, np.ones((2, 2)), np.empty((2, 3))))


def _fill(values: Tensor, out: Floats, certain: Callable[[Floats, Floats], Bools]) -> None:
    """Fill the points (r, 3) of some latitudes and longitudes (r, 2)."""
    angles = as_float64(values).contiguous().numpy()
    finite = np.isfinite(angles).all(axis=1)
    known = certain(angles, out)
    out[~finite] = np.nan
    for i in np.flatnonzero(finite & ~known):
        out[i] = nearest_point(*values[int(i)].tolist())


def _by_kernels(angles: Floats, out: Floats) -> Bools:
    """Fill points (r, 3), and return which are certain."""
    from janelia_core.ml._knn.arithmetic.angle_kernels import fill_points

    certain = np.empty(len(angles), np.bool_)
    fill_points(angles, *table_of_sines(), out, certain)
    return certain


def _by_arrays(angles: Floats, out: Floats) -> Bools:
    """Do as `_by_kernels` by NumPy."""
    lat, lon = (sine_cosine_of(np.ascontiguousarray(angles[:, at])) for at in (0, 1))
    coordinates = product_of(lat.cosine, lon.cosine), product_of(lat.cosine, lon.sine), lat.sine
    known = lat.known & lon.known
    for at, coordinate in enumerate(coordinates):
        out[:, at], certain = _rounded(coordinate)
        known &= certain
    return known


def _rounded(value: Double) -> tuple[Floats, Bools]:
    """Return the float64 numbers nearest to values within _ERROR of sums of two, and whether that is certain."""
    first, second = value
    error = np.abs(first) * _ERROR
    low, high = first + (second - error), first + (second + error)
    return low + 0.0, low == high  # 0 is +0
