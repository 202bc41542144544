"""First derivatives over few pairs in a dozen torch operations: no kernel is loaded for a thousand numbers.

The sums of pairs.py and of norm_pairs.py in float64, all pairs together, on a CPU. What float64 cannot hold, and pairs
whose distance or quotient comes near the ends of its format, are left to those.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from janelia_core.ml._neighbors.derivatives import pair_blocks
from janelia_core.ml._neighbors.derivatives.pair_lists import Pairs

MOST = pair_blocks.FEWEST  # numbers of pairs: from here on kernels, or pairs chunk by chunk

Sums = tuple[Tensor, Tensor]


def sums(w: Tensor, x: Tensor, c: Tensor, pairs: Pairs, differences: bool, factor: float) -> Sums | None:
    """Do as `pairs.sums`; None: these pairs are not for here."""
    if not _fit(pairs, w, x, c):
        return None
    j, weights = pairs.centres(slice(0, len(x))), w.double() * factor
    missing = j < 0
    some_missing = bool(missing.any())
    if some_missing:
        weights = torch.where(missing, 0.0, weights)
        j = j.clamp(min=0)
    rows, ctrs, each = x.double()[:, None], _picked(c, j), weights[..., None]
    if differences:
        by_row = (rows - ctrs).mul_(each)
        by_centre = by_row.neg()
    else:
        by_row, by_centre = ctrs * each, rows * each
    if some_missing:
        for some in (by_row, by_centre):
            _clear(some, missing)
    return _narrowed((by_row.sum(1), _by_centre(by_centre, j, c)), weights, x.dtype)


def norm_sums(w: Tensor, x: Tensor, c: Tensor, r: Tensor, pairs: Pairs) -> Sums | None:
    """Do as `norm_pairs.sums` for no direction; None: these pairs are not for here."""
    if not _fit(pairs, w, x, c, r):
        return None
    least, most, tiny = pair_blocks.limits(r.dtype)
    j, weights, missing = pairs.centres(slice(0, len(x))), w.double() / r, None
    (low, high), some_missing = r.aminmax(), bool((j < 0).any())
    if some_missing or not (low >= least and high <= most):
        ordinary = (r >= least) & (r <= most) & (j >= 0)
        if not bool((ordinary | (r == 0) | (j < 0)).all()):
            return None
        weights = torch.where(ordinary, weights, 0.0)
        missing, j = j < 0, j.clamp(min=0)
    if r.dtype == torch.float64 and not bool(((weights == 0) | (weights.abs() >= tiny)).all()):
        return None
    gaps = (x.double()[:, None] - _picked(c, j)).mul_(weights[..., None])
    if missing is not None:
        _clear(gaps, missing)
    return _narrowed((gaps.sum(1), _by_centre(gaps.neg(), j, c)), weights, x.dtype)


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


def _picked(c: Tensor, j: Tensor) -> Tensor:
    """Return the centres (n, k, d) at j (n, k)."""
    return c.index_select(0, j.reshape(-1)).view(*j.shape, c.shape[1])


def _clear(vectors: Tensor, missing: Tensor) -> None:
    """Make vectors (n, k, d) 0 where centre 0 stood in for none: if it is not finite, a weight of 0 does not do."""
    vectors.masked_fill_(missing[..., None], 0.0)


def _by_centre(vectors: Tensor, j: Tensor, c: Tensor) -> Tensor:
    """Return sums (m, d) by centre of vectors (n, k, d), row by row."""
    d = c.shape[1]
    out = torch.zeros(c.shape, dtype=torch.float64, device="cpu")
    return out.scatter_add_(0, j.reshape(-1, 1).expand(-1, d), vectors.view(-1, d))


def _narrowed(found: Sums, weights: Tensor, dtype: torch.dtype) -> Sums | None:
    """Return sums in the dtype of the points; None: float64 did not hold them, or a weight is infinite or NaN."""
    doubtful = (weights,) if dtype == torch.float32 else found  # products of three float32 numbers overflow nowhere
    if not all(math.isfinite(part.sum()) for part in doubtful):
        return None
    return found[0].to(dtype), found[1].to(dtype)
