"""Float64 order values of candidates, in order, each with its proven error (`metrics`).

Distances are sums of squared differences, never the expanded form. Empty slots (-1) get NaN, which sorts last.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from janelia_core.ml._knn.contract import Candidates, Ordered, Stored
from janelia_core.ml._knn.data.points import Points, float64_device, plain_nan
from janelia_core.ml._knn.metrics.metric import ALL_FORMS, OF_GAPS, Metric
from janelia_core.ml._knn.rows import tiles
from janelia_core.ml._runtime.loading import are_ready

if TYPE_CHECKING:
    from janelia_core.ml._knn.verify.kernels import Lists

_KERNEL_DTYPES = (torch.float32, torch.float64, torch.uint8, torch.int32, torch.int64)


def ordered(
    x_rows: Tensor,
    ctrs: Points,
    indices: Tensor,
    metric: Metric,
    compiled: bool,
    k: int = 0,
    at_least: Tensor | None = None,
) -> Ordered:
    """Return row numbers of centres (r, w) sorted by (order value, number).

    Args:
        x_rows: (r, d) stored values.
        ctrs: The centres.
        indices: (r, w) int64 row numbers, -1 in empty slots.
        metric: What to order by.
        compiled: Numba kernels may be used.
        k: How many are wanted; only `at_least` asks.
        at_least: `Candidates.at_least`: whoever is proven farther than the first k listed may be left out.
    """
    alike = x_rows.dtype == ctrs.values.dtype and x_rows.is_floating_point()
    if compiled and for_kernels(x_rows, ctrs.values, metric) and (alike or metric.form in OF_GAPS):
        return _by_kernel(x_rows.contiguous(), ctrs.values, indices.contiguous(), metric, k, at_least)
    return order(indices, *candidate_values(x_rows, ctrs, indices, metric))


def at_sight(x_rows: Tensor, ctrs: Points, candidates: Candidates, metric: Metric, k: int) -> tuple[Tensor, Tensor]:
    """Answer, by Numba kernels, the rows whose float64 distances alone prove the first k and their order.

    Args:
        x_rows: (r, d) stored values.
        ctrs: The centres.
        candidates: Of these rows, by row number of ctrs.
        metric: What to order by.
        k: How many are wanted.

    Returns:
        (r, k) int64 row numbers, nearest first, and the rows (doubtful,) in which they are anything.
    """
    indices, excluded, at_least = candidates
    if metric.form not in OF_GAPS or not for_kernels(x_rows, ctrs.values, metric):
        return indices.new_empty(len(indices), k), torch.arange(len(indices), device=indices.device)
    from janelia_core.ml._knn.verify.kernels import answer

    out, doubtful = indices.new_empty(len(indices), k), indices.new_empty(len(indices))
    lists, within = _lists(x_rows.contiguous(), ctrs.values, indices, at_least, metric), metric.bound(x_rows.shape[1])
    failed = answer(lists, excluded.contiguous().numpy(), k, within, out.numpy(), doubtful.numpy())
    return out, doubtful[:failed]


def are_loaded(x: torch.dtype, ctrs: torch.dtype, metric: Metric) -> bool:
    """Tell whether the kernels of `at_sight` and `ordered` are there for some dtypes; else they begin to load."""
    return are_ready(("verify", metric.form, x, ctrs), partial(rehearse, x, ctrs, metric))


def rehearse(x: torch.dtype, ctrs: torch.dtype, metric: Metric) -> None:
    """Put a row's centres in order, both ways, so that kernels are loaded."""
    row, centres = torch.ones(1, 2, dtype=x, device="cpu"), Points(torch.ones(2, 2, dtype=ctrs, device="cpu"))
    both = torch.tensor([[0, 1]], device="cpu")
    everything = Candidates(both, torch.full((1,), torch.inf, dtype=torch.float64, device="cpu"))
    at_sight(row, centres, everything, metric, 1)
    ordered(row, centres, both, metric, compiled=True)


def _by_kernel(x: Tensor, ctrs: Tensor, indices: Tensor, metric: Metric, k: int, at_least: Tensor | None) -> Ordered:
    value = torch.empty(indices.shape, dtype=torch.float64, device="cpu")
    numbers = torch.empty_like(indices)
    within = metric.bound(x.shape[1])
    if metric.form in OF_GAPS:
        from janelia_core.ml._knn.verify.kernels import verify

        longest = verify(_lists(x, ctrs, indices, at_least, metric), k, within, value.numpy(), numbers.numpy())
        part = slice(indices.shape[1] if at_least is None else max(k, longest))
        return Ordered(numbers[:, part], value[:, part], metric.errors_of(value[:, part], x.shape[1]))
    from janelia_core.ml._knn.verify.pair_kernels import verify_pairs

    error = torch.empty_like(value)
    arrays = (array.numpy() for array in (x, ctrs, indices, value, error, numbers))
    verify_pairs(metric.form, within, *arrays)
    return Ordered(numbers, value, metric.errors(value, error))


def _lists(x: Tensor, ctrs: Tensor, indices: Tensor, at_least: Tensor | None, metric: Metric) -> Lists:
    from janelia_core.ml._knn.metrics.gaps import WAYS
    from janelia_core.ml._knn.verify.kernels import Lists

    bounds = indices.new_empty(0, 0, dtype=torch.float64) if at_least is None else at_least.contiguous()
    return Lists(x.numpy(), ctrs.numpy(), indices.contiguous().numpy(), bounds.numpy(), WAYS[metric.form])


def for_kernels(x_rows: Tensor, ctrs: Tensor, metric: Metric) -> bool:
    """Tell whether kernels can read these values; of rows, which are few, a copy will do."""
    known = all(values.dtype in _KERNEL_DTYPES and values.device.type == "cpu" for values in (x_rows, ctrs))
    return known and ctrs.is_contiguous() and metric.form in ALL_FORMS and metric.exponent == 0


def candidate_values(x_rows: Tensor, ctrs: Stored, indices: Tensor, metric: Metric) -> tuple[Tensor, Tensor]:
    """Return order values and errors (r, w) float64 of rows (r, d) with the centres at indices (r, w) int64."""
    rows, width = indices.shape
    value = torch.empty(rows, width, dtype=torch.float64, device=float64_device(x_rows.device))
    error = torch.empty_like(value)
    for part in tiles(rows, width, ctrs.chunk // max(1, ctrs.d)):
        value[part], error[part] = metric.pairs(x_rows[part[0], None], ctrs.take(indices[part].clamp(min=0)))
    empty = (indices < 0).to(value.device)
    return value.masked_fill_(empty, torch.nan), error.masked_fill_(empty, 0.0)


def order(indices: Tensor, value: Tensor, error: Tensor) -> Ordered:
    """Sort each row (r, w) by (value, index): -inf < finite < inf < NaN < empty slots."""
    value = plain_nan(value)
    places = in_order(indices, value)
    return Ordered(indices.gather(1, places), value.gather(1, places), error.gather(1, places))


def in_order(indices: Tensor, value: Tensor) -> Tensor:
    """Return the places (r, w) of each row's slots by (value, index); NaN are plain ones (`plain_nan`)."""
    empty_last = torch.where(indices < 0, torch.iinfo(torch.int64).max, indices)
    by_index = empty_last.argsort(dim=1)
    return by_index.gather(1, value.gather(1, by_index).argsort(dim=1, stable=True))
