"""A few rows of an index, answered in microseconds where something kept can; else a call goes the way of `knn`."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from janelia_core.ml._knn.among import SPARE, Among
from janelia_core.ml._knn.distances.distances import of_few, result_dtype
from janelia_core.ml._knn.metrics.metric import OF_GAPS, Metric
from janelia_core.ml._knn.metrics.registry import METRICS
from janelia_core.ml._knn.problem import DEFAULT_MEMORY
from janelia_core.ml._knn.report import is_watched
from janelia_core.ml._knn.screens.keeping import Few
from janelia_core.ml._neighbors.call import Batches, checked_settings, neighbors
from janelia_core.ml._neighbors.found import Neighbors
from janelia_core.ml._runtime.arrays import B8, I64, Reals
from janelia_core.ml._runtime.kernels import may_serve, optional_kernels
from janelia_core.ml._runtime.loading import are_ready
from janelia_core.ml._runtime.machine import flushes_subnormals
from janelia_core.ml._runtime.transforms import is_plain, is_transformed

MOST = 1 << 14  # rows; more had better be put in order first, so that neighbours walk together
_MOST_WIDE = 1 << 6  # of float64, whose proof is NumPy's
_SHARED = 128  # rows from which it is worth asking how many threads there are


def are_few(x: object, ctrs: Tensor) -> bool:
    """Tell whether x are a few rows of floats in an ordinary call: nobody watches, traces or differentiates."""
    return (
        type(x) is Tensor
        and is_plain(x, ctrs)
        and x.ndim == 2
        and 0 < x.shape[0] <= (MOST if x.dtype is torch.float32 else _MOST_WIDE if x.dtype is ctrs.dtype else 0)
        and x.dtype in (torch.float32, torch.float64)
        and x.shape[1] == ctrs.shape[1] > 0
        and x.is_cpu
        and ctrs.is_cpu
        and x.is_contiguous()
        and not x.is_neg()
        and not (torch.is_grad_enabled() and (x.requires_grad or ctrs.requires_grad))
        and not torch.is_inference_mode_enabled()
        and not is_transformed()
        and not is_watched()
    )


def answer(x: Tensor, ctrs: Tensor, among: Among, k: int, metric: str) -> Neighbors | None:
    """Return what `knn` does of a few plain rows, if something kept answers most of them at once."""
    found = _nearest(x, among, k, metric) if isinstance(metric, str) and metric in METRICS else None
    if found is None or 2 * len(found[1]) > len(x):
        return None
    nearest, doubtful = found
    if len(doubtful):
        call = checked_settings(k, metric, None, DEFAULT_MEMORY, x.device)
        others = neighbors(x[doubtful], ctrs, call, None, None, Batches(), kept=among)
        for part, of_others in zip(nearest, others, strict=True):
            part[doubtful] = of_others
    return nearest


@optional_kernels
def _nearest(x: Tensor, among: Among, k: int, metric: str) -> tuple[Neighbors, Tensor] | None:
    """Return the neighbours of a few rows, and the rows of which these are not known; None where nobody can tell.

    Args:
        x: As `are_few` wants it.
        among: The parts of the index.
        k: How many.
        metric: One of METRICS.
    """
    by, part, wide = METRICS[metric], among.parts[0], x.dtype is torch.float64
    if by.form not in OF_GAPS or len(among.parts) > 1 or result_dtype(x, among.values) != x.dtype:
        return None
    if wide and flushes_subnormals():
        return None
    spare = 0 if part.gone is None else min(SPARE + k // 4, len(part.kept.centres) - k)
    few = part.kept.few(k + spare, by.form, wide) if may_serve() and k <= len(part) else None
    if few is None or not _are_loaded(few, x, k + spare, by):
        return None
    threads = 1 if len(x) < _SHARED else torch.get_num_threads()
    found = few.nearest(x.detach().numpy(), k + spare, by.root, threads)
    indices, distances, doubtful = found if part.gone is None else _left(*found, part.gone.numpy(), k)
    nearest = Neighbors(torch.from_numpy(distances), torch.from_numpy(indices))
    if wide:
        indices[doubtful] = 0  # anything stands there
        rounded = of_few(x, among.values, nearest.indices, metric)
        if rounded is None:
            return None
        nearest = Neighbors(rounded, nearest.indices)
    return nearest, torch.from_numpy(doubtful)


def _are_loaded(few: Few, x: Tensor, k: int, by: type[Metric]) -> bool:
    """Tell whether kernels are there, as in an index that comes from a file they are not; else they begin to load."""
    use = "few rows", type(few), by.form, by.root
    return are_ready(use, lambda: few.nearest(np.zeros((1, x.shape[1]), x.detach().numpy().dtype), k, by.root))


def _left(indices: I64, distances: Reals, doubtful: I64, gone: B8, k: int) -> tuple[I64, Reals, I64]:
    """Return the first k of each row's list (n, w) that are not gone; where there are fewer, the row is in doubt."""
    indices[doubtful] = 0  # anything stands there
    missing = gone[indices]
    touched = np.flatnonzero(missing[:, :k].any(axis=1))
    for row in touched:
        there = np.flatnonzero(~missing[row])[:k]
        indices[row, : len(there)], distances[row, : len(there)] = indices[row, there], distances[row, there]
    short = touched[(~missing[touched]).sum(axis=1) < k]
    first = np.ascontiguousarray(indices[:, :k]), np.ascontiguousarray(distances[:, :k])
    return *first, np.union1d(doubtful, short)
