"""Lists of centres -> the nearest of each row, in order, by kernels: launches, and what they take and give."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from janelia_core.ml._knn.screens.rerank.cost import SORTED_ABOVE
from janelia_core.ml._knn.screens.rerank.kernels.ranking import look_at_ties, rank
from janelia_core.ml._knn.screens.rerank.kernels.verification import verify
from janelia_core.ml._knn.screens.rerank.sorting import sorted_values
from janelia_core.ml._runtime.device_kernels import launching

_ROWS, _STEP = 128, 16
_NARROW = 16  # coordinates up to which memory takes longer than arithmetic


class Found(NamedTuple):
    """Centres found for rows: row numbers (n, keep), how many (n,), and why a row is in doubt (n,), all int32."""

    centres: Tensor
    counts: Tensor
    doubt: Tensor


def readable(values: Tensor) -> Tensor:
    """Return stored values as kernels read them."""
    return values.view(torch.uint8) if values.dtype == torch.bool else values


def reranked(x: Tensor, ctrs: Tensor, found: Found, k: int, form: int, masked: bool = False) -> Tensor:
    """Return the k nearest of what was found for rows x (n, d) among stored centres: (n, k) int64, -1 behind the last.

    found.doubt is told which rows' order is not proven; without `masked` also which have found fewer than k.
    """
    values = verified(x, ctrs, found, form)
    order = ranked if found.centres.shape[1] <= SORTED_ABOVE else sorted_found
    ordered = order(found, values, k, masked)
    ties_looked_at(x, ctrs, ordered, found.doubt, k, form)
    return ordered[0][:, :k].to(torch.int64)


def verified(x: Tensor, ctrs: Tensor, found: Found, form: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return order values of what was found, high + low +- error (n, keep) float64."""
    n, keep = found.centres.shape
    values = torch.empty(3, n, keep, dtype=torch.float64, device=x.device)
    x, ctrs = readable(x), readable(ctrs)
    sparse = x.shape[1] > _NARROW
    with launching(x):
        verify[(-(-n // _ROWS), keep) if sparse else (-(-n * keep // _ROWS), 1)](
            x, ctrs, found.centres, found.counts, values[0], values[1], values[2], found.doubt, n,
            *x.stride(), *ctrs.stride(), x.shape[1],
            KEEP=keep, BM=_ROWS, FORM=form, SPARSE=sparse, num_warps=8, enable_fp_fusion=False,
        )  # fmt: skip
    return values[0], values[1], values[2]


def ranked(found: Found, values: tuple[Tensor, Tensor, Tensor], k: int, masked: bool) -> tuple[Tensor, Tensor]:
    """Return the centres in order (n, keep) int32, and which are too close to the next to tell."""
    n, keep = found.centres.shape
    out, near = torch.empty_like(found.centres), torch.empty(n, keep, dtype=torch.int8, device=found.centres.device)
    with launching(out):
        rank[(n,)](
            found.centres, found.counts, *values, out, near, found.doubt, k,
            KEEP=keep, STEP=_STEP, MASKED=masked, num_warps=warps_for(keep * _STEP, 512), enable_fp_fusion=False,
        )  # fmt: skip
    return out, near


def ties_looked_at(x: Tensor, ctrs: Tensor, ordered: tuple[Tensor, Tensor], doubt: Tensor, k: int, form: int) -> None:
    """Take rows out of doubt whose near centres tie for sure."""
    out, near = ordered
    x, ctrs = readable(x), readable(ctrs)
    with launching(out):
        look_at_ties[(len(out),)](
            x, ctrs, out, near, doubt, *x.stride(), *ctrs.stride(), x.shape[1], k,
            BD=min(128, max(16, 1 << (x.shape[1] - 1).bit_length())), KEEP=out.shape[1], FORM=form,
            num_warps=1, enable_fp_fusion=False,
        )  # fmt: skip


def sorted_found(found: Found, values: tuple[Tensor, Tensor, Tensor], k: int, masked: bool) -> tuple[Tensor, Tensor]:
    """Return what `ranked` does, by torch's sorts."""
    return sorted_values(found.centres, found.counts, values, found.doubt, k, masked)


def warps_for(numbers: int, each: int) -> int:
    """Return how many warps look at so many numbers, a power of two up to 16."""
    return max(1, min(16, 1 << (max(1, numbers // each) - 1).bit_length()))
