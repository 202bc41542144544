"""First derivatives over few pairs in a dozen NumPy operations, or by a kernel where Numba is there already.

The sums of pairs.py and of norm_pairs.py in float64, all pairs together, on a CPU. What float64 cannot hold, and pairs
whose distance or quotient comes near the ends of its format, are left to those. Torch's own operations would take
several times as long, and might wake threads. Both add up pair after pair, and give the same bytes.
"""

from __future__ import annotations

import math
import sys
from functools import partial
from importlib import import_module
from typing import Any

import numpy as np
import torch
from torch import Tensor

from janelia_core.ml._knn.data.points import as_array
from janelia_core.ml._neighbors.derivatives import pair_blocks
from janelia_core.ml._neighbors.derivatives.pair_lists import Pairs
from janelia_core.ml._runtime.arrays import B8, F64, I64
from janelia_core.ml._runtime.kernels import may_serve
from janelia_core.ml._runtime.loading import are_ready

_PER_SUM = 24  # bytes of a coordinate of all centres while it is summed
MOST = pair_blocks.FEWEST  # numbers of pairs: from here on kernels, or pairs chunk by chunk

_KERNELS = "janelia_core.ml._neighbors.derivatives.few_kernels"  # by its name: its import loads Numba

Sums = tuple[Tensor, Tensor]


def sums(w: Tensor, x: Tensor, c: Tensor, pairs: Pairs, differences: bool, factor: float, budget: int) -> Sums | None:
    """Do as `pairs.sums`; None: these pairs are not for here."""
    if not _fit(pairs, budget, w, x, c):
        return None
    if (kernels := _kernels(x.dtype)) is not None:
        out = np.zeros(x.shape), np.zeros(c.shape)
        given = as_array(w), as_array(x), as_array(c), _centres(pairs)
        return _narrowed(out, x.dtype) if kernels.sums(*given, differences, factor, *out) else None
    with np.errstate(all="ignore"):
        j, weights = _centres(pairs), _wide(w) * factor
        missing = None if j.min() >= 0 else j < 0
        if missing is not None:
            weights, j = np.where(missing, 0.0, weights), np.maximum(j, 0)
        rows, ctrs, each = _wide(x)[:, None], as_array(c)[j], weights[..., None]
        if differences:
            by_row = _cleared((rows - ctrs) * each, missing)
            found = _by_row(by_row), _negative(_by_centre(by_row, j, c))
        else:
            by_row, by_centre = _cleared(ctrs * each, missing), _cleared(rows * each, missing)
            found = _by_row(by_row), _by_centre(by_centre, j, c)
        return _narrowed(found, x.dtype) if math.isfinite(weights.sum()) else None


def norm_sums(w: Tensor, x: Tensor, c: Tensor, r: Tensor, pairs: Pairs, budget: int) -> Sums | None:
    """Do as `norm_pairs.sums` for no direction; None: these pairs are not for here."""
    if not _fit(pairs, budget, w, x, c, r):
        return None
    least, most, tiny = pair_blocks.limits(r.dtype)
    if (kernels := _kernels(x.dtype)) is not None:
        out = np.zeros(x.shape), np.zeros(c.shape)
        given, ends = (as_array(w), as_array(x), as_array(c), as_array(r)), (least, most, tiny if _is_wide(r) else 0.0)
        return _narrowed(out, x.dtype) if kernels.norm_sums(*given, _centres(pairs), ends, *out) else None
    with np.errstate(all="ignore"):
        j, far, missing = _centres(pairs), _wide(r), None
        weights, some_missing = _wide(w) / far, bool(j.min() < 0)
        if some_missing or not (far.min() >= least and far.max() <= most):
            ordinary = (far >= least) & (far <= most) & (j >= 0)
            if not (ordinary | (far == 0) | (j < 0)).all():
                return None
            weights, missing, j = np.where(ordinary, weights, 0.0), j < 0, np.maximum(j, 0)
        if _is_wide(r) and not ((weights == 0) | (np.abs(weights) >= tiny)).all():
            return None
        gaps = _cleared((_wide(x)[:, None] - as_array(c)[j]) * weights[..., None], missing)
        found = _by_row(gaps), _negative(_by_centre(gaps, j, c))
        return _narrowed(found, x.dtype) if math.isfinite(weights.sum()) else None


def _fit(pairs: Pairs, budget: int, w: Tensor, x: Tensor, c: Tensor, *others: Tensor) -> bool:
    """Whether there are so few pairs, on a CPU, that all of them are taken together, of one dtype, and sums fit."""
    numbers = pairs.indices.numel() * x.shape[1]
    return (
        x.is_cpu
        and 0 < numbers < MOST
        and len(c) > 0
        and _PER_SUM * c.numel() <= budget
        and x.dtype in (torch.float32, torch.float64)
        and all(t.dtype == x.dtype for t in (w, c, *others))
    )


def _is_wide(values: Tensor) -> bool:
    return values.dtype == torch.float64


def _kernels(dtype: torch.dtype) -> Any:
    """Return the kernels, if they may be called; they begin to load where Numba is there: its import takes longer."""
    ready = "numba" in sys.modules and may_serve() and are_ready(("few pairs", dtype), partial(_rehearse, dtype))
    return import_module(_KERNELS) if ready else None


def _rehearse(dtype: torch.dtype) -> None:
    kernels: Any = import_module(_KERNELS)
    one, j, out = torch.ones(1, 1, dtype=dtype, device="cpu").numpy(), np.zeros((1, 1), np.int64), np.zeros((1, 1))
    kernels.norm_sums(one, one, one, one, j, (0.5, 2.0, 0.0), out, out)
    kernels.sums(one, one, one, j, True, 1.0, out, out)


def _centres(pairs: Pairs) -> I64:
    whole = pairs.indices if len(pairs.first) == 0 else pairs.centres(slice(0, len(pairs.indices)))
    centres: I64 = as_array(whole)
    return centres


def _wide(values: Tensor) -> F64:
    wide: F64 = as_array(values).astype(np.float64)
    return wide


def _cleared(vectors: F64, missing: B8 | None) -> F64:
    """Return vectors (n, k, d), 0 where centre 0 stood in for none: if it is not finite, a weight of 0 does not do."""
    if missing is not None:
        vectors[missing] = 0.0
    return vectors


def _by_row(vectors: F64) -> F64:
    """Return sums (n, d) by row of vectors (n, k, d), slot by slot."""
    summed = vectors[:, 0] + 0.0  # as if it were added to 0: no -0 stays
    for slot in range(1, vectors.shape[1]):
        summed += vectors[:, slot]
    return summed


def _by_centre(vectors: F64, j: I64, c: Tensor) -> F64:
    """Return sums (m, d) by centre of vectors (n, k, d), row by row."""
    m, d = c.shape
    places = (j.reshape(-1, 1) * d + np.arange(d)).reshape(-1)
    summed: F64 = np.bincount(places, vectors.reshape(-1), m * d)  # type: ignore[assignment]
    return summed.reshape(m, d)


def _negative(values: F64) -> F64:
    """Return 0 - values, in their place."""
    return np.subtract(0.0, values, out=values)


def _narrowed(found: tuple[F64, F64], dtype: torch.dtype) -> Sums | None:
    """Return sums in the dtype of the points; None: float64 did not hold them."""
    with np.errstate(all="ignore"):
        if dtype == torch.float32:  # products of three such numbers overflow nowhere
            return torch.from_numpy(found[0].astype(np.float32)), torch.from_numpy(found[1].astype(np.float32))
        held = all(math.isfinite(part.sum()) for part in found)
        return (torch.from_numpy(found[0]), torch.from_numpy(found[1])) if held else None
