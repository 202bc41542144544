"""First derivatives over few pairs in a dozen NumPy operations: no kernel is loaded for a thousand numbers.

The sums of pairs.py and of norm_pairs.py in float64, all pairs together, on a CPU. What float64 cannot hold, and pairs
whose distance or quotient comes near the ends of its format, are left to those. Torch's own operations would take
several times as long, and might wake threads.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from janelia_core.ml._knn.data.points import as_array
from janelia_core.ml._neighbors.derivatives import pair_blocks
from janelia_core.ml._neighbors.derivatives.pair_lists import Pairs
from janelia_core.ml._runtime.arrays import B8, F64, I64, Reals

MOST = pair_blocks.FEWEST  # numbers of pairs: from here on kernels, or pairs chunk by chunk

Sums = tuple[Tensor, Tensor]


def sums(w: Tensor, x: Tensor, c: Tensor, pairs: Pairs, differences: bool, factor: float) -> Sums | None:
    """Do as `pairs.sums`; None: these pairs are not for here."""
    if not _fit(pairs, w, x, c):
        return None
    with np.errstate(all="ignore"):
        j, weights = _centres(pairs), _wide(w) * factor
        missing = None if j.min() >= 0 else j < 0
        if missing is not None:
            weights, j = np.where(missing, 0.0, weights), np.maximum(j, 0)
        rows, ctrs, each = _wide(x)[:, None], as_array(c)[j], weights[..., None]
        if differences:
            by_row = _cleared((rows - ctrs) * each, missing)
            return _narrowed(by_row.sum(axis=1), 0.0 - _by_centre(by_row, j, c), weights, x.dtype)
        by_row, by_centre = _cleared(ctrs * each, missing), _cleared(rows * each, missing)
        return _narrowed(by_row.sum(axis=1), _by_centre(by_centre, j, c), weights, x.dtype)


def norm_sums(w: Tensor, x: Tensor, c: Tensor, r: Tensor, pairs: Pairs) -> Sums | None:
    """Do as `norm_pairs.sums` for no direction; None: these pairs are not for here."""
    if not _fit(pairs, w, x, c, r):
        return None
    least, most, tiny = pair_blocks.limits(r.dtype)
    with np.errstate(all="ignore"):
        j, far, missing = _centres(pairs), _wide(r), None
        weights, some_missing = _wide(w) / far, bool(j.min() < 0)
        if some_missing or not (far.min() >= least and far.max() <= most):
            ordinary = (far >= least) & (far <= most) & (j >= 0)
            if not (ordinary | (far == 0) | (j < 0)).all():
                return None
            weights, missing, j = np.where(ordinary, weights, 0.0), j < 0, np.maximum(j, 0)
        if r.dtype == torch.float64 and not ((weights == 0) | (np.abs(weights) >= tiny)).all():
            return None
        gaps = _cleared((_wide(x)[:, None] - as_array(c)[j]) * weights[..., None], missing)
        return _narrowed(gaps.sum(axis=1), 0.0 - _by_centre(gaps, j, c), weights, x.dtype)


def _fit(pairs: Pairs, w: Tensor, x: Tensor, c: Tensor, *others: Tensor) -> bool:
    """Whether there are so few pairs, on a CPU, that all of them are taken together, and of one dtype."""
    numbers = pairs.indices.numel() * x.shape[1]
    return (
        x.is_cpu
        and 0 < numbers < MOST
        and len(c) > 0
        and x.dtype in (torch.float32, torch.float64)
        and all(t.dtype == x.dtype for t in (w, c, *others))
    )


def _centres(pairs: Pairs) -> I64:
    centres: I64 = as_array(pairs.centres(slice(0, len(pairs.indices))))
    return centres


def _wide(values: Tensor) -> F64:
    wide: F64 = as_array(values).astype(np.float64)
    return wide


def _cleared(vectors: F64, missing: B8 | None) -> F64:
    """Return vectors (n, k, d), 0 where centre 0 stood in for none: if it is not finite, a weight of 0 does not do."""
    if missing is not None:
        vectors[missing] = 0.0
    return vectors


def _by_centre(vectors: F64, j: I64, c: Tensor) -> F64:
    """Return sums (m, d) by centre of vectors (n, k, d), row by row."""
    m, d = c.shape
    places = (j.reshape(-1, 1) * d + np.arange(d)).reshape(-1)
    summed: F64 = np.bincount(places, vectors.reshape(-1), m * d)  # type: ignore[assignment]
    return summed.reshape(m, d)


def _narrowed(by_row: F64, by_centre: F64, weights: F64, dtype: torch.dtype) -> Sums | None:
    """Return sums in the dtype of the points; None: float64 did not hold them, or a weight is infinite or NaN."""
    single = dtype == torch.float32  # products of three such numbers overflow nowhere
    if not all(math.isfinite(part.sum()) for part in ((weights,) if single else (by_row, by_centre))):
        return None
    narrow: tuple[Reals, ...] = (by_row, by_centre)
    if single:
        narrow = tuple(part.astype(np.float32) for part in narrow)
    return torch.from_numpy(narrow[0]), torch.from_numpy(narrow[1])
