"""Small problems under a mask: a look at all distances at once, of which only those of allowed centres count.

As in `at_once`, a process asks torch until kernels are worth loading. A row that may have fewer than k centres is
answered with -1 in the rest of its column.
"""

from __future__ import annotations

import sys
import time
from functools import partial

import torch
from torch import Tensor

from janelia_core.ml._knn.arithmetic.bounds import UNIT32, UNIT64, DistanceBound, gamma
from janelia_core.ml._knn.data.points import as_float64
from janelia_core.ml._knn.metrics.metric import DISTANCE
from janelia_core.ml._knn.metrics.registry import metric_named
from janelia_core.ml._knn.plan.plan import Plan
from janelia_core.ml._knn.small.at_once import FAR, alike, by_lanes, lanes_are_ready
from janelia_core.ml._knn.small.cost import FEW_COLUMNS, takes_lanes
from janelia_core.ml._knn.small.terms import MODULE
from janelia_core.ml._runtime.loading import are_ready

_PATIENCE = 1.0  # seconds of torch operations after which the kernels are loaded
_WANTS_KERNELS = 1 << 20  # n_smps * n_ctrs * d from which a single call does

_spent = 0.0


def nearest_allowed(x: Tensor, ctrs: Tensor, allowed: Tensor, plan: Plan) -> tuple[Tensor, Tensor]:
    """Search a small problem: indices (k, n), and whether (n,) rounding left no doubt of them.

    Args:
        x: (n, d) stored values that float64 holds, on the CPU.
        ctrs: (n_ctrs, d) likewise.
        allowed: (n, n_ctrs) bool on the CPU.
        plan: The plan.
    """
    global _spent
    form = metric_named(plan.metric).form
    lanes = takes_lanes(form, plan.k)
    if plan.kernels and (lanes or form == DISTANCE) and _wants_kernels(plan):
        if lanes and lanes_are_ready(x.dtype, ctrs.dtype):
            return by_lanes(x, ctrs, plan.k, plan.metric, allowed)
        if not lanes and _are_ready(x, ctrs, plan):
            return _by_kernels(x, ctrs, allowed, plan)
    start = time.perf_counter()
    found = _by_operations(x, ctrs, allowed, plan)
    _spent += time.perf_counter() - start
    return found


def _wants_kernels(plan: Plan) -> bool:
    return MODULE in sys.modules or _spent > _PATIENCE or plan.problem.work > _WANTS_KERNELS


def _are_ready(x: Tensor, ctrs: Tensor, plan: Plan) -> bool:
    use = "small, masked", x.dtype, ctrs.dtype, x.shape[1] > FEW_COLUMNS
    return are_ready(use, partial(_rehearse, x.dtype, ctrs.dtype, ctrs.shape, plan))


def _rehearse(rows: torch.dtype, ctrs: torch.dtype, shape: torch.Size, plan: Plan) -> None:
    row, centres = torch.ones(1, shape[1], dtype=rows, device="cpu"), torch.ones(shape, dtype=ctrs, device="cpu")
    _by_kernels(row, centres, torch.ones(1, shape[0], dtype=torch.bool, device="cpu"), plan)


def _by_kernels(x: Tensor, ctrs: Tensor, allowed: Tensor, plan: Plan) -> tuple[Tensor, Tensor]:
    from janelia_core.ml._knn.small import canary, masked_kernels

    (x, ctrs), d = alike(x, ctrs), x.shape[1]
    bound = DistanceBound.of(d, exact=False)
    within = bound.relative, bound.absolute
    indices = torch.zeros(plan.k, len(x), dtype=torch.int64, device="cpu")  # kernels write only clear rows
    clear = torch.empty(len(x), dtype=torch.bool, device="cpu")
    shown, written = allowed.contiguous().numpy(), (indices.numpy(), clear.numpy())
    exact_products = plan.problem.machine.exact_products
    if d > FEW_COLUMNS and x.dtype == torch.float32 and exact_products and canary.product_is_sound():
        product, g = torch.mm(x, ctrs.T).numpy(), gamma(d + 8, UNIT32)
        masked_kernels.allowed_by_product(x.numpy(), ctrs.numpy(), shown, product, g, within, *written)
    else:
        masked_kernels.allowed_directly(x.numpy(), ctrs.numpy(), shown, *within, *written)
    return indices, clear


def _by_operations(x: Tensor, ctrs: Tensor, allowed: Tensor, plan: Plan) -> tuple[Tensor, Tensor]:
    """Search in a few torch operations, as `at_once._by_operations`; what a row may not have is infinitely far.

    Of a row that may have a centres, the first min(a, k) count: these must be finite, and clear of what follows.
    """
    k, few, metric = plan.k, min(plan.k + 1, ctrs.shape[0]), metric_named(plan.metric)
    counts = allowed.sum(dim=1)
    beyond = torch.arange(k, device="cpu") >= counts[:, None]
    if metric.form == DISTANCE:
        value = torch.cdist(as_float64(x), as_float64(ctrs), compute_mode="donot_use_mm_for_euclid_dist")
        relative, absolute = (
            4.0 * (x.shape[1] + 4) * UNIT64,
            torch.full((len(x), 1), 2.0**-480, dtype=torch.float64, device="cpu"),
        )
        most, sound = FAR, torch.ones_like(counts, dtype=torch.bool)
    else:
        value, error = metric.at_once(as_float64(x), as_float64(ctrs), plan.crew.chunk)
        relative, absolute, most, sound = 0.0, 2.0 * error, torch.inf, torch.isfinite(value).all(dim=1)
    nearest = value.masked_fill_(~allowed, torch.inf).topk(few, dim=1, largest=False)
    near, far = nearest.values[:, :k], nearest.values[:, 1:]
    ahead = near[:, : far.shape[1]]
    gaps = (far > ahead + ahead.abs() * relative + absolute) & (ahead < most)
    clear = (gaps | beyond[:, : far.shape[1]]).all(dim=1) & sound
    return nearest.indices[:, :k].masked_fill(beyond, -1).T, clear
