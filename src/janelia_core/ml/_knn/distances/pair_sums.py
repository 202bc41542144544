"""Order values of listed pairs by compiled kernels, in float64 and in double-double; no pair is gathered."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from janelia_core.ml._knn.arithmetic.compensated import sums_of_pairs
from janelia_core.ml._knn.arithmetic.double_double import LARGEST, Sum, cosine_of_sums
from janelia_core.ml._knn.distances.gap_kernels import rounded_gaps
from janelia_core.ml._knn.distances.rounding_kernels import rounded_distances, rounded_sums, rounded_values
from janelia_core.ml._knn.metrics.differences import OfAbsoluteDifferences
from janelia_core.ml._knn.metrics.metric import COSINE, DISTANCE, DOT, Metric

Rounded = tuple[Tensor, Tensor | None]


def rounded_pairs(metric: Metric, x: Tensor, ctrs: Tensor, indices: Tensor, dtype: torch.dtype) -> Rounded:
    """Return distances (r, k) of a dtype, and whether each is certain, or None if all are.

    Args:
        metric: Of a form that kernels know; for float64 no cosine.
        x: (r, d) rows, contiguous on the CPU, float32 or float64.
        ctrs: (n_ctrs, d), likewise, of x's dtype.
        indices: (r, k) int64, -1 for none, which counts as infinitely far.
        dtype: float32 or float64.
    """
    out = torch.empty(indices.shape, dtype=dtype, device="cpu")
    certain = torch.empty(indices.shape, dtype=torch.bool, device="cpu")
    arrays = (array.numpy() for array in (x, ctrs, indices.contiguous(), out, certain))
    if isinstance(metric, OfAbsoluteDifferences):
        doubtful = rounded_gaps(metric.power == math.inf, dtype == torch.float32, metric.bound(x.shape[1]), *arrays)
    elif dtype == torch.float64:
        doubtful = rounded_sums(metric.form, metric.root, *arrays)
    elif metric.form == DISTANCE:
        doubtful = rounded_distances(metric.root, metric.bound(x.shape[1]), *arrays)
    else:
        doubtful = rounded_values(metric.form, metric.root, metric.bound(x.shape[1]), *arrays)
    return out, certain if doubtful else None


def pair_sums(metric: Metric, x: Tensor, ctrs: Tensor, indices: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return order values as (hi, lo, error), each (r, k) float64: |hi + lo - truth| <= error."""
    indices = indices.contiguous()
    hi, lo, error = _sums(metric.form == DISTANCE, False, x, ctrs, indices)
    if metric.form == DOT:
        return -hi, -lo, error
    if metric.form == COSINE:
        rows = torch.arange(len(x), device="cpu")[:, None]
        squares = _sums(False, True, x, x, rows), _sums(False, True, x, ctrs, indices)
        found = cosine_of_sums(_numpy((hi, lo, error)), _numpy(squares[0]), _numpy(squares[1]))
        hi, lo, error = (torch.from_numpy(part) for part in found)
        for square, _, lost in squares:
            known = ((square == 0) & (lost == 0)) | ((square > 1 / LARGEST) & (square < LARGEST))
            error = error.masked_fill(~known, torch.inf)
    return hi, lo, error


def _sums(square: bool, own: bool, x: Tensor, ctrs: Tensor, indices: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    hi, lo, error = (torch.empty(indices.shape, dtype=torch.float64, device="cpu") for _ in range(3))
    sums_of_pairs(square, own, *(array.numpy() for array in (x, ctrs, indices, hi, lo, error)))
    return hi, lo, error


def _numpy(sums: tuple[Tensor, Tensor, Tensor]) -> Sum:
    hi, lo, error = (part.numpy() for part in sums)
    return hi, lo, error
